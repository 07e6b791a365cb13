"""Decode an image file to an array, whatever its size and colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from tfopt.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif"})


def decode_picture(
    source: Path | bytes, *, size: tuple[int, int], channels: int, what: str
) -> npt.NDArray[np.float32]:
    """Return an image, resized and scaled to ``[0, 1]``.

    Resizing is bilinear, averaging over all pixels when it shrinks. The first frame of
    an animation is taken; transparency is dropped.

    Args:
        source: A file, or its bytes: PNG, JPEG, BMP or GIF.
        size: Height and width of the result.
        channels: 1 for grey (ITU-R BT.601 luma), 3 for colour.
        what: How the message names the image.

    Returns:
        Array ``(height, width, channels)``.

    Raises:
        DataError: If it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            picture = _eight_bit(image).convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{what} is not a PNG, JPEG, BMP or GIF image.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for broken PNG chunks.
        raise DataError(f"{what} cannot be decoded: {error}") from error
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float32) / np.float32(255)
    return pixels.reshape(height, width, channels)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a 16-bit grey image with 8 bits, which ``convert`` would clip instead."""
    if not image.mode.startswith("I"):
        return image
    wide = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.clip(np.round(wide / 257), 0, 255).astype(np.uint8))
