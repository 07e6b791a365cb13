"""The Keras 3 layer of the same class and settings as a tf_keras layer."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.serialization import from_config
from tfopt.bridge.to_tf_keras import layer_config
from tfopt.bridge.to_tf_keras.wrapped_layer import Keras3Layer
from tfopt.errors import ModelError
from tfopt.keras2.core import Layer
from tfopt.keras2.core import keras as keras2

_ANY = object()

Convert = Callable[[Layer], Any]
"""Given a layer inside another one, return its Keras 3 layer."""

# Settings that Keras 3 lacks, and the value at which tf_keras does what Keras 3 does.
_DROPPED: Mapping[str, Any] = {
    "batch_input_shape": _ANY,
    "groups": 1,
    "has_input_vocabulary": _ANY,
    "implementation": _ANY,
    "input_length": _ANY,
    "is_adapted": _ANY,
    "key_shape": _ANY,
    "noise_shape": None,
    "query_shape": _ANY,
    "sparse": False,
    "time_major": False,
    "value_shape": _ANY,
    "vocabulary_size": _ANY,
    # Only a row whose every entry is masked tells the two ways apart.
    "robust_masking": _ANY,
    "softmax_robust_masking": _ANY,
    "rng_type": _ANY,
}
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
# Depthwise layers inherit from the plain convolution, and its kernel is not used.
_UNUSED = {
    name: frozenset({"kernel_initializer", "kernel_regularizer", "kernel_constraint", "groups"})
    for name in ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")
}
_ACTIVATIONS = ("activation", "recurrent_activation")
_WRAPPED = frozenset(
    {
        *("QuantizeWrapperV2", "QuantizeWrapper", "QuantizeLayer", "QuantizeAnnotate"),
        *("PruneLowMagnitude", "ClusterWeights"),
    }
)


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Two layers of one meaning, one inside each layer of a pair.

    Attributes:
        source: The tf_keras layer inside.
        target: The Keras 3 layer inside.
    """

    source: Layer
    target: Any


def layer_for(layer: Layer, name: str, convert: Convert) -> Any:
    """Return the unbuilt Keras 3 layer that computes what a tf_keras layer computes.

    Args:
        layer: A built tf_keras layer of tf_keras' own.
        name: Name of the new layer.
        convert: Called for each layer inside, such as the one of a ``TimeDistributed``.

    Raises:
        ModelError: If Keras 3 has no such layer or setting.
    """
    if isinstance(layer, Keras3Layer):
        made = from_config(layer.get_config()["keras3_layer"], f"Layer {layer.name!r}")
        made.name = name
        return made
    target_class = _target_class(layer)
    special = _SPECIAL.get(type(layer).__name__, _same_class)
    try:
        made = special(layer, target_class, convert)
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise ModelError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be built in Keras 3: "
            f"{one_line(error)} Replace it, or keep the model in tf_keras."
        ) from error
    made.name = name
    return made


def parts_of(source: Layer, target: Any) -> list[LayerPair]:
    """Return the layers inside a pair of layers, under equal attribute names."""
    if isinstance(source, keras2.layers.StackedRNNCells):
        return [LayerPair(*both) for both in zip(source.cells, target.cells, strict=True)]
    names = [
        name
        for name in _INSIDE
        # The one layer that Keras 2 made both directions from is never built.
        if isinstance(getattr(source, name, None), keras2.layers.Layer) and hasattr(target, name)
    ]
    return [LayerPair(getattr(source, name), getattr(target, name)) for name in names]


_INSIDE = (
    *("layer", "forward_layer", "backward_layer", "cell"),
    *("_query_dense", "_key_dense", "_value_dense", "_output_dense"),
)


def _target_class(layer: Layer) -> Any:
    """Return the Keras 3 class of the same name.

    Raises:
        ModelError: If there is none, or the class is not tf_keras' own.
    """
    kind = type(layer)
    if kind.__name__ in _WRAPPED:
        raise ModelError(
            f"Layer {layer.name!r} is a {kind.__name__} of tfmot, which Keras 3 does not have. "
            "Finish the step first: strip pruning or clustering, remove the ranges of "
            "quantization-aware training."
        )
    own = kind.__module__.startswith("tf_keras.")
    found = _OTHER_CLASS.get(kind.__name__) or getattr(keras3.layers, kind.__name__, None)
    if own and found is not None and kind.__name__ != "RandomCrop":
        return found
    reason = "is not one of tf_keras' own layers" if not own else "has no equal in Keras 3"
    raise ModelError(
        f"Layer {layer.name!r} cannot be rebuilt in Keras 3: {kind.__name__} {reason}. Replace it "
        "by built-in layers, or keep the model in tf_keras."
    )


_OTHER_CLASS = {"ThresholdedReLU": keras3.layers.ReLU}


def _same_class(layer: Layer, target_class: Any, convert: Convert) -> Any:
    return target_class(**_settings(layer, target_class, convert))


def _settings(layer: Layer, target_class: Any, convert: Convert) -> dict[str, Any]:
    """Return constructor arguments.

    Raises:
        ModelError: Naming a setting that Keras 3 lacks.
    """
    known = _constructor_arguments(target_class)
    kind = type(layer).__name__
    found: dict[str, Any] = {"dtype": policy_of(layer)}
    for key, value in layer.get_config().items():
        renamed = _RENAMED.get(kind, {}).get(key, key)
        if key in ("name", "dtype", "trainable") or key in _UNUSED.get(kind, ()):
            continue
        if key in _ACTIVATIONS:
            found[key] = _activation(getattr(layer, key), value, layer, convert)
        elif renamed in known:
            found[renamed] = _translated(value, layer, key)
        elif key not in _DROPPED or (_DROPPED[key] is not _ANY and value != _DROPPED[key]):
            raise ModelError(
                f"Layer {layer.name!r} ({kind}) has {key}={value!r}, which Keras 3 cannot say. "
                "Change that setting, or keep the model in tf_keras."
            )
    return found


def policy_of(layer: Layer) -> str | None:
    """Return the name of a layer's dtype policy; None if it never had one."""
    name = layer.dtype_policy.name
    return None if name == "_infer" else name


def _constructor_arguments(kind: type) -> frozenset[str]:
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]  # of a class
        names |= {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return frozenset(names - {"self"})


def _translated(value: Any, layer: Layer, key: str) -> Any:
    """Return a setting as plain Python, and check that objects in it are Keras' own.

    Raises:
        ModelError: If it is an object of a class that Keras 3 does not have.
    """
    if isinstance(value, dict) and {"class_name", "config"} <= set(value):
        return _object(value, layer, key)
    if isinstance(value, (list, tuple)):  # tf_keras tracks the lists that a layer holds
        entries = [_translated(entry, layer, key) for entry in value]
        return tuple(entries) if isinstance(value, tuple) else entries
    if isinstance(value, np.generic):
        return value.item()
    return value


def _object(config: Mapping[str, Any], layer: Layer, key: str) -> Any:
    """Return an initializer, regularizer or constraint of Keras 3."""
    name = str(config["class_name"])
    # An initializer may not matter any more, but it is a part of the architecture.
    for module in (keras3.initializers, keras3.regularizers, keras3.constraints):
        found = getattr(module, name, None)
        if found is not None and not config.get("registered_name"):
            return found(**config["config"])
    if key.endswith("_initializer"):
        return "zeros"  # the user's own; the weights that it made are copied
    raise ModelError(
        f"Layer {layer.name!r} has {key}={name!r}, which Keras 3 does not have. Use a built-in "
        "one, or None if the model is trained."
    )


def _activation(function: Any, config: Any, layer: Layer, convert: Convert) -> Any:
    """Return the Keras 3 activation, a name or an object, of a tf_keras one."""
    del config
    if function is None:
        return None
    if isinstance(function, keras2.layers.Layer):
        if function.weights:
            raise ModelError(
                f"Layer {layer.name!r} has the layer {function.name!r} as its activation, and "
                "Keras 3 does not build the weights of one. Put it behind the layer."
            )
        return convert(function)
    if function is keras2.activations.hard_sigmoid:
        return _keras2_hard_sigmoid(policy_of(layer))
    name = str(getattr(function, "__name__", ""))
    if layer_config.OBJECTS.get(name) is function:
        return name.removeprefix("keras3_")
    own = getattr(keras2.activations, name, None) is function
    from_tensorflow = str(getattr(function, "__module__", "")).startswith("tensorflow.")
    name = {"softmax_v2": "softmax", "swish": "silu"}.get(name, name)
    if (own or from_tensorflow) and hasattr(keras3.activations, name):
        return name
    if isinstance(function, types.FunctionType) and not from_tensorflow:
        return function  # the user's own, which Keras 3 runs on TensorFlow tensors
    raise ModelError(
        f"Layer {layer.name!r} has the activation {name!r}, which Keras 3 does not have. Use a "
        "built-in one."
    )


def _keras2_hard_sigmoid(policy: str | None) -> Any:
    """Return ``clip(0.2 x + 0.5, 0, 1)`` in layers: Keras 3's own is ``relu6(x + 3) / 6``."""
    return keras3.Sequential(
        [
            keras3.layers.Rescaling(0.2, offset=0.5, dtype=policy),
            keras3.layers.ReLU(max_value=1.0, dtype=policy),
        ],
        name="keras2_hard_sigmoid",
    )


def _lambda(layer: Layer, target_class: Any, convert: Convert) -> Any:
    del convert
    # In Keras 3 the shape is without the batch axis too, and None means it is found out.
    return target_class(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=dict(layer.arguments),
        dtype=policy_of(layer),
    )


def _batch_normalization(layer: Layer, target_class: Any, convert: Convert) -> Any:
    found = _settings(layer, target_class, convert)
    axes = list(layer.axis) if isinstance(layer.axis, Sequence) else [layer.axis]
    if len(axes) != 1:
        raise ModelError(
            f"Layer {layer.name!r} normalizes over {axes}, and Keras 3 takes one axis. Use one "
            "axis, or keep the model in tf_keras."
        )
    return target_class(**{**found, "axis": int(axes[0])})


def _with_inner_layer(layer: Layer, target_class: Any, convert: Convert) -> Any:
    found = {"dtype": policy_of(layer)} if policy_of(layer) else {}
    if type(layer).__name__ == "SpectralNormalization":
        found["power_iterations"] = layer.power_iterations
    return target_class(convert(layer.layer), **found)


def _bidirectional(layer: Layer, target_class: Any, convert: Convert) -> Any:
    # Keras 3 copies both and puts "forward_" and "backward_" before their names again.
    forward = convert(layer.forward_layer)
    forward.name = forward.name.removeprefix("forward_")
    backward = None
    if "backward_layer" in layer.get_config():  # the user's own, not the mirror image
        backward = convert(layer.backward_layer)
        backward.name = backward.name.removeprefix("backward_")
    return target_class(
        forward, merge_mode=layer.merge_mode, backward_layer=backward, dtype=policy_of(layer)
    )


def _rnn(layer: Layer, target_class: Any, convert: Convert) -> Any:
    found = {
        key: value
        for key, value in layer.get_config().items()
        if key in ("return_sequences", "return_state", "go_backwards", "stateful", "unroll")
    }
    if layer.time_major:
        raise ModelError(
            f"Layer {layer.name!r} has time_major=True, which Keras 3 cannot say. Put the batch "
            "axis first."
        )
    found["zero_output_for_mask"] = layer.zero_output_for_mask
    return target_class(convert(layer.cell), dtype=policy_of(layer), **found)


def _stacked_cells(layer: Layer, target_class: Any, convert: Convert) -> Any:
    return target_class([convert(cell) for cell in layer.cells], dtype=policy_of(layer))


def _vocabulary(layer: Layer, target_class: Any, convert: Convert) -> Any:
    found = _settings(layer, target_class, convert)
    mode = found.get("output_mode")
    if layer.vocabulary_size():
        found["vocabulary"] = list(layer.get_vocabulary(include_special_tokens=False))
        if mode == "tf_idf":
            found["idf_weights"] = _idf_weights(layer)
    return target_class(**found)


def _idf_weights(layer: Layer) -> list[float]:
    """Return the weights of the vocabulary, without those of the special tokens."""
    lookup = getattr(layer, "_lookup_layer", layer)
    weights = np.asarray(lookup.idf_weights if lookup.idf_weights is not None else [])
    special = lookup.vocabulary_size() - len(lookup.get_vocabulary(include_special_tokens=False))
    return [float(one) for one in weights[special:]]


def _text_vectorization(layer: Layer, target_class: Any, convert: Convert) -> Any:
    del convert
    config = layer.get_config()
    for key in ("standardize", "split"):
        if callable(getattr(layer, f"_{key}", None)):
            raise ModelError(
                f"Layer {layer.name!r} has a function as {key}, which Keras 3 would not save. Use "
                "one of the built-in ways."
            )
    known = _constructor_arguments(target_class) - {"dtype", "name", "trainable"}
    found = {key: value for key, value in config.items() if key in known and value is not None}
    # None means something of its own for these two.
    found.update({key: config[key] for key in ("standardize", "split")})
    if layer.vocabulary_size():
        found["vocabulary"] = list(layer.get_vocabulary(include_special_tokens=False))
        if config["output_mode"] == "tf_idf":
            found["idf_weights"] = _idf_weights(layer)
    return target_class(**found)


def _discretization(layer: Layer, target_class: Any, convert: Convert) -> Any:
    found = _settings(layer, target_class, convert)
    boundaries = [float(one) for one in layer.bin_boundaries or ()]
    if boundaries:
        found.update(bin_boundaries=boundaries, num_bins=None)
    return target_class(**found)


def _normalization(layer: Layer, target_class: Any, convert: Convert) -> Any:
    found = _settings(layer, target_class, convert)
    if layer.input_mean is not None:
        # Keras 3 wants both in one shape.
        mean, variance = np.broadcast_arrays(layer.input_mean, layer.input_variance)
        found.update(mean=mean.tolist(), variance=variance.tolist())
    return target_class(**found)


def _thresholded_relu(layer: Layer, target_class: Any, convert: Convert) -> Any:
    del convert
    return target_class(threshold=float(layer.theta), dtype=policy_of(layer))


def one_line(error: Exception) -> str:
    """Return the start of an error text; Keras prints whole configs into it."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."


_SPECIAL: Mapping[str, Callable[[Layer, Any, Convert], Any]] = {
    "BatchNormalization": _batch_normalization,
    "SyncBatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "Discretization": _discretization,
    "IntegerLookup": _vocabulary,
    "Lambda": _lambda,
    "Normalization": _normalization,
    "RNN": _rnn,
    "SpectralNormalization": _with_inner_layer,
    "StackedRNNCells": _stacked_cells,
    "StringLookup": _vocabulary,
    "TextVectorization": _text_vectorization,
    "ThresholdedReLU": _thresholded_relu,
    "TimeDistributed": _with_inner_layer,
}
