"""Data sources that a recipe can name."""
