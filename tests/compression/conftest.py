"""The small models, for the compression tests."""

from small_models import (  # noqa: F401  # fixtures
    cnn,
    context_for,
    dense,
    images,
    labels,
    residual,
    rows,
    seeded,
    train,
)
