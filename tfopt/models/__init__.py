"""Named model builders, and models from files or dotted paths."""
