from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.api.files import artifact_lines, export_file, verify_file
from tfopt.config.schema import Data, LitertExport
from tfopt.errors import DataError, ExportError, InputError, StorageError, VerificationError
from tfopt.keras2.core import keras
from tfopt.models.load import load_model
from tfopt.results import Artifact, Latency

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_io", "int16x8")


@pytest.fixture(scope="module")
def rows(shelf: Path) -> Data:
    return Data(source="npz", path=shelf / "rows.npz")


def export(shelf: Path, file: Path, rows: Data | None, **settings: Any) -> Artifact:
    return export_file(
        shelf / "model.keras",
        file,
        settings=LitertExport(runs=5, warmup=1, **settings),
        data=rows,
        overwrite=False,
    )


@pytest.fixture(scope="module")
def files(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each precision, made by the plain converter, outside of tfopt."""
    folder = tmp_path_factory.mktemp("files")
    images = np.load(shelf / "rows.npz")["x_train"]
    model = load_model(shelf / "model.keras")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        for name in (*PRECISIONS, "uint8_io"):
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            prepare_converter(converter, name, images)
            (folder / f"{name}.tflite").write_bytes(converter.convert())
    return folder


def prepare_converter(converter: Any, precision: str, images: np.ndarray) -> None:
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if "int" in precision:
        converter.representative_dataset = lambda: ([image[None]] for image in images[:50])
        operators = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        if precision == "int16x8":
            operators = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [operators]
    if precision.endswith("_io"):
        kind = tf.uint8 if precision == "uint8_io" else tf.int8
        converter.inference_input_type = converter.inference_output_type = kind


@pytest.mark.parametrize("name", [*PRECISIONS, "uint8_io"])
def test_files_of_the_plain_converter_can_be_verified(
    name: str, files: Path, shelf: Path, rows: Data
) -> None:
    file = files / f"{name}.tflite"
    precision = "int8_io" if name == "uint8_io" else name
    artifact = verify_file(file, shelf / "model.keras", data=rows, max_relative_error=None)
    assert artifact.precision == precision
    assert artifact.bytes == file.stat().st_size
    assert artifact.metric is not None
    assert artifact.metric > 0.7
    assert artifact.metric_name == "accuracy"
    assert artifact.drop == pytest.approx(0.0, abs=0.03)
    assert artifact.drop_ci95 is not None
    assert artifact.drop_ci95[0] < artifact.drop < artifact.drop_ci95[1]
    assert artifact.latency_ms is not None
    assert artifact.latency_ms.p50 > 0


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that counts tokens before it embeds them, its float32 file, and one 10% off."""
    folder = tmp_path_factory.mktemp("words")
    keras.utils.set_random_seed(0)
    ids = keras.Input((8,), dtype="int32", name="ids")
    shifted = tf.where(ids > 20, ids - 20, ids)  # arithmetic on int32
    hidden = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(40, 16)(shifted))
    scores = keras.layers.Dense(3, name="scores")
    model = keras.Model(ids, scores(hidden))
    scores.bias.assign([0.3, -0.2, 0.1])
    model.save(folder / "words.keras")
    rows = np.random.default_rng(0).integers(0, 40, (60, 8)).astype("int32")
    labels = model.predict(rows, verbose=0).argmax(axis=1)
    np.savez(folder / "rows.npz", x_train=rows, y_train=labels, x_test=rows, y_test=labels)
    for name, factor in (("right", 1.0), ("wrong", 1.1)):
        scores.set_weights([weight * factor for weight in scores.get_weights()])
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        (folder / f"{name}.tflite").write_bytes(converter.convert())
    return folder


def test_integer_arithmetic_on_token_ids_makes_no_integer_file(tfopt: Any, words: Path) -> None:
    given = ("--against", words / "words.keras", "--data", words / "rows.npz")
    right = tfopt("verify", words / "right.tflite", *given)
    assert right.code == 0, right.err
    assert "right.tflite: float32, " in right.out
    wrong = tfopt("verify", words / "wrong.tflite", *given)
    assert wrong.code == 4
    assert "wrong.tflite (float32), output 'scores': Outputs differ by 0.1" in wrong.err
    assert "the limit is 0.001" in wrong.err


def test_a_pair_that_does_not_belong_together(files: Path, shelf: Path, rows: Data) -> None:
    with pytest.raises(VerificationError, match=r"int8.tflite \(int8\).*top-1 agreement"):
        verify_file(
            files / "int8.tflite", shelf / "other.keras", data=rows, max_relative_error=None
        )


def test_another_limit(files: Path, shelf: Path, rows: Data) -> None:
    with pytest.raises(VerificationError, match="the limit is 1e-09"):
        verify_file(
            files / "int8.tflite", shelf / "model.keras", data=rows, max_relative_error=1e-9
        )


def test_verifying_needs_rows_that_fit(files: Path, shelf: Path) -> None:
    file, model = files / "int8.tflite", shelf / "model.keras"
    with pytest.raises(DataError, match="Give the rows to compare on: --data"):
        verify_file(file, model, data=None, max_relative_error=None)
    with pytest.raises(DataError, match=r"shape \(28, 28, 1\), but input 'image'.*\(8, 8, 1\)"):
        verify_file(file, model, data=Data(source="mnist5k"), max_relative_error=None)


def test_integer_files_need_rows_and_float_files_do_not(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs calibration rows.*That is --data, or a recipe"):
        export(shelf, tmp_path / "a.tflite", None, precision="int8")
    artifact = export(shelf, tmp_path / "b.tflite", None, precision="float32")
    assert (artifact.metric, artifact.drop, artifact.max_abs_error) == (None, None, None)
    assert any("not compared with the model" in note for note in artifact.notes)
    assert [path.name for path in tmp_path.iterdir()] == ["b.tflite"]


def test_nothing_is_loaded_for_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "a.tflite"
    target.touch()
    settings = LitertExport()
    with pytest.raises(StorageError, match=r"a.tflite exists already. Add --overwrite \("):
        export_file(Path("nosuch"), target, settings=settings, data=None, overwrite=False)
    with pytest.raises(StorageError, match="there is no folder"):
        export_file(Path("no"), tmp_path / "b" / "c", settings=settings, data=None, overwrite=False)
    with pytest.raises(InputError, match="There is no model 'nosuch'"):
        export_file(Path("nosuch"), target, settings=settings, data=None, overwrite=True)
    assert target.stat().st_size == 0


OWN = """
import numpy as np


def load():
    generator = np.random.default_rng(0)
    inputs = {
        "left": generator.normal(size=(200, 4)).astype("float32"),
        "right": generator.normal(size=(200, 3)).astype("float32"),
    }
    return inputs, (inputs["left"][:, 0] + inputs["right"][:, 0] > 0).astype("int64")
"""


@pytest.mark.parametrize("outputs", [1, 2])
def test_models_with_several_inputs_and_outputs(
    outputs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "single_test_rows.py").write_text(OWN)
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    both = keras.layers.Concatenate()([left, right])
    made = [keras.layers.Dense(2, name=f"dense{number}")(both) for number in range(outputs)]
    keras.Model([left, right], made).save(tmp_path / "m.keras")
    data = Data(source="single_test_rows:load")
    converter = tf.lite.TFLiteConverter.from_keras_model(load_model("m.keras"))
    Path("m.tflite").write_bytes(converter.convert())
    artifact = verify_file(Path("m.tflite"), Path("m.keras"), data=data, max_relative_error=None)
    assert artifact.max_abs_error is not None
    assert artifact.max_abs_error < 1e-5
    # With several outputs nothing says which the labels are for, so only outputs are compared.
    assert (artifact.metric is not None) == (outputs == 1)


def test_lines_for_people() -> None:
    artifact = Artifact(
        path="a.tflite",
        format="litert",
        precision="int8",
        bytes=1234567,
        gzip_bytes=1000,
        metric=0.9,
        drop=-0.01,
        drop_ci95=(-0.02, 0.0),
        max_abs_error=0.123456,
        top1_agreement=0.995,
        int8_op_fraction=0.5,
        latency_ms=Latency(0.5, 0.75, threads=2, runs=10, warmup=3),
        input_types=("float32",),
        output_types=("int8",),
        float_ops=("SOFTMAX (out)",),
        notes=("batch 1",),
        metric_name="top_5_accuracy",
    )
    assert artifact_lines(artifact) == [
        "a.tflite: int8, 1,234,567 bytes, 1,000 after gzip",
        "top-5 accuracy through the file: 0.9000",
        "drop against the model: -0.0100 (95% interval -0.0200 to +0.0000)",
        "largest output difference: 0.123",
        "top-1 agreement: 99.50%",
        "operators on integers: 50%",
        "latency: p50 0.5000 ms, p90 0.7500 ms (2 thread(s), 10 runs after 3 warm-up runs)",
        "inputs float32; outputs int8",
        "left float: SOFTMAX (out)",
        "note: batch 1",
    ]
    plain = Artifact("b", "litert", "float32", 1, 1, float_ops=("CONV_2D (a)",))
    assert artifact_lines(plain) == ["b: float32, 1 bytes, 1 after gzip"]


def test_a_trained_integer_model_cannot_be_exported_as_float(shelf: Path, tmp_path: Path) -> None:
    import tfopt

    rows = np.load(shelf / "rows.npz")
    model = tfopt.load(shelf / "model.keras")
    trained = tfopt.quantize(model, (rows["x_train"], rows["y_train"]), epochs=0)
    tfopt.save(trained, tmp_path / "q.keras")
    settings = LitertExport(precision="float16")
    with pytest.raises(ExportError, match="went through quantization-aware training for int8"):
        export_file(
            tmp_path / "q.keras",
            tmp_path / "q.tflite",
            settings=settings,
            data=None,
            overwrite=False,
        )
