"""Time single inferences of a ``.tflite`` file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfopt.errors import ExportError, InputError
from tfopt.results import Latency
from tfopt.runtimes import LitertModel, open_litert
from tfopt.storage import gzip_bytes

_ROUNDS = 20


def measure_latency(
    path: str | Path, *, threads: int = 1, runs: int = 200, warmup: int = 20, probe: bool = True
) -> Latency:
    """Time a file with batch size 1 on random inputs in range.

    Args:
        path: A ``.tflite`` file.
        threads: Interpreter threads, ``>= 1``.
        runs: Timed inferences, ``>= 1``.
        warmup: Inferences before the first timed one, ``>= 0``.
        probe: Run the file in a child process first; False when that has been done.

    Returns:
        Median and 90th percentile, in milliseconds.

    Raises:
        InputError: If a number is out of range, or the file is missing or damaged.
        ExportError: If the runtime cannot run the file.
    """
    (latency,) = measure_interleaved([path], threads=threads, runs=runs, warmup=warmup, probe=probe)
    return latency


def measure_interleaved(
    paths: Sequence[str | Path],
    *,
    threads: int = 1,
    runs: int = 200,
    warmup: int = 20,
    probe: bool = True,
) -> list[Latency]:
    """Time several files in turns, so that they meet the same moods of the machine.

    The runs of each file are spread over rounds (A B C A B C ...); each turn begins
    with one untimed inference, since the files push each other out of the caches.

    Args:
        paths: ``.tflite`` files.
        threads: Interpreter threads, ``>= 1``.
        runs: Timed inferences of each file, ``>= 1``.
        warmup: Inferences of each file before the first timed one, ``>= 0``.
        probe: Run the files in a child process first; False when that has been done.

    Returns:
        One latency for each file, in order.

    Raises:
        InputError: If a number is out of range, or a file is missing or damaged.
        ExportError: If the runtime cannot run a file.
    """
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if value < least:
            raise InputError(f"{name} must be at least {least}. Received: {value}.")
    models = [open_litert(path, threads=threads, probe=probe) for path in paths]
    nanoseconds: list[list[int]] = [[] for _ in models]
    for model in models:
        model.load_random()
        _time(model, warmup)
    rounds = min(_ROUNDS, runs) if len(models) > 1 else 1
    for turn in range(rounds):
        share = runs // rounds + (turn < runs % rounds)
        for model, times in zip(models, nanoseconds, strict=True):
            if len(models) > 1:
                _time(model, 1)
            times += _time(model, share)
    return [_latency(times, threads, warmup) for times in nanoseconds]


def _time(model: LitertModel, runs: int) -> list[int]:
    times = []
    try:
        for _ in range(runs):
            started = time.perf_counter_ns()
            model.invoke_once()
            times.append(time.perf_counter_ns() - started)
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"{model.path} stopped running while it was timed: {error}") from error
    return times


def _latency(nanoseconds: Sequence[int], threads: int, warmup: int) -> Latency:
    p50, p90 = np.percentile(np.asarray(nanoseconds) / 1e6, [50, 90])
    return Latency(
        p50=float(p50), p90=float(p90), threads=threads, runs=len(nanoseconds), warmup=warmup
    )


def interleaved_lines(files: Sequence[Path], *, threads: int, runs: int, warmup: int) -> list[str]:
    """Time files in turns, and return what was measured as lines for people.

    Raises:
        TfoptError: As ``measure_interleaved``.
    """
    measured = measure_interleaved(files, threads=threads, runs=runs, warmup=warmup)
    first = measured[0].p50
    lines = [f"{threads} thread(s), {runs} runs after {warmup} warm-up runs, batch 1, interleaved"]
    for file, latency in zip(files, measured, strict=True):
        ratio = f"{latency.p50 / first:.2f}x" if first else "n/a"
        lines.append(
            f"{file}: p50 {latency.p50:.4f} ms, p90 {latency.p90:.4f} ms, {ratio} of the first; "
            f"{file.stat().st_size:,} bytes, {gzip_bytes(file):,} after gzip"
        )
    return lines
