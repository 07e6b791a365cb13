"""Train one model on many devices and processes, with the result of one."""
