"""Links put a weight into the shape of its twin and back; names are given once."""

from dataclasses import FrozenInstanceError

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf

from tfopt.bridge.to_tf_keras.twin import Link, Names, Twin, plain_name
from tfopt.errors import ModelError


def variable(shape):
    size = int(np.prod(shape))
    return keras3.Variable(np.arange(size, dtype="float32").reshape(shape), name="kernel")


@pytest.mark.parametrize(
    ("shape", "target", "permutation"),
    [
        ((2, 3), (2, 3), None),
        ((2, 3), (2, 1, 3), None),
        ((2, 3), (3, 2), (1, 0)),
        ((2, 3, 4), (4, 6), (2, 0, 1)),
        ((), (1,), None),
        ((0, 3), (3, 0), (1, 0)),
    ],
)
def test_a_value_goes_forward_and_back(shape, target, permutation):
    source, twin = variable(shape), tf.Variable(tf.zeros(target))
    link = Link(source, twin, permutation=permutation)
    link.forward()
    expected = np.asarray(source.value)
    if permutation:
        expected = expected.transpose(permutation)
    np.testing.assert_array_equal(twin.numpy(), expected.reshape(target))
    np.testing.assert_array_equal(link.backward(twin.numpy()), source.value)


def test_what_is_read_instead_of_the_weight():
    twin = tf.Variable(tf.zeros((2, 2)))
    Link(variable((4,)), twin, read=lambda: np.full((2, 2), 7.0)).forward()
    np.testing.assert_array_equal(twin.numpy(), np.full((2, 2), 7.0))
    Link(variable((4,)), None).forward()  # became a setting


def test_another_number_of_entries_is_named():
    with pytest.raises(ModelError, match=r"'kernel' .* the shape \(2, 3\), and its twin '.*' has"):
        Link(variable((2, 3)), tf.Variable(tf.zeros((2, 2)))).forward()


def test_rules_are_frozen():
    twin = Twin(call=lambda one: one, how="native")
    assert list(twin.links()) == []
    with pytest.raises(FrozenInstanceError):
        twin.note = "changed"


def test_each_name_is_given_once():
    names = Names()
    names.reserve(["dense", "head"])
    assert [names.take("dense") for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    with names.within("base"):
        assert names.take("conv") == "conv"
        assert names.take("head") == "base_head"  # the outer model wants it
        with names.within("inner"):
            assert names.take("conv") == "base_inner_conv"
            assert names.take("conv") == "base_inner_conv_1"
        assert names.take("conv") == "base_conv"
    assert names.take("head") == "head"


def test_a_scope_ends_with_an_error():
    names = Names()
    with pytest.raises(KeyError), names.within("base"):
        raise KeyError
    names.take("a")
    assert names.take("a") == "a_1"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("dense", "dense"),
        ("a b-c.d", "a_b-c.d"),
        ("Schicht_ü", "Schicht__"),
        ("é", "layer_"),
        ("_hidden", "layer_hidden"),
        ("1st", "1st"),
        ("", "layer"),
    ],
)
def test_names_in_the_characters_of_tensorflow(name, plain):
    assert plain_name(name) == plain
    with tf.Graph().as_default(), tf.name_scope(plain):
        tf.constant(1)


def test_names_that_become_equal_stay_apart():
    names = Names()
    names.reserve(["ä", "ö"])
    assert [names.take("ä"), names.take("ö")] == ["layer_", "layer__1"]
