from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.errors import VerificationError
from tfopt.keras2.core import Model, keras
from tfopt.training.job import FitJob
from tfopt.training.transfer.fine_tune import Trained, fit_transfer

UNFREEZE = {"unfreeze": {"at_epochs": [1, 2]}, "layer_decay": 0.7}
Train = Callable[..., Trained]


class Watch(keras.callbacks.Callback):
    """Remembers the weights at the end of each epoch."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.seen: list[dict[str, list[np.ndarray]]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(
            {name: [v.numpy() for v in self.model.get_layer(name).weights] for name in self.names}
        )


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "optimizer", [{"name": "adamw", "weight_decay": 0.1}, {"name": "sgd", "ema": 0.9}]
)
def test_groups_change_from_their_epoch_on_statistics_included(
    optimizer: dict[str, Any], train: Train, make_conv: Callable[..., Model]
) -> None:
    model = make_conv()
    names = ["conv0", "norm0", "conv1", "conv2", "norm2", "logits"]
    start = {name: model.get_layer(name).get_weights() for name in names}
    watch = Watch(names)
    found = train(model, UNFREEZE, train={"epochs": 4, "optimizer": optimizer}, callbacks=[watch])
    moved = [{n for n in names if not same(start[n], seen[n])} for seen in watch.seen]
    assert moved == [
        {"logits"},
        {"logits", "conv1", "conv2", "norm2"},
        set(names),
        set(names),
    ]
    norm = [seen["norm2"][2] for seen in watch.seen]
    assert np.array_equal(norm[0], start["norm2"][2])
    assert not np.array_equal(norm[1], norm[2])
    assert found.measured.evidence["trainable_parameters_by_phase"] == {
        "epoch 1": 15,
        "epoch 2": 15 + 2 * (36 * 4 + 4 + 8),
        "epoch 3": 15 + 2 * (36 * 4 + 4 + 8) + 36 + 4 + 8,
    }


class Stop(Exception):
    pass


class StopIn(keras.callbacks.Callback):
    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            raise Stop


@pytest.mark.parametrize("stopped_in", [1, 2, 3])
def test_a_resumed_run_is_the_same_bit_for_bit_at_every_boundary(
    stopped_in: int,
    make_job: Callable[..., FitJob],
    make_conv: Callable[..., Model],
    listener: Any,
    tmp_path: Path,
) -> None:
    settings = {"epochs": 4, "transfer": UNFREEZE, "optimizer": {"name": "adamw", "ema": 0.9}}
    job = make_job(make_conv(), train=settings, checkpoint=tmp_path / "checkpoint.npz")
    transfer = job.settings.transfer
    whole = replace(job, model=make_conv(), checkpoint=None)
    fit_transfer(whole, transfer, listener)
    with pytest.raises(Stop):
        fit_transfer(replace(job, callbacks=[StopIn(stopped_in)]), transfer, listener)
    resumed = replace(job, model=make_conv())
    history = fit_transfer(resumed, transfer, listener).history
    assert listener.messages[-1] == f"resumed after epoch {stopped_in}"
    assert len(history["loss"]) == 4
    assert same(whole.model.get_weights(), resumed.model.get_weights())


def test_a_layer_that_changes_before_it_is_unfrozen(
    train: Train, make_conv: Callable[..., Model]
) -> None:
    class Meddle(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            layer = self.model.get_layer("conv0")
            layer.kernel.assign(layer.kernel * 1.001)

    with pytest.raises(
        VerificationError, match="'conv0' was to stay frozen, but its weight 'conv0"
    ):
        train(make_conv(), UNFREEZE, train={"epochs": 3}, callbacks=[Meddle()])
