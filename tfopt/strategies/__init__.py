"""How training is spread over devices and processes."""
