import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.augment import augment_images, make_augment
from tfopt.errors import DataError


def changed(images, seed=(1, 2), **settings):
    result = augment_images(
        tf.constant(images), settings=Augment(**settings), seed=tf.constant(seed, tf.int64)
    )
    return result.numpy()


def ramp(rows=16, height=6, width=8, channels=2):
    size = rows * height * width * channels
    return np.arange(size, dtype=np.float32).reshape(rows, height, width, channels) / size


def test_same_seed_same_images():
    everything = {
        "shift": 0.2,
        "rotate_degrees": 20,
        "zoom": 0.2,
        "shear": 0.2,
        "flip_horizontal": True,
        "brightness": 0.2,
        "contrast": 0.2,
        "noise": 0.1,
    }
    first = changed(ramp(), **everything)
    assert np.array_equal(first, changed(ramp(), **everything))
    assert not np.array_equal(first, changed(ramp(), seed=(1, 3), **everything))
    assert first.shape == ramp().shape
    assert np.isfinite(first).all()


def test_flip_mirrors_some_images_exactly_and_leaves_the_others():
    images = ramp()
    result = changed(images, flip_horizontal=True)
    mirrored = np.array(
        [np.array_equal(a, b[:, ::-1]) for a, b in zip(result, images, strict=True)]
    )
    same = np.array([np.array_equal(a, b) for a, b in zip(result, images, strict=True)])
    assert (mirrored | same).all()
    assert mirrored.any()
    assert same.any()


def test_shift_moves_content_and_fills_with_zero():
    images = np.zeros((64, 9, 9, 1), np.float32)
    images[:, 4, 4] = 1.0
    result = changed(images, shift=0.3)
    rows, columns = np.indices((9, 9))
    mass = result[..., 0].sum(axis=(1, 2))
    centre_y = (result[..., 0] * rows).sum(axis=(1, 2)) / mass
    centre_x = (result[..., 0] * columns).sum(axis=(1, 2)) / mass
    assert np.abs(centre_y - 4).max() <= 0.3 * 9 + 1e-4
    assert np.abs(centre_y - 4).max() > 1.5
    assert np.abs(centre_x - 4).max() > 1.5
    assert np.allclose(mass, 1.0, atol=1e-4)
    white = changed(np.ones((64, 9, 9, 1), np.float32), shift=0.3)
    assert white.min() == 0.0


def test_zoom_changes_size_both_ways_about_the_centre():
    images = np.zeros((64, 21, 21, 1), np.float32)
    images[:, 6:15, 6:15] = 1.0
    area = changed(images, zoom=0.3).sum(axis=(1, 2, 3)) / 81
    assert area.max() > 1.3
    assert area.min() < 0.75
    assert area.max() < 1.3**2 * 1.1
    assert area.min() > 0.7**2 * 0.9


def test_rotation_keeps_the_centre_and_the_mass():
    images = np.zeros((32, 21, 21, 1), np.float32)
    images[:, 10, 4:17] = 1.0
    result = changed(images, rotate_degrees=90)
    assert np.allclose(result[:, 10, 10, 0], 1.0, atol=1e-4)
    spread = (result[..., 0].sum(axis=2) > 0.3).sum(axis=1)
    assert spread.max() > 8


def test_brightness_contrast_and_noise_have_their_size():
    images = np.full((256, 4, 4, 1), 0.5, np.float32)
    bright = changed(images, brightness=0.2)
    assert 0.4 <= bright.min() < 0.42
    assert 0.58 < bright.max() <= 0.6
    assert np.allclose(changed(images, contrast=0.5), 0.5)
    contrast = changed(ramp(64), contrast=0.5)
    means = contrast.mean(axis=(1, 2, 3))
    assert np.allclose(means, ramp(64).mean(axis=(1, 2, 3)), atol=1e-5)
    ratio = contrast.std(axis=(1, 2, 3)) / ramp(64).std(axis=(1, 2, 3))
    assert 0.5 <= ratio.min() < 0.6 < 1.4 < ratio.max() <= 1.5 + 1e-4
    assert changed(images, noise=0.1).std() == pytest.approx(0.1, rel=0.1)


def test_bytes_stay_bytes_and_saturate():
    images = np.full((64, 4, 4, 3), 250, np.uint8)
    result = changed(images, brightness=0.5)
    assert result.dtype == np.uint8
    assert result.max() == 255
    assert result.min() < 200


def specs(*shapes):
    return tuple(tf.TensorSpec(shape, tf.float32) for shape in shapes)


def test_nothing_to_do_is_none():
    assert make_augment(Augment(), specs((3,))) is None


@pytest.mark.parametrize(
    ("settings", "spec"),
    [
        (Augment(shift=0.1), specs((3,))[0]),
        (Augment(flip_horizontal=True), specs((28, 28))[0]),
        (Augment(rotate_degrees=5), specs((8, 8, 1), (8, 8, 1))),
        (Augment(noise=0.1), specs((3,), (4,))),
    ],
)
def test_moving_what_is_no_image_is_refused(settings, spec):
    with pytest.raises(DataError, match="exactly one image input"):
        make_augment(settings, spec)


def test_only_the_image_among_several_inputs_changes():
    spec = {"age": tf.TensorSpec((1,), tf.float32), "photo": tf.TensorSpec((4, 4, 1), tf.float32)}
    augment = make_augment(Augment(shift=0.5), spec)
    inputs = {"age": tf.ones((8, 1)), "photo": tf.ones((8, 4, 4, 1))}
    result = augment(inputs, tf.constant([0, 0], tf.int64))
    assert np.array_equal(result["age"], inputs["age"])
    assert not np.array_equal(result["photo"], inputs["photo"])


def test_noise_suits_vectors():
    augment = make_augment(Augment(noise=0.5), specs((3,))[0])
    result = augment(tf.zeros((4, 3)), tf.constant([0, 0], tf.int64))
    assert float(tf.math.reduce_std(result)) > 0.1
