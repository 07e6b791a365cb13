"""Random changes to a batch of images, drawn without hidden state.

The same (seed, settings, images) give the same result in any process and in any order
of batches, so that a resumed run sees the batches that an uninterrupted one would. What is
drawn for a row depends on its place in the whole batch, so that each of several processes
changes its own rows as one process changes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.sharding import Part
from tfopt.errors import DataError

_DRAWS = 9  # shift y, shift x, rotation, zoom, shear, flip, brightness, contrast, (spare)
_PHILOX = 1  # tf.random.Algorithm
_PHILOX_BLOCK = 4  # numbers of 32 bits that one state of the counter gives


def make_augment(settings: Augment, input_spec: Any) -> Callable[..., Any] | None:
    """Return a function that changes the image input of a batch.

    Args:
        settings: What to change, and how far.
        input_spec: Nested ``tf.TensorSpec`` of one example.

    Returns:
        ``function(inputs, seed, part=None) -> inputs`` with ``seed`` an int tensor of shape
        ``(2,)``, and where the inputs stand in their batch if they are a part of it; None
        if ``settings`` change nothing.

    Raises:
        DataError: If images are to be moved and no single input is an image, which is
            height x width x channels.
    """
    if settings == Augment():
        return None
    position = _image_position(settings, input_spec)

    def augment(inputs: Any, seed: Any, part: Part | None = None) -> Any:
        leaves = tf.nest.flatten(inputs)
        leaves[position] = augment_images(leaves[position], settings=settings, seed=seed, part=part)
        return tf.nest.pack_sequence_as(inputs, leaves)

    return augment


def augment_images(images: Any, *, settings: Augment, seed: Any, part: Part | None = None) -> Any:
    """Return a batch with every image changed by its own random draw.

    Integer images are computed in float32, rounded, and clipped to their type's range;
    float images are not clipped. Pixels from outside an image are zero.

    Args:
        images: Tensor ``(rows, ...)``; ``(rows, height, width, channels)`` if images move.
        settings: What to change, and how far.
        seed: Int tensor of shape ``(2,)``.
        part: Where the images stand in their batch; None if they are all of it.

    Returns:
        A tensor of the same shape and dtype.
    """
    pixels = tf.cast(images, tf.float32)
    own = tf.shape(pixels, tf.int64)[0]
    first, rows = (tf.zeros_like(own), own) if part is None else (part.first, part.rows)
    places = (first + tf.range(own)) % rows
    draws = tf.random.stateless_uniform((_DRAWS, rows), seed, -1.0, 1.0)
    if _moves(settings):
        pixels = _move(pixels, settings, draws, places)
    draws = tf.gather(draws, places, axis=1)
    if settings.brightness:
        pixels *= _per_row(1.0 + settings.brightness * draws[6], pixels)
    if settings.contrast:
        axes = list(range(1, pixels.shape.rank))
        mean = tf.reduce_mean(pixels, axis=axes, keepdims=True)
        pixels = mean + (pixels - mean) * _per_row(1.0 + settings.contrast * draws[7], pixels)
    if settings.noise:
        noise_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        pixels += settings.noise * _normal(tf.shape(pixels, tf.int64), noise_seed, first=first)
    if images.dtype.is_integer:
        pixels = tf.round(pixels)
    return tf.saturate_cast(pixels, images.dtype)


def _normal(shape: Any, seed: Any, *, first: Any) -> Any:
    """Return normal numbers for some rows of a batch, without drawing those before them.

    Philox is a counter-based generator (Salmon et al. 2011, doi:10.1145/2063384.2063405): its
    numbers are a function of key and counter, so it can begin anywhere. Every row begins with
    a block of its own.

    Args:
        shape: Int64 tensor ``(rows, ...)``.
        seed: Int tensor of shape ``(2,)``.
        first: Place of the first row in the batch, int64.
    """
    numbers = tf.reduce_prod(shape[1:])
    blocks = -(-numbers // _PHILOX_BLOCK)
    state = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    counter = state.counter + tf.cast(tf.stack([first * blocks, 0]), tf.uint64)
    drawn = tf.raw_ops.StatelessRandomNormalV2(
        shape=tf.stack([shape[0], _PHILOX_BLOCK * blocks]),
        key=state.key,
        counter=counter,
        alg=_PHILOX,
    )
    return tf.reshape(drawn[:, :numbers], shape)


def _moves(settings: Augment) -> bool:
    return settings.flip_horizontal or any(
        (settings.shift, settings.rotate_degrees, settings.zoom, settings.shear)
    )


def _move(pixels: Any, settings: Augment, draws: Any, places: Any) -> Any:
    """Shift, rotate, zoom, shear and mirror in one bilinear resampling.

    The affine map takes an output pixel to the input pixel it shows, about the centre:
    ``input = centre + rotation @ shear @ (output - centre) / zoom + shift``. It is computed for
    the whole batch: the last bits of a cosine depend on its place in the vector.
    """
    height = tf.cast(tf.shape(pixels)[1], tf.float32)
    width = tf.cast(tf.shape(pixels)[2], tf.float32)
    angle = draws[2] * (settings.rotate_degrees * math.pi / 180.0)
    scale = 1.0 / (1.0 + settings.zoom * draws[3])
    shear = settings.shear * draws[4]
    mirror = tf.where(draws[5] < 0.0, -1.0, 1.0) if settings.flip_horizontal else 1.0
    cosine, sine = tf.cos(angle) * scale, tf.sin(angle) * scale
    x_from_x, x_from_y = cosine * mirror, cosine * shear - sine
    y_from_x, y_from_y = sine * mirror, sine * shear + cosine
    centre_x, centre_y = (width - 1.0) / 2.0, (height - 1.0) / 2.0
    shift_y, shift_x = draws[0] * settings.shift * height, draws[1] * settings.shift * width
    from_x = centre_x - x_from_x * centre_x - x_from_y * centre_y + shift_x
    from_y = centre_y - y_from_x * centre_x - y_from_y * centre_y + shift_y
    zero = tf.zeros_like(angle)
    transforms = tf.stack(
        [x_from_x, x_from_y, from_x, y_from_x, y_from_y, from_y, zero, zero], axis=1
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.gather(transforms, places),
        output_shape=tf.shape(pixels)[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def _per_row(values: Any, pixels: Any) -> Any:
    return tf.reshape(values, [-1] + [1] * (pixels.shape.rank - 1))


def _image_position(settings: Augment, input_spec: Any) -> int:
    leaves = tf.nest.flatten(input_spec)
    shapes = [tuple(leaf.shape.as_list()) for leaf in leaves]
    images = [index for index, shape in enumerate(shapes) if len(shape) == 3]
    if len(images) == 1:
        return images[0]
    if len(leaves) == 1 and not _moves(settings):
        return 0
    raise DataError(
        "data.augment needs exactly one image input (height, width, channels) to change. The "
        f"inputs of one example have shape {', '.join(map(str, shapes))}. Remove data.augment, or "
        "give images with a channel axis."
    )
