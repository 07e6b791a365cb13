"""Training one stage: repeatable, resumable, and loud."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tensorflow as tf

from tfopt import storage
from tfopt.config.schema import Augment
from tfopt.distributed.elastic.run_state import Journey, RanksChanged
from tfopt.distributed.single import Single
from tfopt.errors import ModelError, RecipeError, StorageError, TrainingError
from tfopt.keras2 import graph
from tfopt.keras2.core import keras
from tfopt.training.checkpoint import read_checkpoint
from tfopt.training.job import FitJob
from tfopt.training.loop import fit

MakeJob = Callable[..., FitJob]


@keras.saving.register_keras_serializable("test_loop")
class Jitter(keras.layers.Layer):
    """A user's layer that draws with tf.random."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs


def weights_after(job: FitJob, listener: Any) -> list[np.ndarray]:
    fit(job, listener)
    return job.model.get_weights()


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_training_repeats_bit_for_bit_and_depends_on_the_seed(
    make_job: MakeJob, make_model: Any, listener: Any
) -> None:
    jobs = [
        make_job(
            make_model(keras.layers.Dropout(0.4), keras.layers.GaussianNoise(0.5), Jitter()),
            seed=seed,
            augment=Augment(shift=0.2, noise=0.1),
        )
        for seed in (4, 4, 5)
    ]
    first, second, other = (weights_after(job, listener) for job in jobs)
    assert same(first, second)
    assert not same(first, other)


class Sabotage(keras.callbacks.Callback):
    """Puts a value into a weight in the middle of an epoch."""

    def __init__(self, value: float, *, epoch: int) -> None:
        super().__init__()
        self._value, self._at, self._epoch = value, epoch, -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self._epoch, batch) == (self._at, 2):
            kernel = self.model.get_layer("logits").kernel
            kernel.assign(tf.fill(kernel.shape, self._value))


def test_a_lost_loss_is_named_and_the_last_checkpoint_stays(
    make_job: MakeJob, listener: Any, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.npz"
    job = make_job(checkpoint=path, callbacks=[Sabotage(1e38, epoch=1)], train={"epochs": 4})
    with pytest.raises(
        TrainingError, match=r"The loss became (nan|inf) in epoch 3, by step 1 of 3"
    ):
        fit(job, listener)
    stored = read_checkpoint(path)
    assert stored is not None
    assert stored.progress.epochs_done == 2


def test_a_huge_learning_rate(make_job: MakeJob, listener: Any) -> None:
    job = make_job(train={"optimizer": "sgd", "learning_rate": 1e30, "epochs": 3})
    with pytest.raises(TrainingError, match=r"became .* in epoch 1.*Lower the learning rate"):
        fit(job, listener)


def test_weights_lost_in_the_last_step_are_named(
    make_job: MakeJob, listener: Any, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.npz"
    job = make_job(checkpoint=path, callbacks=[Sabotage(float("nan"), epoch=1)])
    with pytest.raises(
        TrainingError, match=r"'logits/kernel' became NaN.* in epoch 2.*state after epoch 1 is kept"
    ):
        fit(job, listener)
    stored = read_checkpoint(path)
    assert stored is not None
    assert all(np.isfinite(array).all() for array in stored.weights)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"keep": "best"}, "keep: best"),
        ({"early_stopping": {}}, "early_stopping"),
        (
            {"learning_rate": {"schedule": "plateau", "peak": 1, "monitor": "val_loss"}},
            "learning_rate.monitor",
        ),
    ],
)
def test_settings_that_need_validation_rows(
    settings: dict[str, Any], named: str, make_job: MakeJob, listener: Any
) -> None:
    with pytest.raises(RecipeError, match=f"{named}.* needs rows to judge epochs by"):
        fit(make_job(train=settings), listener)


def test_training_loss_needs_no_validation_rows(make_job: MakeJob, listener: Any) -> None:
    stopping = {"monitor": "loss", "patience": 1, "min_delta": 100.0}
    history = fit(make_job(train={"early_stopping": stopping, "epochs": 5}), listener)
    assert len(history["loss"]) == 2
    assert listener.messages == ["stopped early after epoch 2"]


def test_a_frozen_model(make_job: MakeJob, make_model: Any, listener: Any) -> None:
    model = make_model()
    model.trainable = False
    with pytest.raises(ModelError, match="nothing to train.*every layer is frozen"):
        fit(make_job(model), listener)


def test_zero_epochs_touch_nothing(make_job: MakeJob, listener: Any) -> None:
    job = make_job(train={"epochs": 0})
    before = job.model.get_weights()
    assert fit(job, listener) == {}
    assert same(job.model.get_weights(), before)


def test_the_model_is_not_compiled_afterwards(
    make_job: MakeJob, listener: Any, tmp_path: Path
) -> None:
    job = make_job()
    plain = tmp_path / "plain.keras"
    job.model.save(plain)
    fit(job, listener)
    job.model.save(tmp_path / "trained.keras")
    assert job.model.optimizer is None
    # Adam's moments would triple it.
    assert (tmp_path / "trained.keras").stat().st_size < 1.2 * plain.stat().st_size


def test_data_that_runs_out(make_job: MakeJob, make_split: Any, listener: Any) -> None:
    class Liar:
        """Promises more batches than it gives."""

        def __init__(self, split: Any) -> None:
            self._split = split

        def steps_per_epoch(self, batch_size: int) -> int:
            return 7

        def training_batches(self, plan: Any) -> Any:
            return self._split.batches(8)

    job = replace(make_job(), train=Liar(make_split()))
    with pytest.raises(TrainingError, match=r"data ran out in epoch \d: fewer than 7 batches"):
        fit(job, listener)


def test_an_error_inside_tensorflow_becomes_one_line(
    make_job: MakeJob, make_model: Any, listener: Any
) -> None:
    def fail(values: Any) -> NoReturn:
        raise RuntimeError("planted")

    def planted(values: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(fail, [values], tf.float32), values.shape)

    class Broken(keras.layers.Layer):
        def call(self, inputs: Any, training: bool | None = None) -> Any:
            return planted(inputs) if training else inputs

    with pytest.raises(
        TrainingError, match=r"A training step failed in epoch 1: .*planted"
    ) as caught:
        fit(make_job(make_model(Broken())), listener)
    assert "\n" not in str(caught.value)


def test_a_full_disk_in_the_background_is_not_lost(
    make_job: MakeJob, listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    for epochs in (1, 3):
        job = make_job(checkpoint=tmp_path / "checkpoint.npz", train={"epochs": epochs})
        with pytest.raises(StorageError, match=r"checkpoint.npz cannot be written: No space left"):
            fit(job, listener)
    assert not list(tmp_path.iterdir())


def test_logs_that_cannot_be_written(make_job: MakeJob, listener: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="TensorBoard logs in .* cannot be written") as caught:
        fit(make_job(log_dir=tmp_path / "file" / "logs"), listener)
    assert "\n" not in str(caught.value)


def test_logs_and_history_hold_every_epoch(
    make_job: MakeJob, listener: Any, tmp_path: Path
) -> None:
    history = fit(make_job(log_dir=tmp_path / "logs", train={"epochs": 3}, judged=True), listener)
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"], 3
    )
    assert [logs["loss"] for logs in listener.epochs] == history["loss"]
    assert history["learning_rate"] == pytest.approx([1e-2] * 3)
    assert list((tmp_path / "logs").glob("events.out.tfevents*"))


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(precision: str, make_job: MakeJob, make_model: Any, listener: Any) -> None:
    model = make_model(
        keras.layers.Reshape((2, 2, 2)), keras.layers.Conv2D(4, 2), keras.layers.Flatten()
    )
    before = model.get_weights()
    copied, bring_back = graph.twin(model, dtype=precision)
    seen: list[str] = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(type(self.model.optimizer).__name__)

    fit(make_job(copied, callbacks=[Look()]), listener)
    bring_back()
    assert seen == ["LossScaleOptimizerV3" if precision == "mixed_float16" else "Adam"] * 2
    assert not same(model.get_weights(), before)
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert model.optimizer is None


def test_jit_compile(make_job: MakeJob, make_model: Any, listener: Any) -> None:
    def job(layer: Any) -> FitJob:
        return make_job(make_model(layer), jit_compile=True, train={"epochs": 1})

    before = make_model().get_weights()
    first = weights_after(job(keras.layers.Dropout(0.4)), listener)
    assert same(weights_after(job(keras.layers.Dropout(0.4)), listener), first)
    assert not same(first, before)
    assert not listener.warnings
    fit(job(Jitter()), listener)
    assert "tf.random.*, which XLA (jit_compile) never repeats" in listener.warnings[0]


def test_sample_weights_count(
    make_job: MakeJob, make_model: Any, make_split: Any, listener: Any
) -> None:
    split = make_split()
    weights = np.ones(split.examples, np.float32)
    even = weights_after(make_job(split=replace(split, sample_weight=weights)), listener)
    assert same(even, weights_after(make_job(), listener))
    weights[::2] = 0
    assert not same(
        even, weights_after(make_job(split=replace(split, sample_weight=weights)), listener)
    )


def test_resuming_from_a_checkpoint_of_another_model(
    make_job: MakeJob, make_model: Any, listener: Any, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.npz"
    fit(make_job(checkpoint=path), listener)
    kept = shutil.copy(path, tmp_path / "kept")
    other = make_job(make_model(keras.layers.Dense(5)), checkpoint=path)
    with pytest.raises(StorageError, match="belongs to another model. Delete it"):
        fit(other, listener)
    assert path.read_bytes() == Path(kept).read_bytes()


def test_parts_of_a_batch_change_nothing(
    make_job: MakeJob, make_model: Any, make_split: Any, listener: Any
) -> None:
    found = []
    for parts in (1, 3):
        model = make_model()
        model.get_layer("norm").trainable = False  # the statistics would be those of a part
        settings = {"accumulate": parts, "optimizer": "adam"}
        job = make_job(model, split=make_split(21), train=settings)  # the last batch has five rows
        found.append(weights_after(job, listener))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


class Two(Single):
    """Two processes of Horovod, up to the first step."""

    name, replicas = "horovod", 2


def test_synchronized_statistics_that_horovod_would_not_synchronize(
    make_job: MakeJob, make_model: Any, listener: Any
) -> None:
    norm = keras.layers.BatchNormalization(synchronized=True, name="all_rows")
    with pytest.raises(ModelError, match=r"'all_rows' has synchronized=True.*kind is horovod"):
        fit(make_job(make_model(norm), strategy=Two()), listener)


def test_a_masked_loss_is_not_divided(make_job: MakeJob, listener: Any) -> None:
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    masked = keras.Model(tokens, keras.layers.Dense(1)(x))
    with pytest.raises(ModelError, match="has a mask.*2 replicas would each take"):
        fit(replace(make_job(), model=masked, strategy=Two()), listener)


class Changing(Single):
    """One process of an elastic run, whose launcher has other hosts at some checkpoint."""

    def __init__(self, at_commit: int) -> None:
        self.journey = Journey(commit_every_steps=2)
        self._at = at_commit

    def hosts_changed(self) -> bool:
        assert self.journey is not None
        return self.journey.commits == self._at


def test_training_goes_on_within_an_epoch(
    make_job: MakeJob, listener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment = Augment(shift=0.2, noise=0.1)
    whole = weights_after(make_job(seed=2, augment=augment), listener)
    path = tmp_path / "checkpoint.npz"
    # In the first epoch, between two, in the last one, after it, and never.
    for at, position in ((1, (0, 2)), (2, (1, 0)), (3, (1, 2)), (4, (2, 0)), (0, None)):
        strategy = Changing(at)
        monkeypatch.setattr(
            "tfopt.distributed.elastic.run_state.hosts_changed", strategy.hosts_changed
        )
        strategy.journey.notice("lost")
        job = make_job(seed=2, augment=augment, checkpoint=path, strategy=strategy)
        path.unlink(missing_ok=True)
        if position is not None:
            with pytest.raises(RanksChanged):
                fit(job, listener)
            stored = read_checkpoint(path)
            assert stored is not None
            assert (stored.progress.epochs_done, stored.progress.steps_done) == position
            strategy = Changing(0)
            monkeypatch.setattr(
                "tfopt.distributed.elastic.run_state.hosts_changed", strategy.hosts_changed
            )
            job = make_job(seed=2, augment=augment, checkpoint=path, strategy=strategy)
        assert same(weights_after(job, listener), whole)
        assert strategy.journey.step == job.settings.epochs * job.steps_per_epoch
