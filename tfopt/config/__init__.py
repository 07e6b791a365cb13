"""The recipe: its schema, its tables of components, and how it is read."""
