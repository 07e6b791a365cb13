import gzip
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfopt.errors import DataError, ExportError, InputError, VerificationError
from tfopt.evaluation.metrics import Accuracy, MeanSquaredError
from tfopt.evaluation.verify import Evaluation, verify_litert
from tfopt.keras2.core import keras


def _batches(rows, labels=None, size=16):
    def batches():
        count = len(rows[0] if isinstance(rows, tuple) else rows)
        for start in range(0, count, size):
            part = slice(start, start + size)
            chosen = tuple(x[part] for x in rows) if isinstance(rows, tuple) else rows[part]
            yield chosen, None if labels is None else labels[part]

    return batches


@pytest.fixture
def convolution(models, inputs):
    """Reference, rows and labels that the reference gets right but for five."""
    model, rows = models["convolution"], inputs["convolution"]
    labels = model.predict(rows, verbose=0).argmax(axis=1)
    labels[:5] = (labels[:5] + 1) % 10
    return model.predict_on_batch, rows, labels


def test_everything_is_measured_on_the_file(exported, convolution):
    reference, rows, labels = convolution
    path = exported("convolution", "int8").path
    found = verify_litert(
        path,
        reference=reference,
        evaluation=Evaluation(_batches(rows, labels), Accuracy()),
        precision="int8",
    )
    artifact = found.artifact
    content = path.read_bytes()
    assert artifact.bytes == len(content)
    assert artifact.gzip_bytes == len(gzip.compress(content, 9, mtime=0))
    assert artifact.metric == pytest.approx(found.rows.mean())
    assert artifact.drop == pytest.approx(35 / 40 - artifact.metric)
    assert artifact.drop_ci95[0] < artifact.drop < artifact.drop_ci95[1]
    assert artifact.int8_op_fraction == 1.0
    assert artifact.float_ops == ()
    assert artifact.input_types == artifact.output_types == ("float32",)
    assert found.rows.shape == (40,)
    comparison = found.comparisons["logits"]
    assert comparison.rows == 40
    assert 0 < comparison.relative_error < 0.08
    assert artifact.max_abs_error == comparison.max_abs_error > 0


def test_streaming_equals_one_batch(exported, convolution):
    reference, rows, _ = convolution
    path = exported("convolution", "dynamic").path
    results = [
        verify_litert(
            path,
            reference=reference,
            evaluation=Evaluation(_batches(rows, size=size)),
            precision="dynamic",
        ).comparisons["logits"]
        for size in (7, 40)
    ]
    for name in ("max_abs_error", "mean_abs_error", "relative_error", "top1_agreement"):
        assert getattr(results[0], name) == pytest.approx(getattr(results[1], name), rel=1e-4)


def test_drop_is_against_the_given_baseline(exported, convolution):
    reference, rows, labels = convolution
    baseline = np.ones(40)
    found = verify_litert(
        exported("convolution", "float32").path,
        reference=reference,
        evaluation=Evaluation(_batches(rows, labels), Accuracy(), baseline),
        precision="float32",
        probe=False,
    )
    assert found.artifact.metric == pytest.approx(35 / 40)
    assert found.artifact.drop == pytest.approx(5 / 40)
    with pytest.raises(VerificationError, match="one score a row"):
        verify_litert(
            exported("convolution", "float32").path,
            reference=reference,
            evaluation=Evaluation(_batches(rows, labels), Accuracy(), np.ones(39)),
            precision="float32",
            probe=False,
        )


def test_errors_as_metric_are_worse_when_larger(exported, convolution):
    reference, rows, _ = convolution
    truth = np.asarray(reference(rows)) + 1.0
    found = verify_litert(
        exported("convolution", "float16").path,
        reference=reference,
        evaluation=Evaluation(_batches(rows, truth), MeanSquaredError(), np.zeros(40)),
        precision="float16",
        probe=False,
    )
    assert found.artifact.drop == pytest.approx(1.0, abs=0.05)


def test_without_labels_only_outputs_are_compared(exported, convolution):
    reference, rows, _ = convolution
    found = verify_litert(
        exported("convolution", "float32").path,
        reference=reference,
        evaluation=Evaluation(_batches(rows), Accuracy()),
        precision="float32",
        probe=False,
    )
    assert found.rows is None
    assert found.artifact.metric is found.artifact.drop is None


def test_several_outputs_are_all_compared(exported, models, inputs):
    path = exported("two_ended", "float32").path
    model, rows = models["two_ended"], inputs["two_ended"]
    labels = np.zeros(40, int)

    def verify(reference):
        return verify_litert(
            path,
            reference=reference,
            evaluation=Evaluation(_batches(rows, labels), Accuracy()),
            precision="float32",
            probe=False,
        )

    found = verify(lambda batch: model.predict_on_batch(list(batch)))
    assert set(found.comparisons) == {"y_out", "b_out"}
    assert found.rows.shape == (40,)

    def second_is_off(batch):
        first, second = model.predict_on_batch(list(batch))
        return {"y_out": first, "b_out": second * 1.5}

    with pytest.raises(VerificationError, match=r"output 'b_out': Outputs differ by 0\.333"):
        verify(second_is_off)
    with pytest.raises(VerificationError, match="has 2 output.*the source model 1"):
        verify(lambda batch: model.predict_on_batch(list(batch))[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y * 1.01, r"\(float32\), output 'logits': Outputs differ by 0.0099"),
        (lambda y: y[:, :5], r"shape \(16, 10\) through the file, but \(16, 5\)"),
        (lambda y: y[:, :1], r"\(16, 1\) through the source"),
        (lambda y: y + np.nan, "source model itself gives NaN or infinity in 40 of 40 rows"),
        (lambda y: y * 0, "Outputs differ by inf"),
    ],
)
def test_a_file_of_another_model_is_refused(exported, convolution, change, message):
    reference, rows, _ = convolution
    with pytest.raises(VerificationError, match=message):
        verify_litert(
            exported("convolution", "float32").path,
            reference=lambda batch: change(np.asarray(reference(batch))),
            evaluation=Evaluation(_batches(rows)),
            precision="float32",
            probe=False,
        )


def test_another_limit_can_be_given(exported, convolution):
    reference, rows, _ = convolution
    found = verify_litert(
        exported("convolution", "float32").path,
        reference=lambda batch: np.asarray(reference(batch)) * 1.01,
        evaluation=Evaluation(_batches(rows)),
        precision="float32",
        max_relative_error=0.02,
        probe=False,
    )
    assert found.comparisons["logits"].relative_error == pytest.approx(0.0099, abs=1e-4)


def _planted(tmp_path, build, *, calibration=None):
    """Return a model and a file of it converted the careless way."""
    x = keras.Input((8,), name="x")
    keras.utils.set_random_seed(0)
    model = keras.Model(x, build(x))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in calibration)
    path = tmp_path / "planted.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter announces tf.lite's deprecation
        path.write_bytes(converter.convert())
    return model, path


def _verify(model, path, rows, precision):
    return verify_litert(
        path,
        reference=model.predict_on_batch,
        evaluation=Evaluation(_batches(rows)),
        precision=precision,
    )


def test_wrongly_scaled_calibration_is_seen_in_the_outputs(tmp_path):
    """F34, past the check of the calibration rows themselves."""
    rows = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    dense = keras.layers.Dense
    model, path = _planted(tmp_path, lambda x: dense(4)(dense(32)(x)), calibration=rows * 1e-3)
    with pytest.raises(VerificationError, match="Outputs differ by 0.9|same for all 64 rows"):
        _verify(model, path, rows, "int8")


def test_far_too_wide_calibration_gives_a_constant_output(tmp_path):
    """F34, likewise."""
    rows = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    dense = keras.layers.Dense
    model, path = _planted(tmp_path, lambda x: dense(4)(dense(32)(x)), calibration=rows * 1e4)
    with pytest.raises(VerificationError, match="is the same for all 64 rows"):
        _verify(model, path, rows * 1e-2, "int8")


@pytest.mark.skipif(
    tf.__version__.startswith(("2.19.", "2.20.")),
    reason="the converter of this TensorFlow refuses the model that later ones make empty",
)
def test_empty_outputs_are_named(tmp_path):
    """F36."""
    dense = keras.layers.Dense
    model, path = _planted(tmp_path, lambda x: dense(3)(tf.math.lgamma(tf.abs(dense(4)(x)) + 1.0)))
    rows = np.ones((8, 8), "float32")
    with pytest.raises(ExportError, match="The output is empty. Convert it with a fixed batch"):
        _verify(model, path, rows, "float32")


def test_outputs_that_are_not_numbers(tmp_path):
    model, path = _planted(tmp_path, lambda x: tf.math.log(x))
    rows = -np.ones((8, 8), "float32")
    with pytest.raises(VerificationError, match="holds NaN or infinity in 8 of 8 rows"):
        verify_litert(
            path,
            reference=lambda batch: np.abs(batch),
            evaluation=Evaluation(_batches(rows)),
            precision="float32",
        )


def test_rows_and_files_that_do_not_serve(exported, convolution, tmp_path):
    reference, rows, labels = convolution
    path = exported("convolution", "float32").path

    def verify(evaluation, file=path):
        return verify_litert(
            file, reference=reference, evaluation=evaluation, precision="float32", probe=False
        )

    with pytest.raises(DataError, match="no evaluation rows"):
        verify(Evaluation(lambda: iter(())))
    with pytest.raises(DataError, match=r"must be float32 of shape \(rows, 12, 12, 1\)"):
        verify(Evaluation(_batches(rows[..., 0])))
    with pytest.raises(DataError, match="16 rows of outputs, but 3 labels"):
        verify(Evaluation(lambda: iter([(rows[:16], labels[:3])]), Accuracy()))
    mixed = [(rows[:16], labels[:16]), (rows[16:], None)]
    with pytest.raises(DataError, match="Only 16 of 40 evaluation rows have labels"):
        verify(Evaluation(lambda: iter(mixed), Accuracy()))
    with pytest.raises(InputError, match="No precision is named 'int9'. Did you mean 'int8'"):
        verify_litert(
            path, reference=reference, evaluation=Evaluation(_batches(rows)), precision="int9"
        )
    with pytest.raises(InputError, match="There is no LiteRT model"):
        verify(Evaluation(_batches(rows)), tmp_path / "none.tflite")
