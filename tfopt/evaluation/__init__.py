"""Measure latency, and describe the machine it was measured on."""
