"""Say the settings of a Keras 3 layer in the words of tf_keras."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tfopt.bridge.keras3 import keras as keras3
from tfopt.keras2.core import keras as keras2


class NoTwin(Exception):  # it is a signal to take the fallback, not an error
    """A layer has a setting that tf_keras cannot say; the message names it."""


def _as_activation(name: str) -> Callable[[Any], Any]:
    """Return the Keras 3 function under a name of its own.

    ``hard_sigmoid`` means another function in each Keras, so a bare name would be read as
    the wrong one when the model is loaded.
    """

    def activation(x: Any) -> Any:
        return getattr(keras3.activations, name)(x)

    activation.__name__ = activation.__qualname__ = f"keras3_{name}"
    return activation


_SAME_ACTIVATIONS = frozenset(
    {
        *("elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "softmax"),
        *("softplus", "softsign", "tanh"),
    }
)
_RENAMED_ACTIVATIONS = {"silu": "swish", "swish": "swish"}
_ACTIVATIONS = {
    name: _as_activation(name)
    for name in (
        *("celu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
        *("log_sigmoid", "log_softmax", "relu6", "soft_shrink", "sparse_plus", "sparse_sigmoid"),
        *("sparsemax", "squareplus", "tanh_shrink"),
    )
}
_ACTIVATIONS["hard_swish"] = _ACTIVATIONS["hard_silu"]

OBJECTS: Mapping[str, Any] = {function.__name__: function for function in _ACTIVATIONS.values()}

# Keras 3 settings that change nothing here, whatever they are: seeds of one process,
# merged adapters, and how a kernel is run rather than what it computes.
_WITHOUT_EFFECT = frozenset(
    {
        *("lora_rank", "lora_alpha", "quantization_config", "gptq_unpacked_column_size"),
        *("use_cudnn", "flash_attention", "seed", "autocast", "weights"),
    }
)
# Settings that tf_keras lacks, and the value at which Keras 3 does what tf_keras does.
_AT_DEFAULT: Mapping[str, Any] = {
    "activity_regularizer": None,
    "antialias": False,
    "fill_mode": "constant",
    "fill_value": 0.0,
    "keepdims": False,
    "pad_to_aspect_ratio": False,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "rms_scaling": False,
    "sliding_window": None,
    "use_gate": False,
    "zero_output_for_mask": False,
    "oov_method": "floormod",
    "salt": None,
    "input_axes": None,
    "optional": False,
    "value_range": (0, 255),
}


def twin_settings(layer: Any, twin_class: type, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the config of the tf_keras twin of a Keras 3 layer.

    Args:
        layer: A Keras 3 layer.
        twin_class: The tf_keras class of the same meaning.
        without: Settings that the caller says itself.

    Returns:
        Arguments for ``twin_class.from_config``, with the name of ``layer``.

    Raises:
        NoTwin: If a setting has no equal in tf_keras.
    """
    known = _constructor_arguments(twin_class)
    config: dict[str, Any] = {}
    for key, value in layer.get_config().items():
        if key in without:
            continue
        if key == "negative_slope" and key not in known and "alpha" in known:
            config["alpha"] = value
        elif key in known:
            config[key] = _translated(key, value, layer)
        elif key not in _WITHOUT_EFFECT and not _is_default(key, value, layer):
            raise NoTwin(f"tf_keras has no {key}={value!r}")
    return config


def activation_twin(activation: Any) -> Any:
    """Return the tf_keras activation, a name or a function, of a Keras 3 activation.

    Args:
        activation: A serialized Keras 3 activation, or the function.

    Raises:
        NoTwin: If it is the user's own, or a layer.
    """
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", None)
    own = getattr(keras3.activations, name, None) if name else None
    if own is None or (callable(activation) and activation is not own):
        raise NoTwin(f"the activation {activation!r} is not one of Keras' own")
    if name in _SAME_ACTIVATIONS:
        return name
    if name in _RENAMED_ACTIVATIONS:
        return _RENAMED_ACTIVATIONS[name]
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    raise NoTwin(f"the activation {name!r} has no twin")


def policy_name(policy: Any) -> str:
    """Return the name of a dtype policy in tf_keras.

    Args:
        policy: A Keras 3 policy, or its serialized form.

    Returns:
        Such as ``mixed_float16``; of a quantized policy, the one it was made from, since
        its integers are turned back into floats.

    Raises:
        NoTwin: If it is a map of policies.
    """
    if isinstance(policy, dict):
        policy = policy.get("config", {}).get("source_name") or policy.get("config", {}).get("name")
    name = str(getattr(policy, "name", policy))
    if "_from_" in name:
        name = name.rpartition("_from_")[2]
    if name not in {"mixed_float16", "mixed_bfloat16"}:
        try:
            keras2.backend.floatx() if name == "None" else keras2.mixed_precision.Policy(name)
        except (ValueError, TypeError) as error:
            raise NoTwin(f"tf_keras has no dtype policy {name!r}") from error
    return name


def _constructor_arguments(layer_class: type) -> frozenset[str]:
    """Return the names of all arguments that a tf_keras layer class takes."""
    names = {"name", "trainable", "dtype"}
    for base in layer_class.__mro__:
        if "__init__" in vars(base) and base is not object:
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            names |= {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
    if issubclass(layer_class, keras2.layers.RNN):
        names.add("zero_output_for_mask")  # taken out of **kwargs
    return frozenset(names - {"self", "args", "kwargs"})


def _is_default(key: str, value: Any, layer: Any) -> bool:
    if key == "data_format":
        return value in (None, "channels_last")
    if key in ("name", "trainable", "dtype"):
        return True
    if key not in _AT_DEFAULT:
        return value is None
    wanted = _AT_DEFAULT[key]
    if isinstance(wanted, tuple):
        # Only the brightness and contrast layers read the range; see native.py.
        return tuple(value) == wanted
    return bool(value == wanted) or value is None


def _translated(key: str, value: Any, layer: Any) -> Any:
    if key == "dtype":
        return policy_name(value)
    if key == "activation" or key.endswith("_activation"):
        live = getattr(layer, key, None)
        if value is None or not (isinstance(value, str) or callable(live)):
            return value
        return activation_twin(value if isinstance(value, str) else live)
    if key.endswith("_initializer"):
        return _initializer(value)
    if key.endswith(("_regularizer", "_constraint")):
        return _penalty(key, value)
    if isinstance(value, dict) and "class_name" in value:
        raise NoTwin(f"the setting {key} is an object of class {value['class_name']!r}")
    return value


def _initializer(value: Any) -> Any:
    """Return an initializer; one that tf_keras lacks matters no more, the weights are copied."""
    if not isinstance(value, dict):
        return value
    config = {k: v for k, v in value.get("config", {}).items() if k != "seed"}
    try:
        found = keras2.initializers.deserialize(
            {"class_name": value["class_name"], "config": config}
        )
    except (ValueError, TypeError):
        return "zeros"
    return keras2.initializers.serialize(found)


def _penalty(key: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind = keras2.regularizers if key.endswith("_regularizer") else keras2.constraints
    plain = {"class_name": value.get("class_name"), "config": value.get("config")}
    if value.get("registered_name") or not hasattr(kind, str(plain["class_name"])):
        raise NoTwin(f"the setting {key} is {plain['class_name']!r}, which is not Keras' own")
    return kind.serialize(kind.deserialize(plain))
