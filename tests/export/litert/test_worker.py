import dataclasses
import json
import os
import signal

import pytest
import tensorflow as tf

from tfopt.export.litert.worker import Job, _operator_sets, main

JOB = Job(
    saved_model="none",
    result="none.tflite",
    calibration=None,
    inputs=("x",),
    outputs=("y",),
    precision="int8",
    has_trained_ranges=False,
    select_tf_ops=False,
    allow_float=False,
    time_limit_seconds=60.0,
)
SETS = tf.lite.OpsSet
INT16 = SETS.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "float32"}, [SETS.TFLITE_BUILTINS]),
        ({"precision": "int8"}, [SETS.TFLITE_BUILTINS_INT8, SETS.TFLITE_BUILTINS]),
        ({"precision": "int8_io", "has_trained_ranges": True}, [SETS.TFLITE_BUILTINS]),
        ({"precision": "int16x8"}, [INT16]),
        ({"precision": "int16x8", "allow_float": True}, [INT16, SETS.TFLITE_BUILTINS]),
        (
            {"precision": "dynamic", "select_tf_ops": True},
            [SETS.TFLITE_BUILTINS, SETS.SELECT_TF_OPS],
        ),
    ],
)
def test_operator_sets(changes, expected):
    assert _operator_sets(SETS, dataclasses.replace(JOB, **changes)) == expected


def test_a_failure_is_written_down_for_the_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    job = dataclasses.replace(
        JOB, saved_model=str(tmp_path / "none"), result=str(tmp_path / "m.tflite")
    )
    (tmp_path / "job.json").write_text(job.to_json())
    main(str(tmp_path / "job.json"))
    left = signal.alarm(0)
    assert "does not exist" in (tmp_path / "m.error").read_text()
    assert not (tmp_path / "m.tflite").exists()
    # An orphan ends itself some time after its limit.
    assert 60 <= left <= 70
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_job_survives_json():
    assert json.loads(JOB.to_json()) == {
        **dataclasses.asdict(JOB),
        "inputs": ["x"],
        "outputs": ["y"],
    }
