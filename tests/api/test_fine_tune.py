"""Transfer learning from Python, on real digits: a network of 0 to 4 learns 5 to 9."""

from __future__ import annotations

from typing import Any

import keras as keras3
import numpy as np
import pytest
import tf_keras as keras2

import tfopt
from tfopt.errors import InputError


def network(keras: Any, classes: int) -> Any:
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((8, 8, 1), name="image"),
        keras.layers.Conv2D(16, 3, name="conv0"),
        keras.layers.BatchNormalization(momentum=0.9, name="norm0"),
        keras.layers.ReLU(name="relu0"),
        keras.layers.Conv2D(16, 3, activation="relu", name="conv1"),
        keras.layers.Flatten(name="features"),
        keras.layers.Dense(classes, name="head"),
    ]
    return keras.Sequential(layers, name="digits")


@pytest.fixture(scope="module", params=["2", "3"])
def pretrained(request: Any, digits: Any) -> Any:
    """A network trained on the digits 0 to 4."""
    keras = {"2": keras2, "3": keras3}[request.param]
    images, labels = digits
    low = labels < 5
    model = network(keras, 5)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[low], labels[low], epochs=6, verbose=0)
    return model


def high_digits(digits: Any) -> tuple[Any, Any]:
    images, labels = digits
    return images[labels >= 5], labels[labels >= 5] - 5


def accuracy(model: Any, rows: tuple[Any, Any]) -> float:
    return float((np.asarray(model(rows[0])).argmax(-1) == rows[1]).mean())


def test_a_frozen_backbone_carries_a_new_head(pretrained: Any, digits: Any) -> None:
    images, labels = high_digits(digits)
    before = pretrained.get_weights()
    tuned = tfopt.fine_tune(
        pretrained, (images[:400], labels[:400]), freeze="backbone", epochs=12, learning_rate=0.01
    )
    assert type(tuned).__module__.split(".")[0] == type(pretrained).__module__.split(".")[0]
    for name in ("conv0", "norm0", "conv1"):
        old, new = pretrained.get_layer(name), tuned.get_layer(name)
        for one, other in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert new.trainable
    assert accuracy(tuned, (images[400:], labels[400:])) > 0.85
    for one, other in zip(before, pretrained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_adapters_leave_the_architecture(pretrained: Any, digits: Any) -> None:
    images, labels = high_digits(digits)
    tuned = tfopt.fine_tune(pretrained, (images, labels), lora=2, epochs=4, learning_rate=0.01)
    assert [w.shape for w in tuned.weights] == [w.shape for w in pretrained.weights]
    assert accuracy(tuned, (images, labels)) > 0.85


def test_short_forms_and_errors(pretrained: Any, digits: Any) -> None:
    rows = tuple(part[:64] for part in high_digits(digits))
    tfopt.fine_tune(pretrained, rows, unfreeze=[1], layer_decay=0.5, keep_pretrained=0.1, epochs=2)
    with pytest.raises(InputError, match=r"tfopt\.fine_tune: 1 problem\n.*set at least one of"):
        tfopt.fine_tune(pretrained, rows)
    with pytest.raises(InputError, match=r"transfer\.freeze: the pattern 'con0'"):
        tfopt.fine_tune(pretrained, rows, freeze="con0")
    with pytest.raises(InputError, match="after 3 epochs, but there are 3"):
        tfopt.fine_tune(pretrained, rows, unfreeze=3, epochs=3)
    with pytest.raises(InputError, match="seed must be"):
        tfopt.fine_tune(pretrained, rows, freeze="conv0", seed=-1)
