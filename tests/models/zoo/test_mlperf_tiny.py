import numpy as np

from tfopt.models.zoo.mlperf_tiny import dscnn, resnet8


def test_resnet8_halves_the_image_twice():
    model = resnet8((32, 32, 3), 10)
    sides = [model.get_layer(f"stack{n}_add").output_shape[1:] for n in (1, 2, 3)]
    assert sides == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]
    assert [layer.name for layer in model.layers if "shortcut" in layer.name] == [
        "stack2_shortcut",
        "stack3_shortcut",
    ]


def test_dscnn_has_the_published_first_convolution():
    stem = dscnn((49, 10, 1), 12).get_layer("stem_conv")
    assert (stem.kernel_size, stem.strides) == ((10, 4), (2, 2))
    assert stem.output_shape == (None, 25, 5, 64)


def test_dscnn_cuts_its_kernel_to_small_inputs():
    model = dscnn((6, 3, 1), 4)
    assert model.get_layer("stem_conv").kernel_size == (6, 3)
    assert model(np.zeros((2, 6, 3, 1), np.float32)).shape == (2, 4)
