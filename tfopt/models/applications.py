"""``keras.applications`` with the user's own file of weights, and without downloads."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]  # it has no types
import numpy as np

from tfopt.config.head import Head
from tfopt.config.schema import Preprocess
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2.core import Model, keras
from tfopt.models.head import with_head
from tfopt.models.preprocess import with_preprocessing
from tfopt.models.shapes import image_shape
from tfopt.registry import did_you_mean

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (123.68, 116.779, 103.939)  # of red, green and blue, in bytes

_MODES: Mapping[str, str] = {
    **dict.fromkeys(("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152"), "caffe"),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), "torch"),
    **dict.fromkeys(
        (
            "InceptionResNetV2",
            "InceptionV3",
            "MobileNet",
            "MobileNetV2",
            "NASNetLarge",
            "NASNetMobile",
            "ResNet50V2",
            "ResNet101V2",
            "ResNet152V2",
            "Xception",
        ),
        "tf",
    ),
    **dict.fromkeys(
        (
            *(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
            *(f"EfficientNetB{number}" for number in range(8)),
            *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
            "MobileNetV3Large",
            "MobileNetV3Small",
        ),
        "inside",
    ),
}
"""How each network's ``preprocess_input`` changes bytes; ``inside``: its first layers do it."""


def keras_application(  # noqa: PLR0913  # keyword-only options, each with its own default
    input_shape: Any,
    classes: int | None,
    *,
    name: str,
    weights: str | None = None,
    largest_value: float = 1.0,
    pooling: str = "average",
    dropout: float = 0.0,
    **settings: Any,
) -> Model:
    """Return a network of ``keras.applications`` with a new head of logits.

    Its ``preprocess_input`` is part of the model. Where that swaps red and blue, the first
    convolution's kernel is swapped instead, which computes the same.

    Args:
        input_shape: Height, width and channels, as the data gives them.
        classes: Number of classes; None for one number (regression).
        name: Such as ``MobileNetV2``.
        weights: A local ``.h5`` file of that network's weights, with or without its top.
            None starts from random weights; nothing is ever downloaded.
        largest_value: Value of a white pixel in the data: 1 (as tfopt's picture sources
            give them) or 255.
        pooling: ``average``, ``max`` or ``none``.
        dropout: Share of the features dropped in training.
        **settings: Of that network, such as ``alpha``.

    Raises:
        InputError: If the name, a setting or ``weights: imagenet`` is refused.
        ModelError: If the shape is not an image's, or the weights are missing or do not fit.
        VerificationError: If the weights of a layer were not in the file.
    """
    if name not in _MODES:
        raise InputError(
            f"keras_application has no {name!r}.{did_you_mean(name, _MODES)} Known: "
            f"{', '.join(sorted(_MODES))}."
        )
    build = getattr(keras.applications, name)
    _require_settings(build, name, settings)
    shape = image_shape(input_shape, builder="keras_application", smallest=(32, 32))
    base = _built(build, include_top=False, input_shape=shape, **settings)
    if weights is not None:
        _load(base, build, weights, settings)
    mode = _MODES[name]
    if mode == "caffe" and shape[-1] == len(_CAFFE_MEAN):
        _swap_colours(base)
    head = Head.model_validate({"pooling": pooling, "dropout": dropout})
    model = with_head(base, head, classes=classes)
    preprocess = _preprocess(mode, largest_value, channels=shape[-1])
    return model if preprocess is None else with_preprocessing(model, preprocess, shape)


def _require_settings(build: Any, name: str, settings: Mapping[str, Any]) -> None:
    own = {"include_top", "weights", "input_tensor", "input_shape", "pooling", "classes"}
    known = [key for key in inspect.signature(build).parameters if key not in own]
    for key in settings:
        if key not in known:
            raise InputError(
                f"keras_application: {name} has no setting {key!r}.{did_you_mean(key, known)} It "
                f"has: {', '.join(known)}."
            )


def _built(build: Any, **settings: Any) -> Model:
    with warnings.catch_warnings():
        # It says that only some sizes have ImageNet weights; none are fetched here.
        warnings.simplefilter("ignore", UserWarning)
        return build(weights=None, **settings)


def _preprocess(mode: str, largest: float, *, channels: int) -> Preprocess | None:
    if mode == "tf":
        return Preprocess(scale=2 / largest, mean=1.0)
    if mode == "torch" and channels == len(_IMAGENET_MEAN):
        return Preprocess(scale=1 / largest, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
    mean = _CAFFE_MEAN if mode == "caffe" and channels == len(_CAFFE_MEAN) else None
    scale = 255 / largest
    return None if scale == 1 and mean is None else Preprocess(scale=scale, mean=mean)


def _swap_colours(base: Model) -> None:
    """Let the first convolution read red, green, blue instead of blue, green, red."""
    kernel = next(layer.kernel for layer in base.layers if hasattr(layer, "kernel"))
    kernel.assign(kernel.numpy()[:, :, ::-1])


def _load(base: Model, build: Any, weights: str, settings: Mapping[str, Any]) -> None:
    path = Path(weights)
    if base.name.startswith("efficientnetb"):
        raise InputError(
            "keras_application: published weights of EfficientNetB0 to B7 need a layer that Keras "
            "adds only while it downloads them (tensorflow issue 49930), so a file gives a "
            "wrong network. Save the whole model as .keras once, and give that as model.path."
        )
    if weights == "imagenet":
        raise InputError(
            "keras_application never downloads, so weights: imagenet is refused. Give the path of "
            "a file that you have, such as one in ~/.keras/models."
        )
    if not path.is_file():
        raise ModelError(f"keras_application: there is no file of weights {weights!r}.")
    before = [variable.numpy() for variable in base.weights]
    try:
        base.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        problem = " ".join(str(error).split())[:300]
        if not _load_with_top(base, build, path, settings):
            raise ModelError(
                f"keras_application: the weights {weights!r} do not fit {base.name}: {problem} "
                "Check that the file is of this network, and settings such as alpha."
            ) from error
    for variable, old in zip(base.weights, before, strict=True):
        if old.ndim > 1 and np.array_equal(variable.numpy(), old):
            raise VerificationError(
                f"keras_application: {weights!r} was loaded, but {variable.name!r} is as it was "
                "initialized. The file does not hold it."
            )


def _load_with_top(base: Model, build: Any, path: Path, settings: Mapping[str, Any]) -> bool:
    """Load a file that has the classifier too; return whether that worked."""
    classes = _classes_in(path)
    if classes is None:
        return False
    whole = _built(build, include_top=True, classes=classes, **settings)
    try:
        whole.load_weights(path)
    except (OSError, ValueError, KeyError):
        return False
    values = whole.get_weights()[: len(base.weights)]
    if [value.shape for value in values] != [tuple(v.shape) for v in base.weights]:
        return False
    base.set_weights(values)
    return True


def _classes_in(path: Path) -> int | None:
    """Return the length of the last bias in a file of weights."""
    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            for layer in reversed([_text(name) for name in group.attrs["layer_names"]]):
                names = [_text(name) for name in group[layer].attrs["weight_names"]]
                if names:
                    return int(group[layer][names[-1]].shape[-1])
    except (OSError, KeyError):
        return None
    return None


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
