"""Examine this machine: versions, and whether each part really works here."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tfopt.errors import BackendMissing
from tfopt.evaluation.machine import describe_machine, package_versions
from tfopt.version import TESTED_VERSIONS, untested

_LOW_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Attributes:
        name: What was tried.
        is_ok: Whether it works.
        detail: What was seen, or the error.
        is_required: Whether tfopt cannot work without it.
    """

    name: str
    is_ok: bool
    detail: str
    is_required: bool = True


class _Absent(Exception):
    """Something optional is not as it could be; the message says what, and what to do."""


def examine() -> list[Finding]:
    """Try every part that tfopt stands on, and return what was found."""
    return [
        _try("TensorFlow computes", _tensorflow),
        _try("tf_keras trains", _train),
        _try("tfmot leaves tf.keras alone", _tfmot),
        _try("LiteRT converts and runs", _litert),
        _try("temporary folder", _disk),
        _try("mnist5k", _mnist, is_required=False),
        _try("tested versions", _versions, is_required=False),
        _try("added by packages", _registered, is_required=False),
        _try("GPU", _gpu, is_required=False),
        _try("tensorflow-datasets", _tfds, is_required=False),
        _try("Horovod", _horovod, is_required=False),
        _try("Horovod on two processes", _two_ranks, is_required=False),
    ]


def print_findings(findings: Sequence[Finding], *, stream: TextIO) -> None:
    """Write versions, machine and findings, to paste into a bug report."""
    for name, version in package_versions().items():
        stream.write(f"{name:<32}{version}\n")
    for name, value in describe_machine().items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        stream.write(f"{name:<32}{shown}\n")
    for finding in findings:
        state = "ok" if finding.is_ok else ("FAILED" if finding.is_required else "no")
        stream.write(f"{finding.name:<32}{state}: {finding.detail}\n")


def _try(name: str, check: Callable[[], str], *, is_required: bool = True) -> Finding:
    try:
        return Finding(name, is_ok=True, detail=check(), is_required=is_required)
    except _Absent as absent:
        return Finding(name, is_ok=False, detail=str(absent), is_required=is_required)
    except Exception as error:  # noqa: BLE001  # whatever is broken is what is reported
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding(name, is_ok=False, detail=text, is_required=is_required)


def _tensorflow() -> str:
    import tensorflow as tf

    total = float(tf.reduce_sum(tf.matmul(tf.ones((8, 8)), tf.ones((8, 8)))))
    if total != 512.0:
        raise ArithmeticError(f"8x8 ones multiplied sum to {total}, expected 512")
    return f"{len(tf.config.list_logical_devices('CPU'))} CPU device(s)"


def _train() -> str:
    import numpy as np

    from tfopt.keras2.core import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    inputs = np.ones((8, 4), np.float32)
    first = float(model.evaluate(inputs, inputs[:, :1], verbose=0))
    model.fit(inputs, inputs[:, :1], epochs=5, verbose=0)
    last = float(model.evaluate(inputs, inputs[:, :1], verbose=0))
    return f"loss {first:.3g} -> {last:.3g}"


def _tfmot() -> str:
    import tensorflow as tf

    before = tf.keras.Model
    variable = os.environ.get("TF_USE_LEGACY_KERAS")
    from tfopt.compression import tfmot

    if tf.keras.Model is not before or os.environ.get("TF_USE_LEGACY_KERAS") != variable:
        raise RuntimeError("importing tfmot switched tf.keras")
    return f"tf.keras is {before.__module__.split('.')[0]}, {tfmot.PruneLowMagnitude.__name__}"


def _litert() -> str:
    import numpy as np

    from tfopt.config.schema import LitertExport
    from tfopt.export.litert.convert import convert_litert
    from tfopt.keras2.core import keras
    from tfopt.runtimes import open_litert

    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    rows = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.tflite"
        convert_litert(model, path, settings=LitertExport(precision="int8"), calibration=rows)
        outputs = open_litert(path, probe=False).predict(rows)
        error = float(np.abs(np.asarray(outputs) - model.predict(rows, verbose=0)).max())
        return f"int8 file of {path.stat().st_size:,} bytes, largest difference {error:.3g}"


def _mnist() -> str:
    from tfopt.config.schema import Data
    from tfopt.data.load import load_data

    try:
        bundle = load_data(Data(source="mnist5k"), seed=0)
    except BackendMissing as missing:
        raise _Absent(str(missing)) from None
    return f"{bundle.train.examples} + {bundle.evaluation.examples} digits"


def _disk() -> str:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < _LOW_DISK_BYTES:
        raise OSError(f"{folder} has only {free / 1024**3:.1f} GB free")
    return f"{free / 1024**3:.0f} GB free"


def _versions() -> str:
    found = {"python": platform.python_version(), **package_versions(TESTED_VERSIONS)}
    if other := untested(found):
        raise _Absent(
            f"tfopt was not run on {', '.join(other)}. It may work; its own tests show whether."
        )
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _registered() -> str:
    from tfopt.registry import registrations

    found = registrations()
    for registration in found:
        registration.load()
    if not found:
        raise _Absent("nothing (docs/extending.md)")
    return "; ".join(map(str, found))


def _gpu() -> str:
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        raise _Absent("none is visible to TensorFlow")
    return ", ".join(device.name for device in devices)


def _tfds() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tensorflow-datasets")
    except PackageNotFoundError:
        raise _Absent("not installed; pip install 'tfopt[tfds]'") from None


def _horovod() -> str:
    from tfopt.distributed.horovod.self_test import describe_build

    try:
        return describe_build()
    except BackendMissing as missing:
        raise _Absent(str(missing)) from None


def _two_ranks() -> str:
    from tfopt.distributed.horovod.self_test import run_two_ranks

    try:
        return run_two_ranks()
    except BackendMissing as missing:
        raise _Absent(str(missing)) from None
