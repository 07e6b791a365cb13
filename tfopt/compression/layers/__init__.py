"""Layers that hold masks, fake-quantized weights and ranges while a step trains."""
