import errno
import json
import zipfile
from pathlib import Path

import h5py
import keras as keras3
import numpy as np
import pytest

from tfopt.bridge.provenance import conversion_of
from tfopt.errors import ModelError, StorageError
from tfopt.keras2.core import keras
from tfopt.models.load import load_model, save_model


def small(name="net"):
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="dense"), keras.layers.Dense(2, name="out")],
        name=name,
    )


def refused(path, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


X = np.random.default_rng(0).random((5, 4), np.float32)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_saved_models_load_with_equal_outputs(tmp_path, name):
    model = small()
    save_model(model, tmp_path / "new" / "folder" / name)
    loaded = load_model(str(tmp_path / "new" / "folder" / name))
    assert np.array_equal(model(X), loaded(X))
    assert loaded.optimizer is None
    assert [entry.name for entry in (tmp_path / "new" / "folder").iterdir()] == [name]


def test_saved_model_folder(tmp_path):
    model = small()
    model.save(tmp_path / "folder")
    assert np.allclose(load_model(tmp_path / "folder")(X), model(X), atol=1e-6)


def test_a_compiled_model_with_an_own_loss_loads(tmp_path):
    model = small()

    def own_loss(truth, guess):
        return guess

    model.compile("adam", own_loss)
    model.save(tmp_path / "m.keras")
    assert np.array_equal(load_model(tmp_path / "m.keras")(X), model(X))


def test_missing_empty_and_unknown_files(tmp_path):
    save_model(small(), tmp_path / "model.keras")
    refused(tmp_path / "modle.keras", "no model .*modle.keras'. Did you mean 'model.keras'")
    refused(tmp_path / "no" / "m.keras", "folder .*no' does not exist")
    for name in ("e.keras", "e.h5"):
        (tmp_path / name).write_bytes(b"")
        refused(tmp_path / name, r"is empty \(0 bytes\)")
    (tmp_path / "m.tflite").write_bytes(b"x")
    refused(tmp_path / "m.tflite", "not a model file that tfopt reads.* exported file")
    (tmp_path / "m.pt").write_bytes(b"x")
    refused(tmp_path / "m.pt", "not a model file that tfopt reads")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "has no saved_model.pb")
    (tmp_path / "folder" / "saved_model.pb").write_bytes(b"x")
    refused(tmp_path / "folder", "was not saved by tf_keras")
    (tmp_path / "folder" / "keras_metadata.pb").write_bytes(b"x")
    refused(tmp_path / "folder", "cannot be loaded by tf_keras")


def test_damaged_keras_files(tmp_path):
    path = tmp_path / "m.keras"
    save_model(small(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "not a whole zip archive")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(flipped))
    refused(path, "is damaged")
    path.write_bytes(b"hello")
    refused(path, "not a whole zip archive")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    refused(path, "without a Keras model .*It holds: a.txt")
    rewrite(whole, path, **{"config.json": b"{broken"})
    refused(path, "is damaged")
    rewrite(whole, path, **{"config.json": b"[]"})
    refused(path, "cannot be loaded by tf_keras")
    rewrite(whole, path, **{"model.weights.h5": None})
    refused(path, "cannot be loaded by tf_keras")


def rewrite(whole, path, **members):
    """Write the archive again with other members; None leaves one out."""
    source = path.with_name("source.zip")
    source.write_bytes(whole)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = members.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)


def test_damaged_h5_files(tmp_path):
    path = tmp_path / "m.h5"
    save_model(small(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "not an HDF5 file, or a damaged one")
    path.write_bytes(b"hello")
    refused(path, "not an HDF5 file")
    path.with_suffix(".keras").write_bytes(whole)
    refused(path.with_suffix(".keras"), "Rename it to end in .h5")
    small().save_weights(path)
    refused(path, "holds weights only")
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["model_weights/dense"]
    refused(path, "cannot be loaded by tf_keras")


def small3(*layers, name="net3"):
    return keras3.Sequential([keras3.Input((4,)), *layers, keras3.layers.Dense(2)], name=name)


# Keras 3.15 hands its variables to NumPy 2 in the old way.
KERAS3 = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@KERAS3
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_keras_3_files_are_converted(tmp_path, name, caplog):
    model = small3(keras3.layers.BatchNormalization(), keras3.layers.Dense(5, "relu"))
    model.compile("adam", "mse")
    save_model(model, tmp_path / name)
    with caplog.at_level("INFO", "tfopt"):
        loaded = load_model(tmp_path / name)
    assert type(loaded) is keras.Sequential
    assert np.allclose(loaded(X), model(X), atol=1e-6)
    assert loaded.optimizer is None
    assert conversion_of(loaded).to == "tf_keras"
    assert f"{name} was saved by Keras {keras3.__version__}" in caplog.text


def test_the_log_says_which_keras_saved_a_file(tmp_path, caplog):
    save_model(small(), tmp_path / "m.keras")
    with caplog.at_level("INFO", "tfopt"):
        load_model(tmp_path / "m.keras")
    assert f"m.keras was saved by tf_keras {keras.__version__}" in caplog.text


@KERAS3
def test_a_folder_that_keras_3_exported_is_refused(tmp_path):
    small3().export(tmp_path / "folder", verbose=False)
    refused(tmp_path / "folder", "was not saved by tf_keras .*functions, not layers.* as .keras")


@KERAS3
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_code_in_a_keras_3_file_never_runs(tmp_path, name):
    trap = tmp_path / "ran"
    path = str(trap)
    layer = keras3.layers.Lambda(
        lambda x: (open(path, "w").close(), x)[1], name="trap", output_shape=(4,)
    )
    small3(layer).save(tmp_path / name)
    trap.unlink(missing_ok=True)
    refused(tmp_path / name, r"'trap' holds Python code \(a Lambda\).* Pass trust=True")
    assert not trap.exists()


@KERAS3
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("kind", ["tf_keras", "Keras 3"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_trusted_code_runs(tmp_path, name, kind):
    if kind == "Keras 3":
        model = small3(keras3.layers.Lambda(lambda x: x * 2.0, output_shape=(4,)))
    else:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2.0)])
    model.save(tmp_path / name)
    refused(tmp_path / name, "Python code.* [Pp]ass trust=True")
    loaded = load_model(tmp_path / name, trust=True)
    assert np.allclose(loaded(X), model(X), atol=1e-6)


@keras3.saving.register_keras_serializable("tests_load")
class Tripling3(keras3.layers.Layer):
    def call(self, inputs):
        return inputs * 3.0


class Unknown3(keras3.layers.Layer):
    def call(self, inputs):
        return inputs * 3.0


@KERAS3
def test_own_layers_of_keras_3(tmp_path):
    model = small3(Tripling3())
    save_model(model, tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert np.allclose(loaded(X), model(X), atol=1e-6)
    save_model(loaded, tmp_path / "again.keras")
    assert np.array_equal(load_model(tmp_path / "again.keras")(X), loaded(X))
    unknown = small3(Unknown3(name="odd"))
    save_model(unknown, tmp_path / "u.keras")
    refused(tmp_path / "u.keras", r"needs .*Unknown3.* \(layer 'odd'\), which is not registered")
    refused_given = {"custom_objects": {"Unknown3": Unknown3}}
    with pytest.raises(ModelError, match="Unknown3.*register_keras_serializable"):
        load_model(tmp_path / "u.keras", **refused_given)


@KERAS3
def test_damaged_keras_3_files(tmp_path):
    path = tmp_path / "m.keras"
    save_model(small3(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "not a whole zip archive")
    rewrite(whole, path, **{"model.weights.h5": None})
    refused(path, "cannot be loaded by Keras 3|model.weights.h5")
    rewrite(whole, path, **{"config.json": b"{}"})
    refused(path, "holds no Keras model|Keras")
    broken = small3()
    broken.layers[-1].kernel.assign(np.full((4, 2), np.nan))
    save_model(broken, path)
    refused(path, "NaN or infinite")


@KERAS3
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_keras_3_model_without_a_visible_graph(tmp_path):
    keras3.Sequential([keras3.layers.Dense(2)], name="s").save(tmp_path / "m.keras")
    refused(tmp_path / "m.keras", "'s' has no input shape")
    with pytest.raises(ModelError, match="must be a tf_keras.Model"):
        save_model("model", tmp_path / "n.keras")


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_code_in_a_lambda_layer_never_runs(tmp_path, name):
    trap = tmp_path / "ran"
    path = str(trap)
    layer = keras.layers.Lambda(lambda x: (open(path, "w").close(), x)[1], name="trap")
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save(tmp_path / name)
    trap.unlink(missing_ok=True)
    refused(tmp_path / name, "Lambda layer with Python code")
    assert not trap.exists()


class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_layers_that_are_not_registered_are_named(tmp_path, name):
    keras.Sequential([keras.Input((4,)), Doubling(name="double")]).save(tmp_path / name)
    wanted = "double" if name == "folder" else "Doubling"
    path = tmp_path / name
    if name == "m.keras":  # as another process sees it, which cannot import the module
        config = zipfile.ZipFile(path).read("config.json").replace(__name__.encode(), b"gone")
        rewrite(path.read_bytes(), path, **{"config.json": config})
    refused(path, f"'{wanted}', which is not registered. Decorate|{wanted}.*not registered")
    loaded = load_model(path, custom_objects={"Doubling": Doubling})
    assert np.allclose(loaded(X), X * 2)


@keras.saving.register_keras_serializable("tests")
class PruneLowMagnitude(keras.layers.Wrapper):
    """Saved under the name of tfmot's wrapper; tfmot itself is behind another door."""

    def call(self, inputs):
        return self.layer(inputs)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_model_in_the_middle_of_pruning_is_refused(tmp_path, name):
    layer = PruneLowMagnitude(keras.layers.Dense(2, name="dense"))
    keras.Sequential([keras.Input((4,)), layer]).save(tmp_path / name)
    refused(tmp_path / name, r"middle of a tfmot step \(PruneLowMagnitude layers\). Strip it")
    known = {"PruneLowMagnitude": PruneLowMagnitude}
    assert load_model(tmp_path / name, custom_objects=known)(X).shape == (5, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    model = small()
    kernel = model.get_layer("out").kernel.numpy()
    kernel[0, 0] = value
    model.get_layer("out").kernel.assign(kernel)
    save_model(model, tmp_path / "m.keras")
    refused(tmp_path / "m.keras", "1 of 6 entries of the weight 'out/kernel' are NaN or infinite")


def test_subclassed_models_are_refused(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Own(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    model(X)
    model.save(tmp_path / "m.keras")
    refused(tmp_path / "m.keras", "is a subclassed model")


def test_saving_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    save_model(small("first"), path)
    before = path.read_bytes()

    def disk_full(self, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Sequential, "save", disk_full)
    with pytest.raises(StorageError, match=r"m.keras cannot be written: No space left on dev"):
        save_model(small("second"), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.keras"]


def test_saving_elsewhere_is_named(tmp_path):
    with pytest.raises(StorageError, match="saved as .keras or .h5. Received"):
        save_model(small(), tmp_path / "m.tflite")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be made: (Not a directory|File exists)"):
        save_model(small(), tmp_path / "file" / "m.keras")


def test_config_says_nothing_of_versions(tmp_path):
    path = tmp_path / "m.keras"
    save_model(small(), path)
    rewrite(path.read_bytes(), path, **{"metadata.json": json.dumps({}).encode()})
    assert load_model(path).name == "net"
