from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tfopt.config.schema import Train
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.training.transfer.layer_choice import LayerChoice, choose, decide


def chosen(model: Model, epochs: int = 9, **transfer: Any) -> dict[str, LayerChoice]:
    settings = Train(epochs=epochs, transfer=transfer).transfer
    assert settings is not None
    return choose(graph.copy(model), settings, epochs=epochs)


def epochs_of(choices: dict[str, LayerChoice]) -> dict[str, int | None]:
    return {name: choice.from_epoch for name, choice in choices.items()}


def test_freezing_by_patterns_and_by_word(make_conv: Callable[..., Model]) -> None:
    by_pattern = epochs_of(chosen(make_conv(), freeze=["*0", "norm*"]))
    assert [name for name, epoch in by_pattern.items() if epoch is None] == [
        "conv0",
        "norm0",
        "norm1",
        "norm2",
    ]
    by_word = epochs_of(chosen(make_conv(nested=True), freeze="backbone"))
    assert [name for name, epoch in by_word.items() if epoch == 0] == ["logits"]


def test_groups_are_unfrozen_from_the_head_down(make_conv: Callable[..., Model]) -> None:
    one_each = epochs_of(chosen(make_conv(), unfreeze={"every_epochs": 2}))
    assert [one_each[f"conv{n}"] for n in (2, 1, 0)] == [2, 4, 6]
    assert one_each["norm2"] == 2
    halves = epochs_of(chosen(make_conv(), unfreeze={"at_epochs": [1, 5]}))
    assert [halves[f"conv{n}"] for n in (2, 1, 0)] == [1, 1, 5]
    named = epochs_of(chosen(make_conv(), unfreeze={"every_epochs": 3, "groups": ["*1", "conv2"]}))
    assert (named["conv1"], named["norm1"], named["conv2"], named["norm2"]) == (3, 3, 6, None)


def test_rates_by_block_and_by_pattern(make_conv: Callable[..., Model]) -> None:
    found = chosen(make_conv(), layer_decay=0.5, learning_rates={"norm*": 2.0, "norm0": 3.0})
    rates = {name: choice.multiplier for name, choice in found.items()}
    assert rates == {
        "conv0": 0.125,
        "norm0": 3.0,
        "conv1": 0.25,
        "norm1": 2.0,
        "conv2": 0.5,
        "norm2": 2.0,
        "logits": 1.0,
    }


def test_layers_that_the_model_brings_frozen_stay_so_unless_they_are_unfrozen(
    make_conv: Callable[..., Model],
) -> None:
    model = make_conv()
    model.get_layer("conv1").trainable = False
    stays = chosen(model, learning_rates={"logits": 2.0})
    assert stays["conv1"].from_epoch is None
    assert (
        stays["conv1"].decision().reason == "the model brings it frozen, or with nothing to train"
    )
    assert chosen(model, unfreeze={"every_epochs": 1})["conv1"].from_epoch == 2


def test_adapters_go_where_they_can(make_conv: Callable[..., Model]) -> None:
    found = chosen(make_conv(), lora={})
    assert [name for name, choice in found.items() if choice.is_adapted] == [
        "conv0",
        "conv1",
        "conv2",
    ]
    assert found["norm0"].is_frozen
    with pytest.raises(InputError, match="'norm0' matches only .*BatchNormalization has no adap"):
        chosen(make_conv(), lora={"layers": "norm0"})
    with pytest.raises(InputError, match="the head trains in full"):
        chosen(make_conv(), lora={"layers": "logits"})


def test_adapters_do_not_fill_the_zeros_of_pruned_kernels(make_conv: Callable[..., Model]) -> None:
    model = make_conv()
    kernel = model.get_layer("conv1").kernel
    kernel.assign(kernel * (abs(kernel.numpy()) > 0.2))
    assert not chosen(model, lora={})["conv1"].is_adapted
    with pytest.raises(InputError, match="its kernel is pruned"):
        chosen(model, lora={"layers": "conv1"})


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ({"freeze": "con0"}, r"transfer\.freeze: the pattern 'con0'.*Did you mean 'conv0'\?"),
        ({"learning_rates": {"x": 1.0}}, r"transfer\.learning_rates: the pattern 'x'"),
        ({"freeze": "*"}, "no layer of model 'small' trains at the beginning"),
        ({"unfreeze": {"every_epochs": 3}}, "3 groups, one after each 3 epochs.*9 epochs of 9"),
        ({"unfreeze": {"at_epochs": [1, 2, 3, 4]}}, "are 3 blocks, .*cut into 4 groups"),
        (
            {"unfreeze": {"every_epochs": 1, "groups": ["logits"]}},
            r"transfer\.unfreeze\.groups: the pattern 'logits'",
        ),
    ],
)
def test_what_does_not_fit_the_model(
    transfer: dict[str, Any], message: str, make_conv: Callable[..., Model]
) -> None:
    with pytest.raises(InputError, match=message):
        chosen(make_conv(), **transfer)


def test_the_decisions_of_a_plan(make_conv: Callable[..., Model]) -> None:
    settings = Train(transfer={"unfreeze": {"at_epochs": [4]}, "layer_decay": 0.5}).transfer
    assert settings is not None
    rows = {entry.layer: entry for entry in decide(make_conv(), settings, epochs=10)}
    assert rows["conv0"].reason == "frozen until epoch 5, then trains"
    assert rows["conv0"].values == {"rate": 0.125}
    assert rows["logits"].reason == "trains"


def test_a_sequential_model() -> None:
    layers = [keras.Input((4, 4)), keras.layers.Dense(3, name="a"), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(2, name="b")])
    assert epochs_of(chosen(model, freeze="backbone")) == {"a": None, "b": 0}
