"""Checks on input shapes that several builders share."""

from __future__ import annotations

from typing import Any

from tfopt.errors import ModelError


def image_shape(input_shape: Any, *, builder: str, smallest: tuple[int, int]) -> tuple[int, ...]:
    """Return ``(height, width, channels)`` if the builder can take it.

    Args:
        input_shape: Shape of one example.
        builder: How the message names the builder.
        smallest: Least height and width.

    Returns:
        The shape.

    Raises:
        ModelError: If it is not an image shape, or too small.
    """
    shape = known_shape(input_shape, builder=builder)
    least_height, least_width = smallest
    if len(shape) != 3:
        raise ModelError(
            f"{builder} takes images (height, width, channels). One example has shape {shape}. "
            "Reshape the data, or choose another builder."
        )
    if shape[0] < least_height or shape[1] < least_width:
        raise ModelError(
            f"{builder} takes images of at least {least_height} x {least_width}. One example has "
            f"shape {shape}. Set model.preprocess.resize, or choose another builder."
        )
    return shape


def known_shape(input_shape: Any, *, builder: str) -> tuple[int, ...]:
    """Return a shape without unknown axes, of a model with a single input.

    Args:
        input_shape: Shape of one example.
        builder: How the message names the builder.

    Returns:
        The shape, at least one axis.

    Raises:
        ModelError: If there are several inputs, no axis, or an axis of unknown or zero
            length.
    """
    if isinstance(input_shape, dict) or any(isinstance(side, tuple | list) for side in input_shape):
        raise ModelError(
            f"{builder} has a single input, and the data has several: {input_shape}. Use a builder "
            "of your own: model.builder: 'package.module:function'."
        )
    if not input_shape or any(side is None or side < 1 for side in input_shape):
        raise ModelError(
            f"{builder} needs examples of known shape with at least one axis. Received: "
            f"{tuple(input_shape)}."
        )
    return tuple(int(side) for side in input_shape)


def outputs(classes: int | None, *, builder: str) -> int:
    """Return the width of the last layer: one logit a class, or one number.

    Args:
        classes: Number of classes; None for regression.
        builder: How the message names the builder.

    Returns:
        The width.

    Raises:
        ModelError: If there are fewer than one class.
    """
    if classes is not None and classes < 1:
        raise ModelError(f"{builder} needs at least 1 class. Received: {classes}.")
    return 1 if classes is None else classes
