from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.distillation import (
    CallableTeacher,
    Distiller,
    FeatureLoss,
    SavedModelTeacher,
    SoftTargets,
    as_teacher,
    snapshot,
)
from tfopt.errors import BackendMissing, ExitCode, InputError, ModelError
from tfopt.keras2.core import Model, keras

L = keras.layers
Maker = Callable[..., Model]
Rows = tuple[np.ndarray, np.ndarray]


def loss_with(teacher: Any, student: Model, x: Any, losses: Any = None) -> tuple[float, float]:
    """Return the loss of evaluate, and that of a training step without a rate."""
    distiller = Distiller(student, teacher, losses=losses)
    distiller.compile(keras.optimizers.SGD(0.0))
    before = distiller.evaluate(x, verbose=0, return_dict=True)["loss"]
    return before, distiller.fit(x, verbose=0, batch_size=8).history["loss"][0]


@pytest.fixture
def kinds(dense: Maker, rows: Rows, tmp_path: Path) -> dict[str, Any]:
    model = dense(8)
    model.save(tmp_path / "saved", save_format="tf")
    file = tmp_path / "teacher.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    kernel, bias, last, last_bias = model.get_weights()
    return {
        "model": model,
        "SavedModel": tmp_path / "saved",
        "signature": SavedModelTeacher(str(tmp_path / "saved"), signature="serving_default"),
        "tflite": str(file),
        "tensors": lambda x: model(x, training=False),
        "tf.function": tf.function(lambda x: model(x, training=False)),
        "NumPy": lambda x: np.maximum(x @ kernel + bias, 0).astype(float) @ last + last_bias,
    }


def test_every_kind_of_teacher_teaches_the_same(
    kinds: dict[str, Any], dense: Maker, rows: Rows
) -> None:
    student = dense(3)
    found = {name: loss_with(teacher, student, rows[0]) for name, teacher in kinds.items()}
    wanted = found["model"][0]
    assert wanted > 1e-3
    assert found == {name: (pytest.approx(wanted, rel=1e-3),) * 2 for name in kinds}


def test_only_what_gives_arrays_leaves_the_graph(kinds: dict[str, Any], rows: Rows) -> None:
    outside = set()
    for name, one in kinds.items():
        teacher = as_teacher(one)
        teacher(tf.constant(rows[0]))
        outside |= {name} if teacher.is_numpy else set()
    assert outside == {"tflite", "NumPy"}


def test_a_teacher_outside_of_the_graph_and_xla(
    kinds: dict[str, Any], dense: Maker, rows: Rows
) -> None:
    distiller = Distiller(dense(3), kinds["NumPy"])
    distiller.compile("sgd", jit_compile=True)
    with pytest.raises(InputError, match="outside of the graph, which XLA cannot compile"):
        distiller.fit(rows[0], verbose=0)


def test_a_softmax_from_a_file_is_seen(dense: Maker, rows: Rows, tmp_path: Path) -> None:
    logits = dense(8)
    soft = keras.Model(logits.input, L.Softmax()(logits.output))
    file = tmp_path / "soft.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(soft).convert())
    student = dense(3)
    wanted = loss_with(logits, student, rows[0])[0]
    assert loss_with(file, student, rows[0])[0] == pytest.approx(wanted, rel=1e-3)


def test_features_of_a_function_are_its_outputs(dense: Maker, rows: Rows) -> None:
    model = dense(3)
    both = keras.Model(
        model.input, {"out": model.output, "inner": model.get_layer("hidden").output}
    )
    teacher = CallableTeacher(lambda x: both(x, training=False), name="the pair")
    losses = [
        SoftTargets(teacher_output="out"),
        FeatureLoss("hidden", "inner"),
    ]
    assert loss_with(teacher, dense(3), rows[0], losses)[0] > 0
    with pytest.raises(ModelError, match=r"the pair gives no tensor 'iner'\. Did you mean 'inner'"):
        loss_with(teacher, dense(3), rows[0], [losses[0], FeatureLoss("hidden", "iner")])


def test_a_subclassed_teacher(dense: Maker, rows: Rows) -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = L.Dense(4)

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs)

    assert loss_with(Own(), dense(3), rows[0])[0] > 0
    with pytest.raises(InputError, match="subclassed model, whose code cannot be hashed"):
        as_teacher(Own()).fingerprint()
    with pytest.raises(ModelError, match="subclassed model, so its tensor 'inner' cannot be seen"):
        Distiller(dense(3), Own(), losses=FeatureLoss("hidden", "inner"))


def test_fingerprints_follow_the_content(kinds: dict[str, Any], dense: Maker) -> None:
    for name in ("model", "SavedModel", "tflite"):
        assert as_teacher(kinds[name]).fingerprint() == as_teacher(kinds[name]).fingerprint()
    before = as_teacher(kinds["model"]).fingerprint()
    weight = kinds["model"].weights[0]
    weight.assign(weight + 1e-6)
    assert as_teacher(kinds["model"]).fingerprint() != before
    with pytest.raises(InputError, match="its content cannot be hashed.*key="):
        as_teacher(kinds["NumPy"]).fingerprint()
    keys = {CallableTeacher(kinds["NumPy"], key=key).fingerprint() for key in ("a", "b", "a")}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("teacher", "error", "message"),
    [
        (7, InputError, "must be a model, a path or a function.*Received: int"),
        ("gone.tflite", InputError, "gone.tflite"),
        ("gone", InputError, "The teacher 'gone' does not exist. Give a .keras"),
        ("teacher.keras", InputError, r"tfopt\.load\('teacher\.keras'\)"),
        (Path(), ModelError, "has no saved_model.pb"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_is_no_teacher(teacher: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        as_teacher(teacher)


def test_a_signature_that_is_not_there(kinds: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no signature 'other'. It has: serving_default"):
        SavedModelTeacher(kinds["SavedModel"], signature="other")


def test_onnx_without_its_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendMissing, match="Run: pip install onnxruntime") as caught:
        as_teacher(tmp_path / "teacher.onnx")
    assert caught.value.exit_code == ExitCode.BACKEND_MISSING == 5


def test_a_snapshot_goes_its_own_way(dense: Maker, rows: Rows) -> None:
    model = dense(3)
    copy = snapshot(model)
    np.testing.assert_array_equal(copy(rows[0]), model(rows[0]))
    model.weights[0].assign(model.weights[0] * 2)
    assert not np.allclose(copy.weights[0], model.weights[0])
