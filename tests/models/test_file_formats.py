import json
import zipfile

import pytest

from tfopt.errors import ModelError
from tfopt.models.file_formats import keras_contents


def archive(path, config, metadata='{"keras_version": "2.21.0"}'):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", metadata)
        file.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
    return path


def test_contents_are_found_at_any_depth(tmp_path):
    inner = {"module": "mine", "class_name": "Own", "registered_name": "pack>Own"}
    wrapper = {"class_name": "ClusterWeights", "config": {"layer": [inner]}}
    plain = {"module": "keras.layers", "class_name": "Dense", "registered_name": None}
    found = keras_contents(archive(tmp_path / "m.keras", {"layers": [plain, wrapper]}))
    assert found.keras_version == "2.21.0"
    assert found.wrappers == {"ClusterWeights"}
    assert found.custom_names == {"pack>Own"}
    assert not found.has_lambda_code


@pytest.mark.parametrize(
    "config",
    [{"layers": [{"function_type": "lambda"}]}, {"function": {"class_name": "__lambda__"}}],
)
def test_lambda_code_is_seen_in_both_spellings(tmp_path, config):
    assert keras_contents(archive(tmp_path / "m.keras", config)).has_lambda_code


def test_metadata_that_is_no_mapping(tmp_path):
    with pytest.raises(ModelError, match="is damaged"):
        keras_contents(archive(tmp_path / "m.keras", {}, metadata="[1]"))
