"""The public functions: a model in, a better model or measured evidence out."""
