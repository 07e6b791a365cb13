"""Networks that a recipe can name."""
