"""Conversion to LiteRT (TensorFlow Lite)."""
