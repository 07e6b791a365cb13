"""Where examples come from: built-in sources, files, and arrays the user passes."""
