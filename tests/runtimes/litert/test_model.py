import json
import subprocess
import sys

import numpy as np
import pytest

from tfopt.errors import DataError, ExportError, VerificationError
from tfopt.runtimes import TensorInfo, open_litert


@pytest.fixture
def dense(file_of):
    return open_litert(file_of("dense"), probe=False)


def test_float_outputs_equal_the_source_model(file_of, source_models):
    model = open_litert(file_of("convolution"), probe=False)
    rows = np.random.default_rng(0).normal(size=(70, 8, 8, 1)).astype("float32")
    expected = source_models["convolution"].predict(rows, verbose=0)
    # 70 rows go through in two invocations of different batch size.
    np.testing.assert_allclose(model.predict(rows), expected, atol=1e-5)
    assert model.fixed_batch is None
    assert model.inputs == (TensorInfo("image", (None, 8, 8, 1), "float32"),)


def test_fixed_batch_loops_over_rows(file_of, source_models):
    for batch in (1, 4):
        model = open_litert(file_of("dense", batch=batch), probe=False)
        rows = np.random.default_rng(0).normal(size=(6, 6)).astype("float32")
        assert model.fixed_batch == batch
        expected = source_models["dense"].predict(rows, verbose=0)
        np.testing.assert_allclose(model.predict(rows), expected, atol=1e-5)


def test_recurrent_state_does_not_leak_between_rows(file_of, source_models):
    model = open_litert(file_of("recurrent"), probe=False)
    assert model.keeps_state
    rows = np.random.default_rng(0).normal(size=(4, 5, 4)).astype("float32")
    expected = source_models["recurrent"].predict(rows, verbose=0)
    np.testing.assert_allclose(model.predict(rows), expected, atol=1e-5)
    # Without the reset the same row would give something else.
    model._set([rows[:1]])
    model.invoke_once()
    leaked = model._interpreter.get_tensor(model._output_details[0]["index"])
    assert np.abs(leaked - expected[:1]).max() > 1e-4


def test_several_inputs_by_order_and_by_keras_name(file_of, source_models):
    model = open_litert(file_of("several"), probe=False)
    generator = np.random.default_rng(0)
    zeta, alpha = (generator.normal(size=(5, size)).astype("float32") for size in (4, 3))
    expected = source_models["several"].predict([zeta, alpha], verbose=0)
    by_order = model.predict((zeta, alpha))
    by_name = model.predict({"alpha-1": alpha, "zeta": zeta})
    assert [info.name for info in model.outputs] == ["second", "first"]
    for ours, named, theirs in zip(by_order, by_name, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        np.testing.assert_array_equal(ours, named)


def test_integer_interface_takes_and_gives_real_values(file_of, source_models, calibration):
    rows = calibration["convolution"]
    inside = open_litert(file_of("convolution", "int8"), probe=False)
    throughout = open_litert(file_of("convolution", "int8_io"), probe=False)
    assert throughout.inputs[0].dtype == throughout.outputs[0].dtype == "int8"
    ours, ends = inside.predict(rows), throughout.predict(rows)
    step = throughout.outputs[0].scale
    assert ours.dtype == ends.dtype == np.float32
    # Our rounding on the way in is the runtime's, but for halves.
    assert np.abs(ours - ends).max() <= 2 * step
    expected = source_models["convolution"].predict(rows, verbose=0)
    assert np.abs(ends - expected).max() < 20 * step


def test_rows_that_already_have_the_files_type_are_taken_as_they_are(file_of):
    model = open_litert(file_of("dense", "int8_io"), probe=False)
    info = model.inputs[0]
    raw = np.random.default_rng(0).integers(-100, 100, (3, 6)).astype("int8")
    real = (raw.astype("float32") - info.zero_point) * np.float32(info.scale)
    np.testing.assert_array_equal(model.predict(raw), model.predict(real))


def test_bytes_as_input(file_of, source_models):
    model = open_litert(file_of("image_bytes"), probe=False)
    rows = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1))
    expected = source_models["image_bytes"].predict(rows.astype("uint8"), verbose=0)
    np.testing.assert_allclose(model.predict(rows), expected, atol=1e-5)
    with pytest.raises(DataError, match="outside the range of uint8"):
        model.predict(rows + 1000)
    with pytest.raises(DataError, match="must be uint8.*Received: float64"):
        model.predict(rows / 255)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 7)), r"must be float32 of shape \(rows, 6\).*shape \(2, 7\)"),
        (np.zeros(6), r"Received: float64 of shape \(6,\)"),
        (np.zeros((2, 6, 1)), r"shape \(2, 6, 1\)"),
        (np.zeros((2, 6), complex), "complex128"),
        (np.array([["a"] * 6]), "Received: <U1"),
        (np.zeros((0, 6)), "no rows"),
        ([np.zeros((1, 6)), np.zeros((1, 6)), np.zeros((1, 5))], "not regular arrays"),
        (None, "Received: object"),
    ],
)
def test_rows_that_do_not_fit_are_named(dense, rows, message):
    with pytest.raises(DataError, match=message):
        dense.predict(rows)


def test_nothing_is_broadcast(dense):
    with pytest.raises(DataError, match="shape"):
        dense.predict(np.zeros((3, 1)))


def test_wrong_inputs_of_a_model_with_several(file_of):
    model = open_litert(file_of("several"), probe=False)
    zeta, alpha = np.zeros((2, 4)), np.zeros((2, 3))
    with pytest.raises(DataError, match=r"2 inputs \['zeta', 'alpha_1'\]. Received: one array"):
        model.predict(zeta)
    with pytest.raises(DataError, match="Received: 3 arrays"):
        model.predict([zeta, alpha, alpha])
    with pytest.raises(DataError, match="did you mean 'zeta'|Did you mean 'zeta'"):
        model.predict({"zet": zeta, "alpha-1": alpha})
    with pytest.raises(DataError, match="differ in their number of rows"):
        model.predict((zeta, alpha[:1]))


def test_nan_cannot_be_quantized(file_of):
    model = open_litert(file_of("dense", "int8_io"), probe=False)
    with pytest.raises(DataError, match="NaN or infinity, which int8 lacks"):
        model.predict(np.full((1, 6), np.nan))


def test_custom_operators_are_named(file_of):
    with pytest.raises(ExportError, match="needs FlexErf, TensorFlow operators"):
        open_litert(file_of("erf"))
    looked_at = open_litert(file_of("erf"), to_run=False)
    assert [op.name for op in looked_at.operators() if op.is_custom] == ["FlexErf"]


def test_an_output_without_rows_is_refused(file_of, dense, monkeypatch):
    monkeypatch.setattr(dense._interpreter, "get_tensor", lambda _: np.zeros((0, 4)))
    with pytest.raises(VerificationError, match="shape .0, 4. for 2 row.*empty"):
        dense.predict(np.zeros((2, 6)))


def test_the_runtimes_chatter_stays_away_from_the_user(file_of):
    code = (
        "import sys, numpy as np; from tfopt.runtimes import open_litert;"
        f"open_litert({json.dumps(str(file_of('dense')))}, probe=False).predict(np.ones((2, 6)));"
        "sys.stderr.write('ours')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "ours"


def test_tensorflow_is_not_imported():
    code = "import sys, tfopt.runtimes; print([m for m in sys.modules if m[:6] == 'tensor'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
