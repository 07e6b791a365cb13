"""Time a training step of tfopt against a bare tf_keras fit.

    python benchmarks/overhead.py [--rounds 7] [--epochs 6]

Both sides train the same LeNet-5 on the same batches of mnist5k (64 rows, augmented), with
the same optimizer, loss and metric. tfopt also checks the loss, logs, and writes a
checkpoint after each epoch. The sides take turns, and each round trains anew.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfopt.data.epochs import EpochPlan
from tfopt.reporting.process_log import quiet_tensorflow

with quiet_tensorflow():
    import tensorflow as tf

    from tfopt.config.schema import Augment, Data, Train
    from tfopt.config.schema import Model as ModelSettings
    from tfopt.data.load import DataBundle, load_data
    from tfopt.keras2 import graph
    from tfopt.keras2.core import Model, keras
    from tfopt.models.build import build_model
    from tfopt.reporting.console import make_reporter
    from tfopt.training.job import FitJob
    from tfopt.training.loop import fit
    from tfopt.training.optimizers import make_optimizer
    from tfopt.training.task import Task, read_task

BATCH_SIZE = 64
AUGMENT = Augment(shift=0.1, rotate_degrees=10, zoom=0.1)


@dataclass(frozen=True)
class Cost:
    """What a step takes: wall time, and CPU time of all threads, in milliseconds.

    CPU time hardly depends on what else the machine does.
    """

    wall: float
    cpu: float


class EpochEnds(keras.callbacks.Callback):
    """Notes when each epoch ended; the first one, with its tracing, is the warm-up."""

    def __init__(self) -> None:
        super().__init__()
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the time."""
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def step_ms(self, steps_per_epoch: int) -> Cost:
        """Return the mean cost of a step after the first epoch."""
        steps = steps_per_epoch * (len(self.wall) - 1)
        wall, cpu = (1000 * (t[-1] - t[0]) / steps for t in (self.wall, self.cpu))
        return Cost(wall, cpu)


def bare_fit(model: Model, data: DataBundle, task: Task, settings: Train) -> Cost:
    """Train with ``compile`` and ``fit`` alone; return the time of a step."""
    steps = data.train.steps_per_epoch(BATCH_SIZE)
    model.compile(
        optimizer=make_optimizer(settings, model, steps_per_epoch=steps),
        loss=task.keras_loss(),
        metrics=task.keras_metrics(),
    )
    ends = EpochEnds()
    batches = data.train.training_batches(
        EpochPlan(
            batch_size=BATCH_SIZE, seed=1, first_epoch=0, epochs=settings.epochs, augment=AUGMENT
        )
    )
    model.fit(
        batches,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        callbacks=[ends],
        verbose=0,
    )
    return ends.step_ms(steps)


def tfopt_fit(model: Model, data: DataBundle, task: Task, settings: Train) -> Cost:
    """Train as ``tfopt train`` does; return the time of a step."""
    ends = EpochEnds()
    with tempfile.TemporaryDirectory() as folder:
        job = FitJob(
            model=model,
            train=data.train,
            validation=None,
            settings=settings,
            task=task,
            batch_size=BATCH_SIZE,
            augment=AUGMENT,
            seed=1,
            callbacks=[ends],
            checkpoint=Path(folder) / "checkpoint.npz",
            log_dir=Path(folder) / "logs",
        )
        fit(job, make_reporter(quiet=True))
    return ends.step_ms(job.steps_per_epoch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    # tfopt always asks for repeatable kernels, so the bare side gets them too.
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(1)
    data = load_data(Data(source="mnist5k", augment=AUGMENT), seed=1)
    settings = Train(epochs=options.epochs, optimizer="adam")
    lenet = build_model(
        ModelSettings(builder="lenet5"), input_shape=data.input_shape, classes=data.classes, seed=1
    )
    task = read_task(lenet, data.train, classes=data.classes, train=settings)
    sides: dict[str, Callable[..., Cost]] = {"bare fit": bare_fit, "tfopt": tfopt_fit}
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(options.rounds):
        # Whoever goes first may find the machine warmer or colder, so the order changes.
        for name in sorted(sides, reverse=bool(number % 2)):
            costs[name].append(sides[name](graph.copy(lenet), data, task, settings))
    steps = data.train.steps_per_epoch(BATCH_SIZE)
    for what in ("wall", "cpu"):
        times = {name: [getattr(c, what) for c in measured] for name, measured in costs.items()}
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, values in times.items():
            each = " ".join(f"{value:.2f}" for value in values)
            print(f"{what:4} {name:9} median {medians[name]:.3f} ms a step  ({each})")
        pairs = zip(times["tfopt"], times["bare fit"], strict=True)
        print(
            f"{what:4} tfopt / bare fit: {medians['tfopt'] / medians['bare fit']:.3f} of the "
            f"medians, {statistics.median(own / bare for own, bare in pairs):.3f} the median ratio"
        )
    print(
        f"{options.rounds} rounds of {options.epochs} epochs of {steps} steps, batch {BATCH_SIZE}; "
        f"warm-up: the first epoch of each; {os.cpu_count()} CPU threads"
    )


if __name__ == "__main__":
    with quiet_tensorflow():
        main()
