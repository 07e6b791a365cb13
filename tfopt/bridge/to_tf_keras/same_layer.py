"""The rule for Keras 3 layers that tf_keras has too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfopt.bridge.keras3 import keras as keras3
from tfopt.bridge.serialization import short
from tfopt.bridge.to_tf_keras.effective_weights import effective_weights
from tfopt.bridge.to_tf_keras.layer_config import NoTwin, policy_name, twin_settings
from tfopt.bridge.to_tf_keras.twin import Names, Twin
from tfopt.bridge.to_tf_keras.weight_mapping import links_of
from tfopt.keras2.core import Layer
from tfopt.keras2.core import keras as keras2

_L3, _L2 = keras3.layers, keras2.layers

# Layers of one name whose results differ, found by the sweep in benchmarks/bridge_coverage.py.
_OTHER_MATHS = frozenset({"RandomCrop"})


def native(layer: Any, names: Names) -> Twin:
    """Return the tf_keras layer of the same class and settings.

    Args:
        layer: A built layer of Keras' own.
        names: The names in use.

    Returns:
        A twin with all weights linked.

    Raises:
        NoTwin: If tf_keras has no such class, or no such setting.
    """
    twin = twin_layer(layer)
    twin._name = names.take(layer.name)
    held, note = effective_weights(layer)
    return Twin(call=twin, how="native", links=lambda: links_of(layer, held, twin), note=note)


def twin_layer(layer: Any) -> Layer:
    """Return an unbuilt tf_keras layer of the same class and settings.

    Args:
        layer: A layer of Keras' own.

    Raises:
        NoTwin: If tf_keras has no such class, or no such setting.
    """
    kind = type(layer)
    name = kind.__name__
    if not kind.__module__.startswith("keras.src.layers."):
        raise NoTwin(f"{name} is not one of Keras' own layers")
    twin_class = getattr(_L2, name, None)
    if twin_class is None or name in _OTHER_MATHS:
        raise NoTwin(f"tf_keras has no {name} that computes the same")
    try:
        made = _SPECIAL.get(name, _from_config)(layer, twin_class)
    except (TypeError, ValueError, KeyError) as error:
        raise NoTwin(f"the tf_keras layer refuses the settings: {short(error)}") from error
    if not layer.trainable:
        made.trainable = False  # setting True would thaw the layers inside a wrapper
    return made


def _from_config(layer: Any, twin_class: type) -> Layer:
    return twin_class.from_config(twin_settings(layer, twin_class))  # type: ignore[attr-defined]  # a Layer


def _multi_head_attention(layer: Any, twin_class: type) -> Layer:
    # from_config() of tf_keras wants the shapes of the first call.
    return twin_class(**twin_settings(layer, twin_class))


def _batch_normalization(layer: Any, twin_class: type) -> Layer:
    twin = _from_config(layer, twin_class)
    # The fused kernel multiplies the variance by N/(N-1) in training; Keras 3 does not.
    twin.fused = False
    return twin


def reads_batches(layer: Any) -> bool:
    """Return whether a layer computes statistics of a batch when it is trained.

    Keras 3's TimeDistributed shows it one time step after the other, that of tf_keras all of
    them as one batch: the weights after one training step differ.

    Args:
        layer: A Keras 3 layer or model.
    """
    return any(
        isinstance(part, _L3.BatchNormalization) and part.trainable
        for part in layer._flatten_layers()
    )


def _around_one(layer: Any, twin_class: type) -> Layer:
    if reads_batches(layer.layer):
        raise NoTwin("batch normalization sees each time step by itself in Keras 3")
    return twin_class(
        twin_layer(layer.layer), name=layer.name, dtype=policy_name(layer.dtype_policy)
    )


def _spectral_normalization(layer: Any, twin_class: type) -> Layer:
    # tf_keras/src/layers/normalization/spectral_normalization.py: build() makes an InputSpec of
    # tf.keras, which is Keras 3 unless the process has chosen otherwise, and then refuses it.
    del layer, twin_class
    raise NoTwin("SpectralNormalization of tf_keras works only where tf.keras is tf_keras")


def _bidirectional(layer: Any, twin_class: type) -> Layer:
    forward, backward = twin_layer(layer.forward_layer), twin_layer(layer.backward_layer)
    for one, side in ((forward, "forward_"), (backward, "backward_")):
        one._name = one.name.removeprefix(side)  # tf_keras puts it in front again
    return twin_class(
        forward,
        merge_mode=layer.merge_mode,
        backward_layer=backward,
        name=layer.name,
        dtype=policy_name(layer.dtype_policy),
    )


def _rnn(layer: Any, twin_class: type) -> Layer:
    settings = {
        key: getattr(layer, key)
        for key in ("return_sequences", "return_state", "go_backwards", "stateful", "unroll")
    }
    if layer.zero_output_for_mask:
        settings["zero_output_for_mask"] = True
    return twin_class(twin_layer(layer.cell), name=layer.name, **settings)


def _stacked_cells(layer: Any, twin_class: type) -> Layer:
    return twin_class([twin_layer(cell) for cell in layer.cells], name=layer.name)


def _normalization(layer: Any, twin_class: type) -> Layer:
    if layer.mean is None:
        raise NoTwin("its mean and variance are not known yet")
    shape = [np.asarray(layer.mean).shape[axis] for axis in layer._keep_axis]
    return twin_class(
        axis=layer.axis or None,
        mean=np.asarray(layer.mean).reshape(shape),
        variance=np.asarray(layer.variance).reshape(shape),
        invert=layer.invert,
        name=layer.name,
        dtype=policy_name(layer.dtype_policy),
    )


def _lambda(layer: Any, twin_class: type) -> Layer:
    return twin_class(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=layer.arguments,
        name=layer.name,
        dtype=policy_name(layer.dtype_policy),
    )


def _discretization(layer: Any, twin_class: type) -> Layer:
    # Once the boundaries are known, adapted or given, tf_keras takes no number of bins.
    config = twin_settings(layer, twin_class, without={"num_bins"})
    boundaries = [float(one) for one in layer.bin_boundaries]
    return twin_class.from_config({**config, "bin_boundaries": boundaries})  # type: ignore[attr-defined]  # a Layer


def _lookup(layer: Any, twin_class: type) -> Layer:
    table = getattr(layer, "_lookup_layer", layer)  # TextVectorization has one inside
    without = {"vocabulary_size", "idf_weights"}
    if layer.__class__.__name__ == "TextVectorization" or table.output_mode == "int":
        without.add("dtype")  # tf_keras takes only the one of the output here
    settings = {
        **twin_settings(layer, twin_class, without=without),
        "vocabulary": [
            str(term) if isinstance(term, str) else int(term)
            for term in layer.get_vocabulary(include_special_tokens=False)
        ],
    }
    if table.output_mode != "tf_idf":
        return twin_class.from_config(settings)  # type: ignore[attr-defined]  # a Layer
    # tf_keras keeps document frequencies as a weight of unknown length, Keras 3 as a constant;
    # in both they multiply the counts.
    counts = twin_class.from_config(  # type: ignore[attr-defined]  # a Layer
        {**settings, "output_mode": "count", "name": f"{layer.name}_counts"}
    )
    frequencies = [float(one) for one in table.idf_weights.numpy()]
    scaled = keras2.layers.Rescaling(frequencies, name=f"{layer.name}_idf")
    return keras2.Sequential([counts, scaled], name=layer.name)


_SPECIAL: Mapping[str, Callable[[Any, type], Layer]] = {
    "BatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "Discretization": _discretization,
    "IntegerLookup": _lookup,
    "Lambda": _lambda,
    "MultiHeadAttention": _multi_head_attention,
    "Normalization": _normalization,
    "RNN": _rnn,
    "SpectralNormalization": _spectral_normalization,
    "StackedRNNCells": _stacked_cells,
    "StringLookup": _lookup,
    "TextVectorization": _lookup,
    "TimeDistributed": _around_one,
}
