import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Preprocess
from tfopt.errors import ModelError
from tfopt.keras2.core import keras
from tfopt.models.load import load_model, save_model
from tfopt.models.preprocess import preprocessed_shape, with_preprocessing


def identity(shape):
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, keras.layers.Activation("linear", name="same")(inputs))


def colours(height=12, width=10):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (3, height, width, 3)).astype(np.float32)


def run(settings, pixels, shape):
    model = with_preprocessing(identity(shape), settings, pixels.shape[1:])
    return model(pixels).numpy()


def test_grey_is_bt601_luma_and_frozen():
    pixels = colours()
    grey = run(Preprocess(grey=True), pixels, (12, 10, 1))
    assert np.allclose(grey[..., 0], pixels @ [0.299, 0.587, 0.114], atol=1e-3)
    model = with_preprocessing(identity((12, 10, 1)), Preprocess(grey=True), (12, 10, 3))
    assert not model.trainable_weights


def test_crop_takes_the_middle():
    pixels = colours()
    assert np.array_equal(run(Preprocess(crop=(6, 5)), pixels, (6, 5, 3)), pixels[:, 3:9, 2:7])


def test_resize_is_bilinear():
    pixels = colours()
    wanted = tf.image.resize(pixels, (5, 7)).numpy()
    assert np.allclose(run(Preprocess(resize=(5, 7)), pixels, (5, 7, 3)), wanted, atol=1e-4)


def test_scale_mean_and_std():
    pixels = colours()
    settings = Preprocess(scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    wanted = (pixels / 255 - [0.4, 0.5, 0.6]) / [0.1, 0.2, 0.3]
    assert np.allclose(run(settings, pixels, (12, 10, 3)), wanted, atol=1e-4)
    one = Preprocess(mean=127.5, std=127.5)
    assert np.allclose(run(one, pixels, (12, 10, 3)), pixels / 127.5 - 1, atol=1e-5)
    vector = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.allclose(run(Preprocess(scale=2.0), vector, (4,)), vector * 2)


def trained(shape):
    inputs = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Add(name="add")([x, x])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="output")(x), name="net")
    generator = np.random.default_rng(1)
    model.set_weights([generator.random(w.shape, np.float32) for w in model.get_weights()])
    return model


EVERYTHING = Preprocess(grey=True, crop=(10, 8), resize=(6, 6), scale=0.01, mean=0.5, std=0.25)


def test_everything_before_a_model_is_flat_loads_plainly_and_converts(tmp_path):
    model = trained((6, 6, 1))
    before = [weight.copy() for weight in model.get_weights()]
    whole = with_preprocessing(model, EVERYTHING, (12, 10, 3))
    names = [layer.name for layer in whole.layers]
    assert names[:5] == [
        "image",
        "preprocess_grey",
        "preprocess_crop",
        "preprocess_resize",
        "preprocess_scale",
    ]
    assert names[5:] == [layer.name for layer in model.layers[1:]]
    pixels = colours()
    by_hand = run(EVERYTHING, pixels, (6, 6, 1))
    assert np.allclose(whole(pixels), model(by_hand), atol=1e-4)
    save_model(whole, tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert np.array_equal(loaded(pixels), whole(pixels))
    assert all(map(np.array_equal, before, model.get_weights()))
    converter = tf.lite.TFLiteConverter.from_keras_model(whole)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    assert len(converter.convert()) > 1000


def test_bytes_can_be_fed():
    pixels = colours().astype(np.uint8)
    settings = Preprocess(scale=1 / 255)
    assert np.allclose(run(settings, pixels, (12, 10, 3)), pixels / 255, atol=1e-6)


def test_sequential_models_too():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    whole = with_preprocessing(model, Preprocess(scale=3.0), (4,))
    assert np.allclose(whole(np.ones((1, 4))), model(np.full((1, 4), 3.0)), atol=1e-6)


MISTAKES = {
    "grey of grey": (Preprocess(grey=True), (8, 8, 1), "needs 3 colour channels.* have 1"),
    "vector": (Preprocess(resize=(4, 4)), (8,), "takes images"),
    "crop too large": (Preprocess(crop=(9, 9)), (8, 8, 3), "at least 9 x 9"),
    "mean width": (Preprocess(mean=(0.1, 0.2)), (8, 8, 3), "mean has 2 values.*has 3"),
    "std width after grey": (Preprocess(grey=True, std=(1.0, 1.0, 1.0)), (8, 8, 3), "std has 3"),
    "std zero": (Preprocess(std=0.0), (8,), "std must be positive. Received: 0.0"),
    "scale zero": (Preprocess(scale=0.0), (8,), "scale is 0"),
    "resize zero": (Preprocess(resize=(0, 4)), (8, 8, 3), "resize must be at least 1 x 1"),
    "several inputs": (Preprocess(scale=1.0), {"a": (3,)}, "needs a single input"),
    "unknown size": (Preprocess(crop=(2, 2)), (None, None, 3), "known shape"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_settings_that_do_not_fit_are_named(name):
    settings, shape, message = MISTAKES[name]
    with pytest.raises(ModelError, match=message):
        preprocessed_shape(settings, shape)


def test_the_model_must_take_the_result():
    with pytest.raises(ModelError, match=r"has shape \(5, 5, 3\), but .* takes \(6, 6, 1\)"):
        with_preprocessing(identity((6, 6, 1)), Preprocess(resize=(5, 5)), (9, 9, 3))
    inputs = [keras.Input((3,)), keras.Input((3,))]
    pair = keras.Model(inputs, keras.layers.Add()(inputs))
    with pytest.raises(ModelError, match="needs a model with one input"):
        with_preprocessing(pair, Preprocess(scale=1.0), (3,))
