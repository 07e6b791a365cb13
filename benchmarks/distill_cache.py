"""What an epoch of distillation from a cache costs beside training the student alone.

    python benchmarks/distill_cache.py                  # about two minutes

The teacher is `lenet5`, the student a tenth of it, on 4,000 of the MNIST-5k digits. After one
warm-up epoch each, the kinds of epoch take turns. Each is divided by the epoch of the student
alone of the same round, which met much the same load of the machine, and the medians over rounds
are printed: of wall time, which is judged, and of processor time, which other processes
disturb less. Student and distiller read the same kind of dataset in the same batches, and compute
the same hard loss and accuracy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from distill_mnist import digits, hard_loss, small_lenet

from tfopt.distillation import Distiller, TeacherCache, cache_teacher
from tfopt.keras2.core import Model, keras
from tfopt.models.zoo.lenet import lenet5

LIMIT = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    print(__doc__.splitlines()[0])
    keras.utils.set_random_seed(0)
    train, _ = digits(0, rows=4000)
    teacher = lenet5((28, 28, 1), 10)
    with tempfile.TemporaryDirectory() as folder:
        seconds, cache = timed(lambda: cache_teacher(teacher, train, Path(folder)))
        print(f"filling the cache: {seconds:.2f} s, {cache.computed_rows:,} rows")
        seconds, again = timed(lambda: cache_teacher(teacher, train, Path(folder)))
        print(
            f"opening it again:            {seconds:.2f} s, {again.computed_rows:,} rows computed"
        )
    epochs = {
        "student alone": alone(cache, options.batch),
        "distilled, cached": distilled(cache, teacher, options.batch, is_cached=True),
        "distilled, teacher live": distilled(cache, teacher, options.batch, is_cached=False),
    }
    for epoch in epochs.values():
        epoch()
    wall: dict[str, list[float]] = {name: [] for name in epochs}
    processor: dict[str, list[float]] = {name: [] for name in epochs}
    for number in range(options.rounds):
        names = list(epochs)
        for name in names[number % 3 :] + names[: number % 3]:
            started = time.process_time()
            wall[name].append(timed(epochs[name])[0])
            processor[name].append(time.process_time() - started)
    print("\nepoch                     median s   beside the student alone: wall   processor")
    for name in epochs:
        print(
            f"{name:<26}{statistics.median(wall[name]):.3f}"
            f"{beside(wall, name):>35.3f}x{beside(processor, name):>11.3f}x"
        )
    ratio = beside(wall, "distilled, cached")
    verdict = "ok" if ratio <= LIMIT else "MISSED"
    print(f"\ncached distillation {ratio:.3f}x, limit {LIMIT}x: {verdict}")


def beside(seconds: dict[str, list[float]], name: str) -> float:
    """Return the median over rounds of an epoch's time over that of the student alone."""
    return float(np.median(np.divide(seconds[name], seconds["student alone"])))


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = function()
    return time.perf_counter() - started, found


def alone(cache: TeacherCache, batch: int) -> Callable[[], Any]:
    student = small_lenet()
    student.compile("adam", hard_loss(), metrics=["accuracy"])
    rows = cache.dataset(batch).map(lambda taught, label: (taught.inputs, label))
    return lambda: student.fit(rows, verbose=0)


def distilled(
    cache: TeacherCache, teacher: Model, batch: int, *, is_cached: bool
) -> Callable[[], Any]:
    distiller = Distiller(small_lenet(), teacher)
    distiller.compile("adam", hard_loss(), metrics=["accuracy"])
    rows = cache.dataset(batch)
    if not is_cached:
        rows = rows.map(lambda taught, label: (taught.inputs, label))
    return lambda: distiller.fit(rows, verbose=0)


if __name__ == "__main__":
    main()
