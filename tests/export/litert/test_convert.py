import errno
import os
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfopt import storage
from tfopt.config.schema import LitertExport
from tfopt.data.statistics import input_statistics
from tfopt.errors import DataError, ExportError, ModelError, StorageError, VerificationError
from tfopt.export.litert import convert, worker
from tfopt.export.litert.convert import convert_litert
from tfopt.keras2.core import keras
from tfopt.runtimes import open_litert

# Relative errors, several times what was measured.
LIMITS = {
    "float32": 1e-5,
    "float16": 2e-3,
    "dynamic": 0.02,
    "int8": 0.08,
    "int8_io": 0.08,
    "int16x8": 0.02,
}


def _relative_error(model, conversion, rows):
    expected = model.predict(rows, verbose=0)
    expected = expected if isinstance(expected, list) else [expected]
    found = open_litert(conversion.path, probe=False).predict(rows)
    found = found if isinstance(found, tuple) else (found,)
    return max(
        np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        for ours, theirs in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("precision", list(LIMITS))
def test_every_precision(exported, models, inputs, precision):
    conversion = exported("convolution", precision)
    assert conversion.batch == "dynamic"
    assert conversion.notes == ()
    error = _relative_error(models["convolution"], conversion, inputs["convolution"])
    assert error < LIMITS[precision]
    kinds = open_litert(conversion.path, probe=False).constant_elements()
    wanted = {"float32": "float32", "float16": "float16"}.get(precision, "int8")
    assert kinds[wanted] >= 800


@pytest.mark.parametrize("name", ["two_ended", "words", "picture"])
@pytest.mark.parametrize("precision", ["float32", "int8_io"])
def test_other_interfaces(exported, models, inputs, name, precision):
    conversion = exported(name, precision)
    assert _relative_error(models[name], conversion, inputs[name]) < LIMITS[precision]


def test_inputs_and_outputs_keep_the_models_order(exported):
    model = open_litert(exported("two_ended", "float32").path, probe=False)
    assert [info.name for info in model.inputs] == ["zeta", "alpha_1"]
    assert [info.name for info in model.outputs] == ["y_out", "b_out"]


def test_recurrent_model_gets_batch_one(exported, models, inputs):
    conversion = exported("recurrent", "int8")
    assert conversion.batch == 1
    assert any("keeps the state" in note for note in conversion.notes)
    assert _relative_error(models["recurrent"], conversion, inputs["recurrent"]) < 0.08


def test_empty_output_of_a_free_batch_falls_back_to_batch_one(exported, models, inputs):
    """F36."""
    conversion = exported("lgamma", "float32")
    assert conversion.batch == 1
    assert "fixed at 1" in conversion.notes[0]
    # TensorFlow 2.19 and 2.20 refuse the free batch; 2.21 makes a file whose output is empty.
    assert re.search("The output is empty|Could not translate MLIR", conversion.notes[0])
    assert _relative_error(models["lgamma"], conversion, inputs["lgamma"]) < 1e-4


def test_an_op_that_the_quantizer_does_not_take_stays_float(exported):
    conversion = exported("sine", "int8")
    assert "stay in floating point: SIN (" in conversion.notes[0]


def test_missing_op_is_named_with_its_layer(models, tmp_path, convert_here):
    """F32: built-in ops only, unless asked."""
    with pytest.raises(ExportError, match=r"op\(s\) Erf \(layer 'tf.math.erf\w*'\).*select_tf_ops"):
        convert_litert(
            models["erf"], tmp_path / "m.tflite", settings=LitertExport(precision="float32")
        )
    assert not list(tmp_path.iterdir())


def test_select_tf_ops_gives_a_file_that_says_it_was_not_run(exported):
    conversion = exported("erf", "float32", select_tf_ops=True)
    assert conversion.notes[0].startswith(f"not run: {conversion.path} needs FlexErf")
    with pytest.raises(ExportError, match="FlexErf"):
        open_litert(conversion.path)


@pytest.mark.skipif(
    tf.__version__.startswith("2.19."), reason="TensorFlow 2.19 calibrates through its own ops"
)
def test_calibration_through_tensorflow_ops_is_refused(models, inputs, tmp_path, convert_here):
    settings = LitertExport(precision="int8", select_tf_ops=True)
    with pytest.raises(ExportError, match="cannot be calibrated through those"):
        convert_litert(
            models["erf"], tmp_path / "m.tflite", settings=settings, calibration=inputs["erf"]
        )


def test_trained_ranges_need_no_calibration_and_leave_the_rest_float(
    trained_ranges, tmp_path, convert_here
):
    model, rows = trained_ranges
    assert convert.has_trained_ranges(model)
    path = tmp_path / "m.tflite"
    conversion = convert_litert(model, path, settings=LitertExport(precision="int8"))
    assert _relative_error(model, conversion, rows) < 0.08
    opened = open_litert(path, probe=False)
    # The dense layer that was left out keeps float weights.
    assert opened.constant_elements()["float32"] >= 32 * 40
    assert opened.constant_elements()["int8"] >= 800 * 32
    assert "stay in floating point" in conversion.notes[0]
    with pytest.raises(ExportError, match="went through quantization-aware training"):
        convert_litert(model, tmp_path / "f.tflite", settings=LitertExport(precision="float32"))


def test_without_optimization_trained_ranges_stay_float_and_that_is_seen(
    trained_ranges, tmp_path, convert_here, monkeypatch
):
    """F17."""
    real = tf.lite.TFLiteConverter.from_saved_model

    def forgetful(*arguments, **options):
        converter = real(*arguments, **options)
        kind = type(converter)
        frozen = type("Forgetful", (kind,), {"optimizations": property(lambda _: [], _ignore)})
        converter.__class__ = frozen
        return converter

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", forgetful)
    with pytest.raises(VerificationError, match=r"to be int8, but none of its \d+ compute"):
        convert_litert(
            trained_ranges[0], tmp_path / "m.tflite", settings=LitertExport(precision="int8")
        )
    assert not list(tmp_path.iterdir())


def _ignore(*_):
    """Take no value."""


def test_no_calibration_rows(models, tmp_path):
    """F33."""
    for rows in (None, np.zeros((0, 12, 12, 1))):
        with pytest.raises(DataError, match="received none"):
            convert_litert(
                models["convolution"],
                tmp_path / "m.tflite",
                settings=LitertExport(precision="int8"),
                calibration=rows,
            )


def test_wrong_scale_of_calibration_rows(models, inputs, tmp_path):
    """F34."""
    rows = inputs["convolution"]
    with pytest.raises(DataError, match="wrong scale"):
        convert_litert(
            models["convolution"],
            tmp_path / "m.tflite",
            settings=LitertExport(precision="int8"),
            calibration=rows * 255,
            statistics=input_statistics(rows),
        )


def test_sparse_encoding_is_never_asked_for(exported, models, inputs, tmp_path, convert_here):
    """F35: a model full of zeros in dynamic range runs in the default interpreter."""
    keras.utils.set_random_seed(0)
    x = keras.Input((64,), name="x")
    model = keras.Model(x, keras.layers.Dense(10)(keras.layers.Dense(256)(x)))
    weights = [np.where(np.abs(w) > np.quantile(np.abs(w), 0.9), w, 0) for w in model.get_weights()]
    model.set_weights(weights)
    path = tmp_path / "m.tflite"
    convert_litert(model, path, settings=LitertExport(precision="dynamic"))
    assert open_litert(path).predict(np.ones((2, 64))).shape == (2, 10)


def test_sparse_encoding_fails_with_a_name_and_an_advice(tmp_path):
    """F35, planted: what the runtime says about such a file."""
    import warnings

    x = keras.Input((64,), name="x")
    model = keras.Model(x, keras.layers.Dense(10)(keras.layers.Dense(256)(x)))
    weights = [np.where(np.abs(w) > np.quantile(np.abs(w), 0.9), w, 0) for w in model.get_weights()]
    model.set_weights(weights)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    optimize = tf.lite.Optimize
    converter.optimizations = [optimize.DEFAULT, optimize.EXPERIMENTAL_SPARSITY]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = tmp_path / "sparse.tflite"
        path.write_bytes(converter.convert())
    with pytest.raises(ExportError, match="XNNPACK.*without EXPERIMENTAL_SPARSITY"):
        open_litert(path)


def test_int16x8_lets_ops_without_a_kernel_be_float_and_names_them(exported):
    """F40."""
    conversion = exported("sine", "int16x8")
    assert any("SIN (" in note for note in conversion.notes)


def test_dynamic_range_of_a_tiny_model_is_no_dynamic_range(tmp_path, convert_here):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    with pytest.raises(VerificationError, match="fewer than 1,024 elements.*18 float32"):
        convert_litert(model, tmp_path / "m.tflite", settings=LitertExport(precision="dynamic"))


def test_a_real_child_converts(models, tmp_path):
    path = tmp_path / "m.tflite"
    conversion = convert_litert(
        models["convolution"], path, settings=LitertExport(precision="float32")
    )
    assert conversion.seconds > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.tflite"]
    assert open_litert(path).predict(np.ones((1, 12, 12, 1))).shape == (1, 10)


def test_a_slow_converter_is_stopped(models, tmp_path):
    settings = LitertExport(precision="float32", time_limit_seconds=0.01)
    with pytest.raises(ExportError, match="did not finish within 0.01 s.*time_limit_seconds"):
        convert_litert(models["convolution"], tmp_path / "m.tflite", settings=settings)
    assert not list(tmp_path.iterdir())


def test_a_crashing_converter_is_an_error(models, tmp_path, monkeypatch):
    real = convert.run_child
    code = "import os; os.abort()"
    monkeypatch.setattr(
        convert, "run_child", lambda _, **options: real([sys.executable, "-c", code], **options)
    )
    with pytest.raises(ExportError, match="The converter crashed .SIGABRT."):
        convert_litert(
            models["convolution"],
            tmp_path / "m.tflite",
            settings=LitertExport(precision="float32"),
        )
    assert not list(tmp_path.iterdir())


def test_a_file_that_crashes_the_runtime_is_not_put_in_place(
    models, tmp_path, convert_here, monkeypatch
):
    found = convert.ProbeResult("crashed", "it crashes the LiteRT runtime (SIGSEGV).")
    monkeypatch.setattr(convert, "probe_litert", lambda *_, **__: found)
    with pytest.raises(ExportError, match="made a file, but it crashes .*SIGSEGV"):
        convert_litert(
            models["convolution"],
            tmp_path / "m.tflite",
            settings=LitertExport(precision="float32"),
        )
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_unless_told(models, tmp_path, convert_here):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"mine")
    settings = LitertExport(precision="float32")
    with pytest.raises(StorageError, match="exists already"):
        convert_litert(models["convolution"], path, settings=settings)
    assert path.read_bytes() == b"mine"
    convert_litert(models["convolution"], path, settings=settings, overwrite=True)
    assert path.read_bytes()[4:8] == b"TFL3"


def test_places_that_cannot_be_written(models, tmp_path):
    settings = LitertExport(precision="float32")
    with pytest.raises(StorageError, match="there is no folder"):
        convert_litert(models["convolution"], tmp_path / "none" / "m.tflite", settings=settings)
    with pytest.raises(StorageError, match="is a folder"):
        convert_litert(models["convolution"], tmp_path, settings=settings)


def test_a_full_disk_leaves_nothing(models, tmp_path, convert_here, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        convert_litert(
            models["convolution"],
            tmp_path / "m.tflite",
            settings=LitertExport(precision="float32"),
        )
    assert not list(tmp_path.iterdir())


def test_no_temporary_folder(models, tmp_path, monkeypatch):
    monkeypatch.setattr(convert.tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="No temporary folder can be made"):
        convert_litert(
            models["convolution"],
            tmp_path / "m.tflite",
            settings=LitertExport(precision="float32"),
        )


def test_what_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="tf_keras.Model"):
        convert_litert("model.keras", tmp_path / "m", settings=LitertExport(precision="float32"))


def test_at_most_the_asked_calibration_rows_are_used(
    models, inputs, tmp_path, convert_here, monkeypatch
):
    used = []
    real = worker._rows
    monkeypatch.setattr(worker, "_rows", lambda *a: used.extend(real(*a)()) or real(*a))
    convert_litert(
        models["convolution"],
        tmp_path / "m.tflite",
        settings=LitertExport(precision="int8", calibration_examples=5),
        calibration=inputs["convolution"],
    )
    assert len(used) == 5
    rows = inputs["convolution"]
    np.testing.assert_array_equal(used[0]["image"], rows[:1])
    np.testing.assert_array_equal(used[-1]["image"], rows[-1:])


@pytest.mark.parametrize("precision", ["dynamic", "int8"])
def test_an_open_length_is_fixed_at_that_of_the_rows(tmp_path, convert_here, precision):
    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = keras.Input((None,), dtype="int32", name="mask")
    table = keras.layers.Embedding(50, 32)(ids)
    weights = tf.expand_dims(tf.cast(mask, tf.float32), -1)
    pooled = tf.reduce_sum(table * weights, 1) / tf.reduce_sum(weights, 1)
    model = keras.Model([ids, mask], keras.layers.Dense(3)(pooled), name="words")
    draws = np.random.default_rng(0).integers(0, 50, (40, 6)).astype(np.int32)
    rows = {"ids": draws, "mask": np.where(np.arange(6) < 2 + draws[:, :1] % 4, 1, 0)}
    conversion = convert_litert(
        model,
        tmp_path / "words.tflite",
        settings=LitertExport(precision=precision),
        calibration=rows if precision == "int8" else None,
        example=rows,
    )
    assert "input 'ids' takes rows of 6 alone, the size of the given rows" in conversion.notes
    file = open_litert(conversion.path, probe=False)
    assert [(info.dtype, info.shape) for info in file.inputs] == [("int32", (None, 6))] * 2
    assert _relative_error(model, conversion, rows) < LIMITS[precision]
