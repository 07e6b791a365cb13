"""Weights divided over devices with DTensor."""
