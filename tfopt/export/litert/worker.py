"""The conversion itself: ``python -m tfopt.export.litert.worker JOB.json``.

It runs in a process of its own, because the converter is native code that can crash, hang,
or print pages of diagnostics.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfopt.runtimes.litert.compact import share_equal_lists
from tfopt.runtimes.litert.flatbuffer import order_interface


@dataclass(frozen=True, slots=True)
class Job:
    """What to convert.

    Attributes:
        saved_model: Folder with one inference signature.
        result: File to write.
        calibration: ``.npz`` of rows (``input_0``, ...), or None.
        inputs: Names of the inputs in the model's order.
        outputs: Names of the outputs in the model's order.
        precision: A precision of the recipe.
        has_trained_ranges: Whether the ranges come from training.
        select_tf_ops: Allow TensorFlow ops.
        allow_float: For ``int16x8``: leave ops that lack an int16 kernel in float.
        time_limit_seconds: The process ends itself some time after this limit, should
            its parent be gone by then.
    """

    saved_model: str
    result: str
    calibration: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str
    has_trained_ranges: bool
    select_tf_ops: bool
    allow_float: bool
    time_limit_seconds: float

    def to_json(self) -> str:
        """Return the job as JSON text."""
        return json.dumps(asdict(self))


def convert(job: Job) -> bytes:
    """Return the ``.tflite`` file of a job."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        job.saved_model, signature_keys=["serving_default"]
    )
    if job.precision != "float32":
        # Without it a model with trained ranges stays in float (footgun F17). Never
        # EXPERIMENTAL_SPARSITY: with dynamic range the file cannot be run (F35).
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    converter.target_spec.supported_ops = _operator_sets(tf.lite.OpsSet, job)
    if job.precision == "int8_io":
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    if job.calibration is not None:
        converter.representative_dataset = _rows(job.calibration, job.inputs)
    ordered = order_interface(converter.convert(), job.inputs, job.outputs)
    return share_equal_lists(ordered)


def _operator_sets(sets: Any, job: Job) -> list[Any]:
    chosen = [sets.TFLITE_BUILTINS]
    if job.precision == "int16x8":
        int16 = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        chosen = [int16, *(chosen if job.allow_float else [])]
    elif job.precision in {"int8", "int8_io"} and not job.has_trained_ranges:
        # Both: an op that the quantizer does not take stays in float.
        chosen = [sets.TFLITE_BUILTINS_INT8, sets.TFLITE_BUILTINS]
    return [*chosen, sets.SELECT_TF_OPS] if job.select_tf_ops else chosen


def _rows(archive: str, names: tuple[str, ...]) -> Callable[[], Iterator[dict[str, Any]]]:
    def rows() -> Iterator[dict[str, Any]]:
        with np.load(archive) as loaded:
            arrays = [loaded[f"input_{index}"] for index in range(len(names))]
        for position in range(len(arrays[0])):
            yield {
                name: array[position : position + 1]
                for name, array in zip(names, arrays, strict=True)
            }

    return rows


def main(job_file: str) -> None:
    """Convert, and write the file or the error beside it."""
    raw = json.loads(Path(job_file).read_text())
    job = Job(**{**raw, "inputs": tuple(raw["inputs"]), "outputs": tuple(raw["outputs"])})
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(job.time_limit_seconds) + 10)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the converter needs no GPU, and training may
    result = Path(job.result)
    try:
        content = convert(job)
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent reports it
        result.with_suffix(".error").write_text(f"{type(error).__name__}: {error}")
    else:
        result.write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1])
