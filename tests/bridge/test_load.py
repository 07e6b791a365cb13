"""Keras 3 files load, and nothing in them runs that was not trusted."""

import json
import zipfile

import h5py
import keras as keras3
import numpy as np
import pytest

from tfopt.bridge.load import load_keras3
from tfopt.errors import ModelError

# keras/src/backend/tensorflow/core.py (3.15.1) reads each weight that way when it saves.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]
L = keras3.layers
SUFFIXES = (".keras", ".h5")


def dense():
    return keras3.Sequential([keras3.Input((4,)), L.Dense(3, "relu"), L.Dense(2, name="head")])


def save(model, path):
    # Keras 3 itself deprecates the .h5 suffix with a log line only.
    model.save(path)
    return path


def edit(path, change):
    """Rewrite the config in a model file with ``change(config)``."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config).encode()
        return path
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def with_layer(tmp_path, suffix, layer):
    """Return a file whose second layer is what ``layer`` says."""
    path = save(dense(), tmp_path / f"model{suffix}")

    def change(config):
        config["config"]["layers"][2] = layer

    return edit(path, change)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_load(tmp_path, suffix):
    model = dense()
    loaded = load_keras3(save(model, tmp_path / f"m{suffix}"))
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(model(x), loaded(x))
    assert not loaded.compiled


def squares(y, z):
    return (y - z) ** 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_compiled_with_an_own_loss(tmp_path, suffix):
    model = dense()
    model.compile("adam", loss=squares)
    if suffix == ".h5":
        model.compile("adam", loss="mse")
    model.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
    assert not load_keras3(save(model, tmp_path / f"m{suffix}")).compiled


def test_operations_masks_and_shared_layers(tmp_path):
    x = keras3.Input((3,), dtype="int32")
    y = L.Embedding(5, 4, mask_zero=True)(x)
    y = L.LSTM(4, return_sequences=True)(y)[:, 1:] * 2.0
    y = keras3.ops.mean(keras3.ops.hard_silu(y), axis=1)
    model = keras3.Model(x, L.Dense(2, "hard_sigmoid")(y))
    path = save(model, tmp_path / "m.keras")
    data = np.array([[1, 2, 0]])
    np.testing.assert_array_equal(load_keras3(path)(data), model(data))


@pytest.mark.parametrize("kind", ["lora", "int8", "mixed"])
def test_adapters_integers_and_policies(tmp_path, kind):
    policy = "mixed_float16" if kind == "mixed" else "float32"
    model = keras3.Sequential([keras3.Input((4,)), L.Dense(6, dtype=policy), L.Dense(2)])
    if kind == "lora":
        model.layers[0].enable_lora(2)
    if kind == "int8":
        model.quantize("int8")
    x = np.ones((2, 4), "float32")
    loaded = load_keras3(save(model, tmp_path / "m.keras"))
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
    first = loaded.layers[0]
    found = {"lora": first.lora_enabled, "int8": first.quantization_mode == "int8"}
    assert found.get(kind, first.compute_dtype == "float16")


def marker_lambda(marker):
    return L.Lambda(lambda x, where=str(marker): [x, open(where, "w").close()][0], name="evil")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_code_in_a_lambda_does_not_run(tmp_path, suffix):
    marker = tmp_path / "ran"
    model = keras3.Sequential([keras3.Input((4,)), L.Dense(2), marker_lambda(marker)])
    path = save(model, tmp_path / f"m{suffix}")
    marker.unlink()
    with pytest.raises(ModelError, match=r"layer 'evil' holds Python code.*trust=True \(--trust"):
        load_keras3(path)
    assert not marker.exists()


def test_a_trusted_lambda_runs(tmp_path):
    model = keras3.Sequential([keras3.Input((4,)), L.Lambda(lambda x: x * 2.0, name="twice")])
    path = save(model, tmp_path / "m.keras")
    with pytest.raises(ModelError, match="'twice'.*trust=True"):
        load_keras3(path)
    np.testing.assert_array_equal(
        load_keras3(path, trust=True)(np.ones((1, 4))), np.full((1, 4), 2)
    )


def system(**more):
    return {"module": "os", "class_name": "system", "config": {"command": "false"}, **more}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("more", [{}, {"registered_name": "system"}, {"registered_name": None}])
@pytest.mark.parametrize("trust", [False, True])
def test_no_module_is_imported_because_a_file_names_it(tmp_path, suffix, more, trust):
    path = with_layer(tmp_path, suffix, system(**more))
    with pytest.raises(
        ModelError, match="needs 'system' of the module 'os'.*no module is imported"
    ):
        load_keras3(path, trust=trust)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_function_of_another_module_as_activation(tmp_path, suffix):
    path = save(dense(), tmp_path / f"m{suffix}")

    def change(config):
        entry = {"module": "os", "class_name": "function", "config": "system"}
        config["config"]["layers"][1]["config"]["activation"] = entry

    with pytest.raises(ModelError, match="needs 'system' of the module 'os'"):
        load_keras3(edit(path, change))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.utils", "get_file"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.saving", "load_model"),
        ("keras.models", "load_model"),
        ("keras", "get_file"),
    ],
)
def test_functions_of_keras_that_are_no_part_of_a_model(tmp_path, module, name):
    path = save(dense(), tmp_path / "m.keras")

    def change(config):
        entry = {"module": module, "class_name": "function", "config": name}
        config["config"]["layers"][2]["config"]["activation"] = entry

    with pytest.raises(
        ModelError, match=f"'head' calls {module}.{name}.*trust=True|calls {module}"
    ):
        load_keras3(edit(path, change))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["TFSMLayer", "TorchModuleWrapper", "JaxLayer"])
def test_layers_that_run_other_files(tmp_path, suffix, name):
    entry = {"module": "keras.layers", "class_name": name, "config": {"name": "other"}}
    with pytest.raises(ModelError, match=f"layer 'other' is a {name}.*trust=True"):
        load_keras3(with_layer(tmp_path, suffix, entry))


def test_h5_functions_in_place_of_layers(tmp_path):
    entry = {"class_name": "deserialize", "config": {"config": system()}}
    with pytest.raises(ModelError, match="calls deserialize.*trust=True"):
        load_keras3(with_layer(tmp_path, ".h5", entry))


class Doubling(L.Layer):
    def call(self, inputs):
        return inputs * 2.0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_and_given_custom_class(tmp_path, suffix):
    model = keras3.Sequential([keras3.Input((4,)), Doubling(name="mine")])
    path = save(model, tmp_path / f"m{suffix}")
    with pytest.raises(ModelError, match="needs 'Doubling'.*'mine'.*custom_objects"):
        load_keras3(path)
    loaded = load_keras3(path, custom_objects={"Doubling": Doubling})
    assert type(loaded.layers[-1]) is Doubling


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated(tmp_path, suffix, share):
    path = save(dense(), tmp_path / f"m{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match="damaged") as failure:
        load_keras3(path)
    assert "\n" not in str(failure.value)


def test_flipped_bytes(tmp_path):
    path = save(dense(), tmp_path / "m.keras")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(255 - one for one in content[middle : middle + 40])
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="damaged"):
        load_keras3(path)


def test_weights_only(tmp_path):
    dense().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ModelError, match="holds weights only.*model.save"):
        load_keras3(tmp_path / "m.weights.h5")
    (tmp_path / "m.weights.h5").rename(tmp_path / "other.h5")
    with pytest.raises(ModelError, match="holds weights only"):
        load_keras3(tmp_path / "other.h5")


def test_exported_saved_model(tmp_path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match="functions, not layers.*model.save"):
        load_keras3(tmp_path / "exported")


def test_missing_file_and_no_model(tmp_path):
    with pytest.raises(ModelError, match="There is no model"):
        load_keras3(tmp_path / "m.keras")
    path = save(dense(), tmp_path / "m.keras")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ModelError, match="weights only|no Keras model"):
        load_keras3(path)


def test_weights_of_another_shape(tmp_path):
    path = save(dense(), tmp_path / "m.keras")

    def change(config):
        config["config"]["layers"][2]["config"]["units"] = 7

    with pytest.raises(ModelError, match="cannot be loaded by Keras 3"):
        load_keras3(edit(path, change))
