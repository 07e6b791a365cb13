"""Train on two ranks what one process trains on the whole batch; rank 0 prints JSON by case."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import tensorflow as tf
import tf_keras as keras2

import tfopt
from tfopt.distributed.horovod import consistency
from tfopt.distributed.horovod.library import hvd

os.environ["HOROVOD_DYNAMIC_PROCESS_SETS"] = "1"  # read when Horovod starts

BATCH = 8
BATCHES = 6
EPOCHS = 2
Case = Callable[[], dict[str, Any]]
CASES: dict[str, Case] = {}

random = np.random.default_rng(3)
ROWS = random.normal(size=(BATCH * BATCHES, 6)).astype(np.float32)
TARGETS = random.normal(size=(BATCH * BATCHES, 2)).astype(np.float32)
WORDS = random.integers(0, 11, (BATCH * BATCHES, 5)).astype(np.int32)


def dense(k: Any) -> Any:
    layers = [
        k.Input((6,)),
        k.layers.Dense(5, activation="tanh"),
        k.layers.Dense(4, activation="tanh"),
        k.layers.Dense(2),
    ]
    return k.Sequential(layers)


def frozen_norm(k: Any) -> Any:
    model = k.Sequential(
        [k.Input((6,)), k.layers.Dense(5), k.layers.BatchNormalization(), k.layers.Dense(2)]
    )
    model.layers[1].trainable = False
    return model


def words(k: Any) -> Any:
    layers = [
        k.Input((5,), dtype="int32"),
        k.layers.Embedding(11, 4),
        k.layers.GlobalAveragePooling1D(),
        k.layers.Dense(2),
    ]
    return k.Sequential(layers)


def custom_step(k: Any) -> Any:
    inner = dense(k)

    class Custom(k.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data[:2]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(self(x, training=True) - y))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    return Custom(inner.inputs, inner.outputs)


@dataclass
class Setting:
    optimizer: Callable[[Any], Any]
    model: Callable[[Any], Any] = dense
    tolerance: float = 1e-6
    distribution: dict[str, Any] = field(default_factory=dict)
    batch: int = BATCH
    rows: Any = None
    targets: Any = None
    compile: dict[str, Any] = field(default_factory=dict)
    plain: Callable[[Any], Any] | None = None


def batches(setting: Setting, batch: int, *, is_part: bool) -> Any:
    """The rows in their order: whole batches, or this rank's half of each."""
    rows = ROWS if setting.rows is None else setting.rows
    targets = TARGETS if setting.targets is None else setting.targets
    if is_part:
        half = batch // 2
        keep = np.arange(len(rows)) % batch // half == hvd().rank()
        return rows[keep], targets[keep], half
    return rows, targets, batch


def train(k: Any, setting: Setting, *, is_part: bool, callbacks: Any = ()) -> Any:
    k.utils.set_random_seed(7)
    model = setting.model(k)
    optimizer = (setting.plain or setting.optimizer)(k) if not is_part else setting.optimizer(k)
    if is_part:
        optimizer = tfopt.DistributedOptimizer(optimizer, **setting.distribution)
    model.compile(optimizer, "mse", **setting.compile)
    x, y, batch = batches(setting, setting.batch if is_part else BATCH, is_part=is_part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            x, y, batch_size=batch, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[*callbacks]
        )
    return model


def values(model: Any) -> list[np.ndarray]:
    return [np.asarray(one) for one in model.get_weights()]


def parity(k: Any, setting: Setting) -> dict[str, Any]:
    whole = train(k, setting, is_part=False)
    part = train(k, setting, is_part=True)
    consistency.require_equal_weights(part.variables)
    k.utils.set_random_seed(7)
    first = values(setting.model(k))
    pairs = list(zip(values(whole), values(part), strict=True))
    return {
        "difference": max(float(np.abs(one - other).max()) for one, other in pairs),
        "moved": max(
            float(np.abs(one - other).max()) for one, other in zip(first, values(part), strict=True)
        ),
        "tolerance": setting.tolerance,
    }


def infinite(k: Any) -> Any:
    """Targets whose 13th row, on rank 1 alone, gives an infinite gradient."""
    targets = TARGETS.copy()
    targets[13] = np.float32(3e38)
    return targets


ADAM = 1e-5
SETTINGS: dict[str, Setting] = {
    "sgd": Setting(lambda k: k.optimizers.SGD(0.1)),
    "momentum": Setting(lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True)),
    "adam": Setting(lambda k: k.optimizers.Adam(0.01), tolerance=ADAM),
    "adamw": Setting(lambda k: k.optimizers.AdamW(0.01, weight_decay=0.02), tolerance=ADAM),
    "clipnorm": Setting(lambda k: k.optimizers.SGD(0.5, clipnorm=0.1)),
    "global_clipnorm": Setting(lambda k: k.optimizers.SGD(0.5, global_clipnorm=0.1)),
    "clipvalue": Setting(lambda k: k.optimizers.SGD(0.5, clipvalue=0.02)),
    "ema": Setting(
        lambda k: k.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3)
    ),
    "schedule": Setting(
        lambda k: k.optimizers.SGD(k.optimizers.schedules.ExponentialDecay(0.2, 2, 0.8))
    ),
    "accumulation": Setting(
        lambda k: k.optimizers.SGD(0.1, momentum=0.9),
        distribution={"accumulate_steps": 2},
        batch=BATCH // 2,
    ),
    "accumulation_adam": Setting(
        lambda k: k.optimizers.Adam(0.01, global_clipnorm=0.5),
        tolerance=ADAM,
        distribution={"accumulate_steps": 2},
        batch=BATCH // 2,
    ),
    "sparse": Setting(lambda k: k.optimizers.SGD(0.5), model=words, rows=WORDS),
    "sparse_adam": Setting(
        lambda k: k.optimizers.Adam(0.02), model=words, rows=WORDS, tolerance=ADAM
    ),
    "sparse_as_dense": Setting(
        lambda k: k.optimizers.SGD(0.5),
        model=words,
        rows=WORDS,
        distribution={"sparse_as_dense": True},
    ),
    "loss_scaling": Setting(
        lambda k: scaled(k, k.optimizers.SGD(0.1)), targets=infinite(None), tolerance=2e-6
    ),
    "fp16": Setting(
        lambda k: k.optimizers.SGD(0.1), distribution={"compression": "float16"}, tolerance=2e-3
    ),
    "frozen_norm": Setting(lambda k: k.optimizers.SGD(0.1), model=frozen_norm),
    "one_by_one": Setting(lambda k: k.optimizers.SGD(0.1), distribution={"groups": 0}),
    "three_groups": Setting(lambda k: k.optimizers.SGD(0.1), distribution={"groups": 3}),
    "sum": Setting(
        lambda k: k.optimizers.SGD(0.05),
        plain=lambda k: k.optimizers.SGD(0.1),
        distribution={"op": "sum"},
    ),
    "eager": Setting(lambda k: k.optimizers.SGD(0.1), compile={"run_eagerly": True}),
    "several_steps": Setting(lambda k: k.optimizers.SGD(0.1), compile={"steps_per_execution": 3}),
    "custom_step": Setting(lambda k: k.optimizers.SGD(0.1), model=custom_step),
}
LEGACY: dict[str, Setting] = {
    "sgd": Setting(lambda k: k.optimizers.legacy.SGD(0.1, momentum=0.9)),
    "adam": Setting(lambda k: k.optimizers.legacy.Adam(0.01), tolerance=ADAM),
    "clipnorm": Setting(lambda k: k.optimizers.legacy.SGD(0.5, global_clipnorm=0.1)),
    "sparse": Setting(lambda k: k.optimizers.legacy.SGD(0.5), model=words, rows=WORDS),
    "loss_scaling": Setting(
        lambda k: scaled(k, k.optimizers.legacy.SGD(0.1)), targets=infinite(None), tolerance=2e-6
    ),
    "accumulation": Setting(
        lambda k: k.optimizers.legacy.SGD(0.1, momentum=0.9),
        distribution={"accumulate_steps": 2},
        batch=BATCH // 2,
    ),
    "custom_step": Setting(lambda k: k.optimizers.legacy.SGD(0.1), model=custom_step),
}


def scaled(k: Any, optimizer: Any) -> Any:
    return k.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=1024.0)


for kind, k in (("keras2", keras2), ("keras3", keras3)):
    for name, setting in SETTINGS.items():
        CASES[f"{kind}/{name}"] = lambda k=k, setting=setting: parity(k, setting)
for name, setting in LEGACY.items():
    CASES[f"legacy/{name}"] = lambda setting=setting: parity(keras2, setting)


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def both(function: Callable[[Any], dict[str, Any]]) -> None:
    for kind, k in (("keras2", keras2), ("keras3", keras3)):
        CASES[f"{kind}/{function.__name__}"] = lambda k=k: function(k)


def raised(action: Callable[[], Any]) -> dict[str, Any]:
    """What each rank raised; a rank that raised nothing says so."""
    try:
        action()
        mine = "nothing"
    except Exception as error:  # noqa: BLE001  # whatever it is is compared
        text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
        mine = f"{type(error).__name__}: {text}"
    return {"errors": hvd().allgather_object(mine)}


@case
def distillation() -> dict[str, Any]:
    def build(k: Any) -> Any:
        teacher, student = dense(k), dense(k)
        return tfopt.Distiller(student, teacher, losses=None, alpha=0.3)

    setting = Setting(lambda k: k.optimizers.SGD(0.1), model=build)
    targets = np.argmax(TARGETS, axis=1)
    setting.targets = targets
    setting.compile = {}
    found = {}
    for is_part in (False, True):
        keras2.utils.set_random_seed(7)
        model = build(keras2)
        before = values(model.student)
        optimizer = keras2.optimizers.SGD(0.1)
        if is_part:
            optimizer = tfopt.DistributedOptimizer(optimizer)
        model.compile(optimizer, keras2.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y, batch = batches(setting, BATCH, is_part=is_part)
        model.fit(x, y, batch_size=batch, epochs=EPOCHS, shuffle=False, verbose=0)
        found[is_part] = values(model.student)
    consistency.require_equal_weights(model.student.variables)
    return {
        "difference": max(
            float(np.abs(a - b).max()) for a, b in zip(found[False], found[True], strict=True)
        ),
        "moved": max(float(np.abs(a - b).max()) for a, b in zip(before, found[True], strict=True)),
        "tolerance": 1e-6,
    }


def loop_step(model: Any, optimizer: Any, *, is_part: bool) -> Any:
    @tf.function
    def step(rows: Any, targets: Any) -> None:
        recorder = tf.GradientTape()
        if is_part:
            recorder = tfopt.DistributedGradientTape(recorder)
        with recorder as recording:
            loss = tf.reduce_mean(tf.square(model(rows, training=True) - targets))
        gradients = recording.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    return step


@both
def tape(k: Any) -> dict[str, Any]:
    found = {}
    for is_part in (False, True):
        k.utils.set_random_seed(7)
        model, optimizer = dense(k), k.optimizers.SGD(0.1)
        x, y, batch = batches(Setting(None), BATCH, is_part=is_part)
        optimizer.build(model.trainable_variables)

        step = loop_step(model, optimizer, is_part=is_part)
        before = values(model)
        for start in range(0, len(x), batch):
            step(x[start : start + batch], y[start : start + batch])
        found[is_part] = values(model)
    consistency.require_equal_weights(model.variables)
    pairs = list(zip(found[False], found[True], strict=True))
    return {
        "difference": max(float(np.abs(one - other).max()) for one, other in pairs),
        "moved": max(float(np.abs(a - b).max()) for a, b in zip(before, found[True], strict=True)),
        "tolerance": 1e-6,
    }


@both
def sets_of_one(k: Any) -> dict[str, Any]:
    """Two sets of one rank each train two models, as if each were alone."""
    sets = [hvd().add_process_set([rank]) for rank in range(2)]
    rank = hvd().rank()
    data = (ROWS[rank::2], TARGETS[rank::2])
    found = []
    for chosen in (None, sets[rank]):
        k.utils.set_random_seed(7)
        model, optimizer = dense(k), k.optimizers.SGD(0.1)
        if chosen is not None:
            optimizer = tfopt.DistributedOptimizer(optimizer, process_set=chosen)
        model.compile(optimizer, "mse")
        model.fit(*data, batch_size=4, shuffle=False, verbose=0)
        found.append(values(model))
    for one in sets:
        hvd().remove_process_set(one)
    alone, apart = found
    difference = max(float(np.abs(a - b).max()) for a, b in zip(alone, apart, strict=True))
    sums = hvd().allgather_object(float(sum(np.abs(one).sum() for one in apart)))
    return {"differences": hvd().allgather_object(difference), "sums": sums}


@both
def skipped_together(k: Any) -> dict[str, Any]:
    """An infinite gradient on rank 1: no weight moves on any rank, the scale halves on all."""
    model = dense(k)
    optimizer = tfopt.DistributedOptimizer(scaled(k, k.optimizers.SGD(0.1)))
    model.compile(optimizer, "mse")
    callback = tfopt.callbacks.BroadcastState()
    targets = np.full((4, 2), 3e38 if hvd().rank() else 1.0, np.float32)
    before: list[Any] = []

    class Note(k.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            before.extend(values(model))

    model.fit(ROWS[:4], targets, verbose=0, callbacks=[callback, Note()])
    scale = optimizer.loss_scale if k is keras2 else optimizer.dynamic_scale
    moved = max(
        float(np.abs(one - other).max()) for one, other in zip(before, values(model), strict=True)
    )
    return {"moved": hvd().allgather_object(moved), "scale": hvd().allgather_object(float(scale))}


@both
def callbacks(k: Any) -> dict[str, Any]:
    k.utils.set_random_seed(100 + hvd().rank())
    model = dense(k)
    optimizer = tfopt.DistributedOptimizer(k.optimizers.Adam(0.01))
    model.compile(optimizer, "mse", metrics=["mae"])
    rank = hvd().rank()
    data = (ROWS[rank::2], TARGETS[rank::2])
    rates: list[float] = []

    class Note(k.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            rates.append(float(np.asarray(model.optimizer.learning_rate)))

    history = model.fit(
        *data,
        batch_size=4,
        epochs=3,
        verbose=0,
        validation_data=(ROWS[rank::2][:4], TARGETS[rank::2][:4]),
        callbacks=[
            *tfopt.callbacks.for_horovod(data),
            tfopt.callbacks.WarmUp(0.01, epochs=2),
            Note(),
        ],
    ).history
    consistency.require_equal_weights([*model.variables, *agreeing(model.optimizer)])
    everyone = hvd().allgather_object({name: list(map(float, h)) for name, h in history.items()})
    return {"histories": everyone, "rates": rates}


def agreeing(optimizer: Any) -> list[Any]:
    found = optimizer.variables
    return list(found() if callable(found) else found)


@both
def first_step_builds(k: Any) -> dict[str, Any]:
    """A model without weights before its first step is broadcast right after it."""
    k.utils.set_random_seed(100 + hvd().rank())
    model = k.Sequential([k.layers.Dense(3), k.layers.Dense(2)])
    model.compile(tfopt.DistributedOptimizer(k.optimizers.SGD(0.1, momentum=0.9)), "mse")
    part = slice(hvd().rank(), None, 2)
    model.fit(
        ROWS[part], TARGETS[part], batch_size=4, verbose=0, callbacks=tfopt.callbacks.for_horovod()
    )
    consistency.require_equal_weights(model.variables)
    return {"variables": len(model.variables)}


@both
def statistics(k: Any) -> dict[str, Any]:
    """Batch normalization drifts apart, and is one again when an epoch has ended (F26)."""
    found = {}
    for name, chosen in (("without", []), ("with", [tfopt.callbacks.MeanOfState()])):
        k.utils.set_random_seed(7)
        model = k.Sequential(
            [k.Input((6,)), k.layers.Dense(5), k.layers.BatchNormalization(), k.layers.Dense(2)]
        )
        model.compile(tfopt.DistributedOptimizer(k.optimizers.SGD(0.01)), "mse")
        part = slice(hvd().rank(), None, 2)
        model.fit(
            ROWS[part] + 3 * hvd().rank(), TARGETS[part], batch_size=4, verbose=0, callbacks=chosen
        )
        norm = model.layers[1]
        found[name] = hvd().allgather_object(np.asarray(norm.moving_mean).tolist())
    return found


@both
def saved_and_loaded(k: Any) -> dict[str, Any]:
    """A compiled model goes on from its file as if it had not been saved."""
    setting = Setting(lambda k: k.optimizers.Adam(0.01), tolerance=ADAM)
    x, y, batch = batches(setting, BATCH, is_part=True)
    model = train(k, setting, is_part=True)
    folder = Path(tempfile.mkdtemp())
    model.save(folder / "model.keras")
    known = {"DistributedOptimizer": tfopt.DistributedOptimizer} if k is keras3 else None
    loaded = k.models.load_model(folder / "model.keras", custom_objects=known)
    for one in (model, loaded):
        one.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
        consistency.require_equal_weights(one.variables)
    pairs = zip(values(model), values(loaded), strict=True)
    return {
        "difference": max(float(np.abs(one - other).max()) for one, other in pairs),
        "kind": type(loaded.optimizer).__name__,
        "rate": float(np.asarray(loaded.optimizer.learning_rate)),
    }


@both
def plain_optimizer(k: Any) -> dict[str, Any]:
    return planted(k, k.optimizers.SGD(0.1), dense)


@case
def horovods_own_around_keras_3() -> dict[str, Any]:
    """F25."""
    from horovod.tensorflow.keras import DistributedOptimizer

    optimizer = DistributedOptimizer(keras3.optimizers.SGD(0.1))
    named = planted(keras3, optimizer, dense)
    agreement_alone = [tfopt.callbacks.RequireAgreement()]
    optimizer = DistributedOptimizer(keras3.optimizers.SGD(0.1))
    found = planted(keras3, optimizer, dense, agreement_alone)
    return {"errors": named["errors"] + found["errors"]}


@case
def horovods_own_with_a_custom_step() -> dict[str, Any]:
    """F24."""
    from horovod.tensorflow.keras import DistributedOptimizer

    return planted(keras2, DistributedOptimizer(keras2.optimizers.SGD(0.1)), custom_step)


def planted(
    k: Any, optimizer: Any, build: Callable[[Any], Any], callbacks: Any = None
) -> dict[str, Any]:
    def action() -> None:
        k.utils.set_random_seed(7)
        model = build(k)
        model.compile(optimizer, "mse")
        part = slice(hvd().rank(), None, 2)
        chosen = callbacks or [
            tfopt.callbacks.BroadcastState(),
            tfopt.callbacks.RequireAgreement(),
        ]
        model.fit(ROWS[part], TARGETS[part], batch_size=4, verbose=0, callbacks=chosen)

    return raised(action)


@both
def same_data(k: Any) -> dict[str, Any]:
    """F39."""

    def action() -> None:
        model = dense(k)
        model.compile(tfopt.DistributedOptimizer(k.optimizers.SGD(0.1)), "mse")
        chosen = tfopt.callbacks.for_horovod((ROWS, TARGETS))
        model.fit(ROWS, TARGETS, batch_size=4, verbose=0, callbacks=chosen)

    return raised(action)


@case
def same_data_shuffled() -> dict[str, Any]:
    rows = np.random.default_rng(hvd().rank()).permutation(np.arange(3000, dtype=np.float32))
    data = tf.data.Dataset.from_tensor_slices(rows).batch(100)

    def action() -> None:
        callback = tfopt.callbacks.RequireShards(data, rows=500)
        callback.set_params({"steps": 30})
        callback.on_train_begin()

    return raised(action)


@case
def equal_rows_in_shards() -> dict[str, Any]:
    """Rows of ten kinds are in every shard, rightly."""
    rows = np.random.default_rng(hvd().rank()).integers(0, 10, 500) + 100 * hvd().rank()
    rows[:200] = np.arange(200) % 5
    return raised(lambda: consistency.require_different_batches(rows))


@both
def unequal_steps(k: Any) -> dict[str, Any]:
    def action() -> None:
        model = dense(k)
        model.compile(tfopt.DistributedOptimizer(k.optimizers.SGD(0.1)), "mse")
        count = 16 + 8 * hvd().rank()
        chosen = tfopt.callbacks.for_horovod()
        model.fit(ROWS[:count], TARGETS[:count], batch_size=4, verbose=0, callbacks=chosen)

    return raised(action)


@both
def stops_on_one_rank(k: Any) -> dict[str, Any]:
    class Stop(k.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if hvd().rank() == 1:
                self.model.stop_training = True

    def action() -> None:
        model = dense(k)
        model.compile(tfopt.DistributedOptimizer(k.optimizers.SGD(0.1)), "mse")
        part = slice(hvd().rank(), None, 2)
        chosen = [*tfopt.callbacks.for_horovod(), Stop()]
        model.fit(ROWS[part], TARGETS[part], batch_size=4, epochs=3, verbose=0, callbacks=chosen)

    return raised(action)


@case
def different_models() -> dict[str, Any]:
    def action() -> None:
        model = keras2.Sequential([keras2.Input((6,)), keras2.layers.Dense(2 + hvd().rank())])
        model.compile(tfopt.DistributedOptimizer(keras2.optimizers.SGD(0.1)), "mse")
        target = np.zeros((8, 2 + hvd().rank()), np.float32)
        model.fit(ROWS[:8], target, verbose=0, callbacks=tfopt.callbacks.for_horovod())

    return raised(action)


@both
def compiled_by_xla(k: Any) -> dict[str, Any]:
    def action() -> None:
        model = dense(k)
        model.compile(tfopt.DistributedOptimizer(k.optimizers.SGD(0.1)), "mse", jit_compile=True)
        model.fit(ROWS[:8], TARGETS[:8], verbose=0)

    return raised(action)


@case
def loss_scaling_outside() -> dict[str, Any]:
    def action() -> None:
        model = dense(keras3)
        optimizer = tfopt.DistributedOptimizer(keras3.optimizers.SGD(0.1))
        model.compile(scaled(keras3, optimizer), "mse")
        model.fit(ROWS[:8], TARGETS[:8], verbose=0)

    return raised(action)


@case
def adasum() -> dict[str, Any]:
    found = raised(lambda: tfopt.DistributedOptimizer(keras2.optimizers.SGD(0.1), op="adasum"))
    if hvd().mpi_enabled():
        gradient = tf.constant([1.0, 0.0] if hvd().rank() else [0.0, 1.0])
        from tfopt.distributed.horovod.reduction import Reduction

        (result,) = Reduction("adasum")([gradient])
        found["result"] = result.numpy().tolist()
    return found


@case
def ranks() -> dict[str, Any]:
    return {"size": hvd().size(), "ranks": hvd().allgather_object(hvd().rank())}


def main(names: list[str]) -> None:
    results = {}
    for name in names or CASES:
        sys.stderr.write(f"case {name} {time.process_time():.1f}\n")
        try:
            found: dict[str, Any] = CASES[name]()
        except Exception:  # noqa: BLE001  # the other cases go on
            found = {"failed": traceback.format_exc()}
        # Where one rank failed and the other did not, the next collective would not fit.
        failed = [one.get("failed") for one in hvd().allgather_object(found)]
        results[name] = found if not any(failed) else {"failed": failed}
        keras2.backend.clear_session()
        keras3.backend.clear_session()
    if hvd().rank() == 0:
        sys.stdout.write("RESULTS " + json.dumps(results) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
