"""Weights that become zero."""
