import io

import numpy as np
import pytest
from PIL import Image

from tfopt.data.sources.image_decoding import decode_picture
from tfopt.errors import DataError


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def test_values_and_axes():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    result = decode_picture(encoded(pixels), size=(2, 4), channels=3, what="it")
    assert result.dtype == np.float32
    assert np.allclose(result * 255, pixels, atol=1e-3)


def test_grey_and_resize():
    pixels = np.full((6, 8, 3), [255, 0, 0], np.uint8)
    result = decode_picture(encoded(pixels), size=(3, 2), channels=1, what="it")
    assert result.shape == (3, 2, 1)
    assert np.allclose(result, 0.299, atol=0.003)


def test_sixteen_bits_are_scaled_and_not_clipped():
    wide = np.array([[0, 32896, 65535]], np.uint16)
    result = decode_picture(encoded(wide), size=(1, 3), channels=1, what="it")
    assert np.allclose(result.ravel() * 255, [0, 128, 255], atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(content):
    with pytest.raises(DataError, match="'a.png' "):
        decode_picture(content, size=(2, 2), channels=3, what="'a.png'")


def test_a_truncated_image_is_named():
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    with pytest.raises(DataError, match="'a.png' cannot be decoded"):
        decode_picture(encoded(noise)[:900], size=(2, 2), channels=3, what="'a.png'")
