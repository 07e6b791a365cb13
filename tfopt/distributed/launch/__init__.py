"""Start the processes of a job, and report how they ended."""
