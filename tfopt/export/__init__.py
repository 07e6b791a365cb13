"""Export a model to a file, and verify the file."""
