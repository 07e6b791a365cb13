"""Quantization-aware training with 8-bit ranges."""
