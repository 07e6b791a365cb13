"""Distillation as a recipe has it: students, lessons, and what they achieved."""
