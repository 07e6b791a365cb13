"""Set the ranges of 8-bit tensors from examples, and judge them after training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.compression.layers.fake_quant import ActivationQuantizer
from tfopt.compression.layers.quantized import RangeLayer
from tfopt.errors import DataError, VerificationError
from tfopt.keras2.core import Model

MAX_RANGE_GAP = 0.5
"""Most of what the data needs that a trained range may cut off, as a share of the need."""

MAX_RANGE_EXCESS = 4.0
"""Most that a trained range may be wider than the data needs, as a share of the need: two of
eight bits are lost. Training with dropout or strong augmentation needs more range than the
calibration examples do, at a dropout rate of 0.5 about 0.4 more. tfmot's ranges start at
+-6 and exceed this after a short training."""


def range_name(layer: str) -> str:
    """Return the name of the range behind a layer's output."""
    return f"{layer}_range"


def layer_of(name: str) -> str:
    """Return the name of the layer in front of a range.

    Example:
        >>> layer_of("conv_range"), layer_of("conv_range_1")
        ('conv', 'conv')
    """
    return re.sub(r"_range(_\d+)?$", "", name)


def observe_ranges(wrapped: Model, batches: Iterable[Any]) -> dict[str, tuple[float, float]]:
    """Return the mean smallest and largest value of a batch at every emulated tensor.

    Args:
        wrapped: A model with activation quantizers, which pass values on unchanged
            while they are observed.
        batches: Batches of inputs, at least one.

    Returns:
        Quantizer layer name to ``(low, high)``, in activation units.

    Raises:
        DataError: If there is no batch, or a value is not finite.
    """
    observed = [layer for layer in wrapped.layers if isinstance(layer, RangeLayer)]
    quantizers: list[ActivationQuantizer] = [layer.quantizer for layer in observed]
    for quantizer in quantizers:
        quantizer.observing, quantizer.seen = True, []
    try:
        count = 0
        for count, inputs in enumerate(batches, start=1):  # noqa: B007  # used below
            wrapped(tf.nest.map_structure(tf.convert_to_tensor, inputs), training=False)
    finally:
        for quantizer in quantizers:
            quantizer.observing = False
    if count == 0:
        raise DataError("quantize: there are no calibration examples; ranges cannot be set.")
    found = {}
    for layer, quantizer in zip(observed, quantizers, strict=True):
        low, high = np.mean(np.asarray(quantizer.seen), axis=0)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(
                f"quantize: the calibration examples give values that are not finite at "
                f"{layer_of(layer.name)!r}."
            )
        found[layer.name] = (float(low), float(high))
    return found


def calibrate(model: Model, batches: Iterable[Any]) -> None:
    """Set every range of a model from examples.

    Raises:
        DataError: If there is no batch, or a value is not finite.
    """
    for name, (low, high) in observe_ranges(model, batches).items():
        state = model.get_layer(name).quantizer_vars
        state["min_var"].assign(min(low, 0.0))
        state["max_var"].assign(max(high, 0.0))


def open_empty_ranges(model: Model) -> None:
    """Give tensors that were always zero a range; any range holds them exactly."""
    for layer in model.layers:
        if isinstance(layer, RangeLayer):
            low, high = (layer.quantizer_vars[name] for name in ("min_var", "max_var"))
            if low.numpy() == high.numpy() == 0:
                high.assign(1.0)


def range_gaps(model: Model, batches: Iterable[Any]) -> dict[str, float]:
    """Return how far each trained range is from what the data needs now.

    Args:
        model: A model that emulates 8-bit arithmetic.
        batches: The examples that the ranges were calibrated with.

    Returns:
        Name of the range to the larger of its distances at both ends, as a share of
        the need.

    Raises:
        VerificationError: If a range was never set or is too far off.
        DataError: If there is no batch, or a value is not finite.
    """
    gaps = {}
    for name, (low, high) in observe_ranges(model, batches).items():
        state = model.get_layer(name).quantizer_vars
        own_low, own_high = float(state["min_var"]), float(state["max_var"])
        low, high = min(low, 0.0), max(high, 0.0)
        if not own_high > own_low:
            raise VerificationError(
                f"quantize: the range of {layer_of(name)!r} was never calibrated (it is "
                f"[{own_low:.3g}, {own_high:.3g}])."
            )
        if high == low:
            gaps[name] = 0.0
            continue
        cut = max(own_low - low, high - own_high) / (high - low)
        excess = max(low - own_low, own_high - high) / (high - low)
        gaps[name] = max(cut, excess)
        if not (cut <= MAX_RANGE_GAP and excess <= MAX_RANGE_EXCESS):
            raise VerificationError(
                f"quantize: the range of {layer_of(name)!r} has not converged: it is "
                f"[{own_low:.3g}, {own_high:.3g}], the data needs [{low:.3g}, {high:.3g}]. Train "
                "more epochs, or with a smaller learning rate; batch normalization that has seen "
                "too few batches does this too."
            )
    return gaps
