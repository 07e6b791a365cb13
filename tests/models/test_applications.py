from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.config.schema import Model as Section
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2.core import Model, keras
from tfopt.models.applications import _MODES, keras_application
from tfopt.models.build import build_model

SMALL = {"name": "MobileNetV2", "alpha": 0.35}


def application(name: str = "MobileNetV2", *, top: bool = False, **settings: Any) -> Model:
    keras.utils.set_random_seed(7)
    shape = {} if top else {"input_shape": (32, 32, 3)}
    build = getattr(keras.applications, name)
    return build(weights=None, include_top=top, **shape, **settings)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A backbone, and its weights in ``top.h5`` and ``notop.h5``."""
    folder = tmp_path_factory.mktemp("weights")
    whole = application(top=True, alpha=0.35, classes=11)
    base = application(alpha=0.35)
    base.set_weights(whole.get_weights()[: len(base.weights)])
    whole.save_weights(folder / "top.h5")
    base.save_weights(folder / "notop.h5")
    return base, folder


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize("name", ["top.h5", "notop.h5"])
def test_the_network_computes_what_keras_would_on_bytes(
    name: str, files: tuple[Model, Path]
) -> None:
    base, folder = files
    settings = Section(
        builder="keras_application", arguments={**SMALL, "weights": str(folder / name)}
    )
    model = build_model(settings, input_shape=(32, 32, 3), classes=4, seed=1)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    features = keras.Model(model.input, model.get_layer("head_pool").output)
    expected = base(keras.applications.mobilenet_v2.preprocess_input(pixels.copy())).numpy()
    found = features(pixels / 255).numpy()
    np.testing.assert_allclose(found, expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
    assert model.output_shape == (None, 4)


@pytest.mark.parametrize("name", ["VGG16", "DenseNet121"])
def test_other_preprocessing(name: str, tmp_path: Path) -> None:
    base = application(name)
    base.save_weights(tmp_path / "notop.h5")
    weights = str(tmp_path / "notop.h5")
    model = keras_application((32, 32, 3), 2, name=name, weights=weights, largest_value=255)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    module = {"VGG16": keras.applications.vgg16, "DenseNet121": keras.applications.densenet}[name]
    expected = base(module.preprocess_input(pixels.copy())).numpy().mean(axis=(1, 2))
    features = keras.Model(model.input, model.get_layer("head_pool").output)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features(pixels).numpy() / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "MobilNetV2"}, InputError, r"no 'MobilNetV2'\. Did you mean 'MobileNetV2'\?"),
        ({"weights": "imagenet"}, InputError, "never downloads, so weights: imagenet is refused"),
        ({"weights": "none.h5"}, ModelError, "no file of weights 'none.h5'"),
        ({"alpa": 1.0}, InputError, r"MobileNetV2 has no setting 'alpa'\. Did you mean 'alpha'\?"),
        (
            {"name": "EfficientNetB0", "weights": "b0.h5"},
            InputError,
            "published weights of EfficientNetB0 to B7",
        ),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        keras_application((32, 32, 3), 2, **{"name": "MobileNetV2", **arguments})


def test_weights_of_another_width(files: tuple[Model, Path]) -> None:
    _, folder = files
    with pytest.raises(ModelError, match="do not fit mobilenetv2_0.50.*settings such as alpha"):
        keras_application(
            (32, 32, 3), 2, name="MobileNetV2", alpha=0.5, weights=str(folder / "notop.h5")
        )


def test_weights_that_were_silently_skipped(
    files: tuple[Model, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = files
    load = keras.Model.load_weights

    def by_name(self: Model, path: str) -> None:
        # Layers that have no namesake in the file are skipped, which Keras does not tell.
        self.get_layer("Conv_1")._name = "another"
        load(self, path, by_name=True)

    monkeypatch.setattr(keras.Model, "load_weights", by_name)
    with pytest.raises(VerificationError, match="was loaded, but .* is as it was initialized"):
        keras_application((32, 32, 3), 2, **SMALL, weights=str(folder / "notop.h5"))


def test_every_network_has_its_preprocessing() -> None:
    assert all(callable(getattr(keras.applications, name)) for name in _MODES)
