"""Small models and their exported files."""

from litert_files import convert_here, exported, inputs, models, trained_ranges  # noqa: F401  # fixtures
