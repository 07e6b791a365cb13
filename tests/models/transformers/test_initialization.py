"""Where the weights of a transformer come from, in lines for people."""

from __future__ import annotations

from pathlib import Path

from tfopt.config.schema import Model
from tfopt.models.build import build_model
from tfopt.models.transformers.initialization import Initialization, initialization_of

SHAPE = {"input_ids": (8,), "attention_mask": (8,)}


def test_every_layer_that_is_not_loaded_is_named() -> None:
    record = Initialization(
        checkpoint="folder",
        loaded=("a", "b"),
        derived={"words": "by singular values"},
        new={"c": "narrower", "classifier": "a new head", "d": "narrower"},
    )
    assert record.notes() == [
        "weights at the beginning: 2 layers of folder",
        "weights at the beginning: derived (by singular values): words",
        "weights at the beginning: random (narrower): c, d",
        "weights at the beginning: random (a new head): classifier",
    ]
    nothing = Initialization(checkpoint=None, new={"a": "no checkpoint", "b": "no checkpoint"})
    assert nothing.notes() == ["weights at the beginning: random in all 2 layers"]


def test_another_head_is_new_too(data: Path) -> None:
    settings = Model(
        builder="bert",
        arguments={"checkpoint": str(data / "bert"), "layers": 1},
        head={"remove": "classifier"},
    )
    found = initialization_of(build_model(settings, input_shape=SHAPE, classes=3, seed=0))
    assert found is not None
    assert dict(found.new) == {"head": "a new head"}
    assert "layer_0_attention_query" in found.loaded
