from __future__ import annotations

from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tf_keras as keras2

from tfopt.config.head import Head
from tfopt.config.schema import Model
from tfopt.errors import ModelError
from tfopt.models.build import build_model
from tfopt.models.head import with_head


def classifier(keras: Any = keras2, *, nested: bool = False) -> Any:
    keras.utils.set_random_seed(2)
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.MaxPooling2D(name="shrink")(x)
    features = layers.Conv2D(6, 1, name="features")(x)
    if nested:
        body = keras.Model(image, layers.GlobalMaxPooling2D(name="pool")(features), name="body")
        image = keras.Input((8, 8, 3), name="picture")
        x = body(image)
    else:
        x = layers.GlobalAveragePooling2D(name="pool")(features)
    x = layers.Dropout(0.1, name="drop")(layers.Dense(5, name="hidden")(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="out")(x), name="small")


@pytest.mark.parametrize("nested", [False, True])
def test_what_follows_the_last_pooling_is_replaced(nested: bool) -> None:
    old = classifier(nested=nested)
    new = with_head(old, Head(dropout=0.2), classes=3)
    names = [layer.name for layer in new.layers]
    end = ["body"] if nested else ["conv", "shrink", "features", "pool"]
    assert names[1:] == [*end, "head_dropout", "head"]
    assert new.output_shape == (None, 3)
    assert new.get_layer(end[0]) is old.get_layer(end[0])


@pytest.mark.parametrize(
    ("head", "layers"),
    [
        ({"remove": "pool"}, ["conv", "shrink", "features", "head_pool", "head"]),
        ({"remove": "pool", "pooling": "max"}, ["conv", "shrink", "features", "head_pool", "head"]),
        ({"remove": "features", "pooling": "none"}, ["conv", "shrink", "head_pool", "head"]),
        (
            {"remove": "out", "classes": 7},
            ["conv", "shrink", "features", "pool", "hidden", "drop", "head"],
        ),
    ],
)
def test_the_layer_to_remove_may_be_named(head: dict[str, Any], layers: list[str]) -> None:
    new = with_head(classifier(), Head(**head), classes=None)
    assert [layer.name for layer in new.layers][1:] == layers
    assert new.output_shape == (None, head.get("classes", 1))


def test_nothing_is_removed_from_feature_maps() -> None:
    old = classifier()
    maps = keras2.Model(old.input, old.get_layer("features").output)
    new = with_head(maps, Head(), classes=4)
    assert [layer.name for layer in new.layers][1:] == [
        "conv",
        "shrink",
        "features",
        "head_pool",
        "head",
    ]


def test_a_name_that_is_taken() -> None:
    first = with_head(classifier(), Head(), classes=4)
    second = with_head(first, Head(remove="head"), classes=2)
    assert second.layers[-1].name == "new_head"


def test_models_whose_head_cannot_be_told() -> None:
    with pytest.raises(ModelError, match=r"no layer 'poool'\. Did you mean 'pool'\?"):
        with_head(classifier(), Head(remove="poool"), classes=2)
    plain = keras2.Sequential([keras2.Input((4,)), keras2.layers.Dense(2, name="only")])
    with pytest.raises(ModelError, match="no pooling or flattening.*Layers: only"):
        with_head(plain, Head(), classes=2)


@pytest.mark.parametrize("keras", [keras2, keras3], ids=["keras 2", "keras 3"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_files_of_both_kerases_get_a_head(keras: Any, suffix: str, tmp_path: Path) -> None:
    old = classifier(keras)
    path = tmp_path / f"backbone{suffix}"
    old.save(path)
    settings = Model(path=path, head=Head(), preprocess={"scale": 1.0})
    new = build_model(settings, input_shape=(8, 8, 3), classes=4, seed=0)
    assert new.output_shape == (None, 4)
    kernels = [v for v in new.weights if "conv/kernel" in v.name]
    np.testing.assert_array_equal(kernels[0].numpy(), np.asarray(old.get_layer("conv").kernel))
