"""Weights as a layer uses them: adapters merged, integers as floats."""

from __future__ import annotations

from typing import Any

import keras as keras3
import numpy as np
import pytest
from keras import layers as L  # noqa: N812

from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.bridge.to_tf_keras.effective_weights import effective_weights
from tfopt.bridge.to_tf_keras.layer_config import NoTwin

# keras/src/backend/tensorflow/core.py, in Keras 3's own quantize().
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_RNG = np.random.default_rng(0)


def _model(layer: Any, *shape: int, dtype: str = "float32") -> Any:
    model = keras3.Sequential([keras3.Input(shape, dtype=dtype), layer])
    return model


def _cases() -> dict[str, Any]:
    return {
        "dense": _model(L.Dense(5), 4),
        "einsum": _model(L.EinsumDense("abc,cd->abd", (3, 5), bias_axes="d"), 3, 4),
        "embedding": _model(L.Embedding(11, 4), 3, dtype="int32"),
    }


def _moved(layer: Any) -> None:
    """An adapter is nothing at first: half of it is zeros."""
    for weight in layer.weights:
        if "lora" in weight.path:
            weight.assign(_RNG.normal(size=weight.shape))


@pytest.mark.parametrize("name", _cases())
def test_adapter_is_merged(name: str) -> None:
    model = _cases()[name]
    layer = model.layers[-1]
    layer.enable_lora(2)
    _moved(layer)
    twin = to_tf_keras(model)
    evidence = conversion_of(twin)
    assert evidence.relative_error <= 1e-6
    assert "LoRA adapter merged" in " ".join(evidence.notices)
    stored = np.asarray(layer._embeddings if name == "embedding" else layer._kernel)
    assert np.abs(twin.layers[-1].weights[0].numpy() - stored).max() > 0.1


@pytest.mark.parametrize("name", _cases())
def test_integers_become_floats(name: str) -> None:
    model = _cases()[name]
    before = np.asarray(model.layers[-1].weights[0])
    model.layers[-1].quantize("int8")
    twin = to_tf_keras(model)
    found = twin.layers[-1].weights[0].numpy()
    assert found.dtype == np.float32
    # Half a step of 1/127 of the largest entry.
    np.testing.assert_allclose(found, before, atol=np.abs(before).max() / 127 * 0.51)
    assert "int8 weights turned into floats" in " ".join(conversion_of(twin).notices)


def test_adapter_on_integers_is_merged() -> None:
    model = _model(L.Dense(5), 4)
    layer = model.layers[-1]
    layer.quantize("int8")
    layer.enable_lora(2)
    _moved(layer)
    held, note = effective_weights(layer)
    merged = np.asarray(layer.lora_kernel_a) @ np.asarray(layer.lora_kernel_b)
    plain = np.asarray(layer._kernel) / np.asarray(layer.kernel_scale)
    scale = layer.lora_alpha / layer.lora_rank
    np.testing.assert_allclose(held[0].read(), plain + scale * merged, rtol=1e-5)  # type: ignore[misc]
    assert note == "int8 weights turned into floats; LoRA adapter merged into the weights"


def test_plain_layer_is_read_as_it_is() -> None:
    layer = _model(L.Dense(5), 4).layers[-1]
    held, note = effective_weights(layer)
    assert note == ""
    assert [one.variable for one in held] == layer.weights
    assert all(one.read is None for one in held)


def test_unknown_quantization_has_no_twin() -> None:
    class Layer:
        """As a later Keras 3 may have it."""

        quantization_mode = "gptq"

    with pytest.raises(NoTwin, match="quantized by gptq"):
        effective_weights(Layer())
