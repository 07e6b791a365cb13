"""Between epochs: choosing, stopping, and going on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.errors import TrainingError
from tfopt.keras2.core import Model, keras
from tfopt.training.epoch_callback import Keeper
from tfopt.training.job import FitJob
from tfopt.training.loop import fit
from tfopt.training.optimizers import state_of

MakeJob = Callable[..., FitJob]


class StopHere(Exception):
    """Stands for a kill."""


class KillIn(keras.callbacks.Callback):
    """Stops training in the second step of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._at, self._epoch = epoch, -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self._epoch, batch) == (self._at, 1):
            raise StopHere


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


SETTINGS: dict[str, dict[str, Any]] = {
    "ema": {"optimizer": {"name": "adam", "ema": 0.8}},
    "nadam": {"optimizer": "nadam"},
    "plateau": {
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "learning_rate": {"schedule": "plateau", "peak": 0.5, "patience": 1, "monitor": "val_loss"},
    },
    "stopping": {
        "early_stopping": {"monitor": "val_loss", "patience": 2, "min_delta": 10.0},
        "epochs": 9,
        "keep": "best",
    },
    "cosine": {
        "optimizer": {"name": "adamw", "weight_decay": 0.01},
        "learning_rate": {"schedule": "cosine", "peak": 0.1, "warmup_fraction": 0.3},
        "gradient_clip": {"global_norm": 0.5},
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_training_equals_an_uninterrupted_one(
    name: str, make_job: MakeJob, make_model: Any, listener: Any, tmp_path: Path
) -> None:
    settings = {"epochs": 3, **SETTINGS[name]}

    def job(**changes: Any) -> FitJob:
        model = make_model(keras.layers.Dropout(0.4))
        return make_job(model, train=settings, judged=name in ("plateau", "stopping"), **changes)

    whole = job()
    history = fit(whole, listener)
    path = tmp_path / "checkpoint.npz"
    last = len(history["loss"]) - 1
    with pytest.raises(StopHere):
        fit(job(checkpoint=path, callbacks=[KillIn(last)]), listener)
    resumed = job(checkpoint=path)
    assert fit(resumed, listener) == history
    assert f"resumed after epoch {last}" in listener.messages
    assert same(resumed.model.get_weights(), whole.model.get_weights())
    # Killed after the last epoch, before the stage is recorded: nothing is left to train.
    again = job(checkpoint=path, callbacks=[KillIn(0), KillIn(last)])
    assert fit(again, listener) == history
    assert same(again.model.get_weights(), whole.model.get_weights())


def test_the_loss_scale_is_part_of_the_state(
    make_job: MakeJob, make_model: Any, listener: Any, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.npz"
    half = keras.mixed_precision.Policy("mixed_float16")
    scales: list[float] = []

    class Scale(KillIn):
        """Changes the scale in the first epoch, and looks at it in the second."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                self.model.optimizer._loss_scale._current_loss_scale.assign(64.0)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            scales.append(float(self.model.optimizer.loss_scale))
            super().on_train_batch_end(batch, logs)

    def job() -> FitJob:
        model = make_model(keras.layers.Dense(5, dtype=half), keras.layers.Activation("linear"))
        return make_job(model, checkpoint=path, callbacks=[Scale(1)])

    for _ in range(2):
        with pytest.raises(StopHere):
            fit(job(), listener)
    assert scales == [2.0**15] * 3 + [64.0] * 4


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give every epoch the validation accuracy of a list."""
    accuracies: list[float] = []
    epoch_end = Keeper.on_epoch_end

    def with_score(self: Keeper, epoch: int, logs: Any = None) -> None:
        epoch_end(self, epoch, {**logs, "val_accuracy": accuracies[epoch]})

    monkeypatch.setattr(Keeper, "on_epoch_end", with_score)
    return accuracies


class Weights(keras.callbacks.Callback):
    """Remembers the weights after every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[list[np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.after.append(self.model.get_weights())


def test_only_epochs_at_target_can_be_the_best(
    scored: list[float], make_job: MakeJob, listener: Any
) -> None:
    scored[:] = [0.99, 0.98, 0.5, 0.7, 0.7]
    calls: list[Model] = []

    def at_target(model: Model) -> bool:
        calls.append(model)
        return len(calls) > 2

    weights = Weights()
    job = make_job(
        train={"epochs": 5, "keep": "best"}, judged=True, at_target=at_target, callbacks=[weights]
    )
    fit(job, listener)
    assert len(calls) == 5
    assert same(job.model.get_weights(), weights.after[3])
    assert "kept the weights of epoch 4" in listener.messages


def test_early_stopping_counts_only_epochs_at_target(
    scored: list[float], make_job: MakeJob, listener: Any
) -> None:
    scored[:] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    calls: list[Model] = []

    def at_target(model: Model) -> bool:
        calls.append(model)
        return len(calls) > 3

    job = make_job(
        train={"epochs": 8, "early_stopping": {"monitor": "val_metric", "patience": 2}},
        judged=True,
        at_target=at_target,
    )
    # Epoch 4 is the first at target; 5 and 6 are worse.
    assert len(fit(job, listener)["loss"]) == 6
    assert listener.messages == ["stopped early after epoch 6"]


def test_small_gains_do_not_delay_stopping_but_are_kept(
    scored: list[float], make_job: MakeJob, listener: Any
) -> None:
    scored[:] = [0.50, 0.51, 0.52, 0.53, 0.54]
    weights = Weights()
    stopping = {"monitor": "val_metric", "patience": 2, "min_delta": 0.1}
    job = make_job(
        train={"epochs": 5, "early_stopping": stopping, "keep": "best"},
        judged=True,
        callbacks=[weights],
    )
    assert len(fit(job, listener)["loss"]) == 3
    assert same(job.model.get_weights(), weights.after[2])


def test_a_score_that_is_no_number_is_never_the_best(
    scored: list[float], make_job: MakeJob, listener: Any
) -> None:
    scored[:] = [float("nan"), 0.2, float("nan")]
    weights = Weights()
    job = make_job(train={"epochs": 3, "keep": "best"}, judged=True, callbacks=[weights])
    fit(job, listener)
    assert same(job.model.get_weights(), weights.after[1])


def test_no_epoch_at_target_is_said(make_job: MakeJob, listener: Any) -> None:
    weights = Weights()
    job = make_job(
        train={"keep": "best"}, judged=True, at_target=lambda model: False, callbacks=[weights]
    )
    fit(job, listener)
    assert same(job.model.get_weights(), weights.after[-1])
    assert listener.warnings == [
        "no epoch reached the target of the step, so the weights of the last one are kept"
    ]


def test_the_best_epoch_is_not_chosen_by_training_loss(
    scored: list[float], make_job: MakeJob, listener: Any
) -> None:
    scored[:] = [0.9, 0.1]
    weights = Weights()
    stopping = {"monitor": "loss", "patience": 9}
    job = make_job(
        train={"keep": "best", "early_stopping": stopping}, judged=True, callbacks=[weights]
    )
    history = fit(job, listener)
    assert history["loss"][1] < history["loss"][0]
    assert same(job.model.get_weights(), weights.after[0])


def test_the_plateau_lowers_the_rate_down_to_the_floor(make_job: MakeJob, listener: Any) -> None:
    rate = {"schedule": "plateau", "peak": 1e-9, "patience": 1, "decay": 0.5, "floor": 0.3}
    # At this rate no epoch beats the first by more than noise, in either direction.
    job = make_job(train={"epochs": 5, "learning_rate": rate, "optimizer": "sgd"})
    rates = fit(job, listener)["learning_rate"]
    assert rates[0] == pytest.approx(1e-9)
    assert min(rates) == pytest.approx(3e-10)


def test_averaged_weights_are_kept_with_their_constraints(
    make_job: MakeJob, make_model: Any, listener: Any
) -> None:
    weights = Weights()
    model = make_model()
    mask = np.ones(model.get_layer("hidden").kernel.shape, np.float32)
    mask[::2] = 0
    kernel = model.get_layer("hidden").kernel
    kernel.assign(kernel * mask)
    kernel._constraint = lambda values: values * mask
    job = make_job(
        model, train={"optimizer": {"name": "sgd", "ema": 0.9}, "epochs": 2}, callbacks=[weights]
    )
    fit(job, listener)
    assert not same(model.get_weights(), weights.after[-1])
    assert np.count_nonzero(kernel.numpy()[::2]) == 0
    assert np.count_nonzero(kernel.numpy()[1::2]) > 0


def test_the_state_holds_every_variable(make_job: MakeJob, listener: Any) -> None:
    names: list[str] = []

    class Look(keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            names.extend(variable.name for variable in state_of(self.model.optimizer))

    fit(make_job(train={"epochs": 1, "optimizer": "sgd"}, callbacks=[Look()]), listener)
    assert any("learning_rate" in name for name in names)
    assert any("iteration" in name for name in names)


def test_a_nan_in_one_step_is_seen_in_that_epoch(make_job: MakeJob, listener: Any) -> None:
    class Nan(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                bias = self.model.get_layer("logits").bias
                bias.assign(bias * float("nan"))

    with pytest.raises(TrainingError, match="The loss became nan in epoch 1, by step 3 of 3"):
        fit(make_job(callbacks=[Nan()]), listener)
