"""Small models and their exported files."""

from litert_files import exported, inputs, models  # noqa: F401  # fixtures
