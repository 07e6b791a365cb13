"""Preprocessing as plain layers inside the model, so that the exported file has it too.

Each layer becomes built-in LiteRT operators and loads without code of tfopt's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfopt.config.schema import Preprocess
from tfopt.errors import ModelError
from tfopt.keras2.core import Model, keras
from tfopt.models.shapes import image_shape

PREFIX = "preprocess_"
"""Names of the layers start so; steps leave them alone."""

# Luma of ITU-R BT.601-7, section 2.5.1, for red, green and blue.
_LUMA = (0.299, 0.587, 0.114)


def preprocessed_shape(settings: Preprocess, input_shape: Any) -> tuple[int, ...]:
    """Return the shape of an example after preprocessing.

    Args:
        settings: What is done.
        input_shape: Shape of one example before.

    Returns:
        Height, width and channels; or the shape itself if values are only scaled.

    Raises:
        ModelError: If the settings do not fit the shape.
    """
    _check_scaling(settings)
    if not (settings.grey or settings.crop or settings.resize):
        if isinstance(input_shape, dict) or any(isinstance(side, tuple) for side in input_shape):
            raise ModelError("model.preprocess needs a single input, and the data has several.")
        shape = tuple(input_shape)
    else:
        height, width, channels = image_shape(
            input_shape, builder="model.preprocess", smallest=settings.crop or (1, 1)
        )
        if settings.grey and channels != 3:
            raise ModelError(
                f"model.preprocess.grey needs 3 colour channels. The images have {channels}."
            )
        shape = (*(settings.resize or settings.crop or (height, width)), channels)
        shape = (*shape[:2], 1) if settings.grey else shape
    for name in ("mean", "std"):
        value = getattr(settings, name)
        if isinstance(value, tuple) and len(value) != (shape[-1] if shape else 0):
            raise ModelError(
                f"model.preprocess.{name} has {len(value)} values, and the last axis of "
                f"{shape} has {shape[-1] if shape else 0}. Give one number, or one a channel."
            )
    return shape


def with_preprocessing(model: Model, settings: Preprocess, input_shape: Any) -> Model:
    """Return a flat model that preprocesses its input and then does what ``model`` does.

    The layers come in the order grey, crop, resize, scale; their names start with
    ``preprocess_``. Weights are copied, and ``model`` is left as it was.

    Args:
        model: A built model with a single input.
        settings: What to do.
        input_shape: Shape of one example as the data gives it.

    Returns:
        A new Functional model.

    Raises:
        ModelError: If the settings do not fit the data or the model.
    """
    if len(model.inputs) != 1:
        raise ModelError(
            f"model.preprocess needs a model with one input. {model.name!r} has "
            f"{len(model.inputs)}."
        )
    shape = preprocessed_shape(settings, input_shape)
    wanted = tuple(model.inputs[0].shape[1:])
    if len(wanted) != len(shape) or any(
        side is not None and side != given for side, given in zip(wanted, shape, strict=True)
    ):
        raise ModelError(
            f"After model.preprocess an example has shape {shape}, but {model.name!r} takes "
            f"{wanted}. Set model.preprocess.resize or crop to the model's size."
        )
    inputs = keras.Input(input_shape, name=model.input_names[0])
    x = _layers(inputs, settings)
    # Functional.call on a symbolic tensor applies each layer, so the result is not nested:
    # tfmot's steps and the export see every layer.
    joined = keras.Model(inputs, model.call(x), name=model.name)
    flat = keras.models.clone_model(joined)
    flat.set_weights(joined.get_weights())
    return flat


def _layers(inputs: Any, settings: Preprocess) -> Any:
    x = inputs
    if settings.grey:
        grey = keras.layers.Conv2D(
            1, 1, use_bias=False, trainable=False, name=f"{PREFIX}grey", dtype="float32"
        )
        x = grey(x)
        grey.set_weights([np.array(_LUMA, np.float32).reshape(1, 1, 3, 1)])
    if settings.crop:
        x = _centre_crop(x, settings.crop)
    if settings.resize:
        x = keras.layers.Resizing(*settings.resize, name=f"{PREFIX}resize", dtype="float32")(x)
    scale, offset = _scale_and_offset(settings)
    if scale is not None:
        x = keras.layers.Rescaling(scale, offset, name=f"{PREFIX}scale", dtype="float32")(x)
    return x


def _centre_crop(x: Any, crop: tuple[int, int]) -> Any:
    """Return the middle of the images.

    ``CenterCrop`` decides at run time whether to enlarge small images instead, which
    brings control flow into the exported file; Cropping2D is a plain slice.
    """
    margins = []
    for side, kept in zip(x.shape[1:3], crop, strict=True):
        before = (side - kept) // 2
        margins.append((before, side - kept - before))
    return keras.layers.Cropping2D(tuple(margins), name=f"{PREFIX}crop", dtype="float32")(x)


def _scale_and_offset(settings: Preprocess) -> tuple[Any, Any]:
    """Return ``a`` and ``b`` of ``(x * scale - mean) / std == x * a + b``, or None, None."""
    if settings.scale is None and settings.mean is None and settings.std is None:
        return None, None
    scale = 1.0 if settings.scale is None else settings.scale
    mean = np.asarray(0.0 if settings.mean is None else settings.mean, np.float64)
    std = np.asarray(1.0 if settings.std is None else settings.std, np.float64)
    return (scale / std).tolist(), (-mean / std).tolist()


def _check_scaling(settings: Preprocess) -> None:
    for name in ("crop", "resize"):
        size = getattr(settings, name)
        if size is not None and min(size) < 1:
            raise ModelError(f"model.preprocess.{name} must be at least 1 x 1. Received: {size}.")
    std = np.asarray(1.0 if settings.std is None else settings.std)
    if std.size == 0 or np.any(std <= 0):
        raise ModelError(f"model.preprocess.std must be positive. Received: {settings.std}.")
    if settings.scale == 0:
        raise ModelError("model.preprocess.scale is 0, which would erase the input.")
