"""Exported files of small models."""

from litert_files import exported, inputs, models  # noqa: F401  # fixtures
