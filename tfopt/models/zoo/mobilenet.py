"""MobileNetV2, without downloads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tfopt.errors import ModelError
from tfopt.keras2.core import Model, keras
from tfopt.models.shapes import image_shape, outputs

_SMALLEST_SIDE = 32


def mobilenet_v2(
    input_shape: Any,
    classes: int | None,
    *,
    alpha: float = 1.0,
    weights_path: str | None = None,
    initializer: str | None = None,
) -> Model:
    """Return MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) with a head of logits.

    Args:
        input_shape: Height, width (at least 32) and channels. Weights trained on
            ImageNet expect values in ``[-1, 1]``.
        classes: Number of classes; None for one number (regression).
        alpha: Width multiplier, ``> 0``.
        weights_path: A local ``.h5`` file of weights; weights of the convolutions only
            (``no_top``) leave the head as initialized. None starts from random weights;
            nothing is ever downloaded.
        initializer: Kernel initializer of all layers; None keeps Glorot uniform.

    Returns:
        A Functional model that gives logits.

    Raises:
        ModelError: If the shape is not an image's or too small, ``alpha`` is not
            positive, or the weights are missing or do not fit.
    """
    shape = image_shape(
        input_shape, builder="mobilenet_v2", smallest=(_SMALLEST_SIDE, _SMALLEST_SIDE)
    )
    if not alpha > 0:
        raise ModelError(f"mobilenet_v2 needs alpha > 0. Received: {alpha}.")
    with warnings.catch_warnings():
        # It says that only five sizes have ImageNet weights; none are fetched here.
        warnings.simplefilter("ignore", UserWarning)
        base = keras.applications.MobileNetV2(
            input_tensor=keras.Input(shape, name="image"),
            alpha=alpha,
            include_top=False,
            weights=None,
        )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(base.output)
    x = keras.layers.Dense(outputs(classes, builder="mobilenet_v2"), name="output")(x)
    model = keras.Model(base.input, x, name="mobilenet_v2")
    if initializer is not None:
        model = _reinitialized(model, initializer)
    if weights_path is not None:
        _load_weights(model, weights_path)
    return model


def _reinitialized(model: Model, initializer: str) -> Model:
    """Return the model built anew with another kernel initializer."""

    def changed(layer: Any) -> Any:
        config = layer.get_config()
        for key in ("kernel_initializer", "depthwise_initializer"):
            if key in config:
                config[key] = initializer
        return layer.__class__.from_config(config)

    return keras.models.clone_model(model, clone_function=changed)


def _load_weights(model: Model, weights_path: str) -> None:
    if not Path(weights_path).is_file():
        raise ModelError(f"mobilenet_v2: there is no file of weights {weights_path!r}.")
    without_head = keras.Model(model.input, model.get_layer("out_relu").output)
    problems = []
    for target in (model, without_head):
        try:
            target.load_weights(weights_path)
        except (OSError, ValueError, KeyError) as error:
            problems.append(" ".join(str(error).split())[:300])
        else:
            return
    raise ModelError(
        f"mobilenet_v2: the weights {weights_path!r} do not fit: {problems[0]} Check alpha, "
        "classes and channels."
    )
