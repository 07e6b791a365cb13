"""The small models, for the tests of what tfopt knows of tf_keras."""

from small_models import cnn, dense, images, labels, rows, seeded, train  # noqa: F401  # fixtures
