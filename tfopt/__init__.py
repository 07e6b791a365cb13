"""tfopt makes Keras models small and fast, and proves it."""

__version__ = "0.1.0"
