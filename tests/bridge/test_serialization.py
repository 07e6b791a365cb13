"""A Keras 3 object goes through JSON, or an error says what to do."""

from __future__ import annotations

import json
from typing import Any

import keras as keras3
import pytest

from tfopt.bridge.serialization import from_config, short, to_config
from tfopt.errors import ModelError


def test_a_layer_comes_back_unbuilt() -> None:
    layer = keras3.layers.Dense(3, activation="gelu", name="top", dtype="mixed_float16")
    layer.build((None, 2))
    config = json.loads(json.dumps(to_config(layer, "Layer 'top'")))
    before = json.dumps(config)
    again = from_config(config, "Layer 'top'")
    assert json.dumps(config) == before
    assert again.get_config() == layer.get_config()
    assert not again.built


def test_a_config_with_an_object_in_it_is_refused() -> None:
    @keras3.saving.register_keras_serializable("tfopt_test_config")
    class Odd(keras3.Layer):
        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "odd": object()}

    with pytest.raises(ModelError, match=r"Layer 'odd' cannot be converted.*get_config\(\)"):
        to_config(Odd(), "Layer 'odd'")


def test_an_unknown_class_is_named() -> None:
    config = {"module": "no.such", "class_name": "Gone", "config": {}, "registered_name": "x>Gone"}
    with pytest.raises(ModelError, match=r"Layer 'a' runs.*'Gone'.*register_keras_serializable"):
        from_config(config, "Layer 'a'")


def test_long_errors_are_cut() -> None:
    assert short(ValueError("a\n b")) == "a b"
    assert len(short(ValueError("a" * 999))) < 310
