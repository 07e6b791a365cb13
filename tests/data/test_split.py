import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.epochs import EpochPlan
from tfopt.data.split import ArraySplit, StreamSplit, split_from
from tfopt.errors import DataError

MOVES = Augment(shift=0.1, rotate_degrees=10, noise=0.1, flip_horizontal=True)


def images(rows=50, seed=0):
    generator = np.random.default_rng(seed)
    pixels = generator.random((rows, 8, 8, 1)).astype(np.float32)
    return pixels, np.arange(rows) % 5


def stream(rows=50):
    return tf.data.Dataset.from_tensor_slices(images(rows)).batch(7)


def drawn(split, *, first=0, epochs=3, seed=3, augment=MOVES, batch_size=16):
    batches = split.training_batches(
        EpochPlan(
            batch_size=batch_size, seed=seed, first_epoch=first, epochs=epochs, augment=augment
        )
    )
    return [[part.numpy() for part in batch] for batch in batches]


def identical(first, second):
    return len(first) == len(second) and all(
        np.array_equal(left, right)
        for one, other in zip(first, second, strict=True)
        for left, right in zip(one, other, strict=True)
    )


BOTH = pytest.mark.parametrize("data", [images(), stream()], ids=["arrays", "stream"])


@BOTH
def test_resumed_epochs_are_bit_identical(data):
    split = split_from(data)
    whole = drawn(split)
    assert identical(whole, drawn(split))
    assert identical(whole[8:], drawn(split, first=2))
    assert not identical(whole[:4], whole[4:8])
    assert not identical(whole, drawn(split, seed=4))


@BOTH
def test_every_epoch_has_every_row_once(data):
    split = split_from(data)
    batches = drawn(split, epochs=1, augment=Augment())
    assert split.steps_per_epoch(16) == len(batches) == 4
    assert [len(batch[0]) for batch in batches] == [16, 16, 16, 2]
    pixels, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    wanted, wanted_labels = images()
    order = np.argsort(pixels.reshape(50, -1)[:, 0])
    wanted_order = np.argsort(wanted.reshape(50, -1)[:, 0])
    assert np.array_equal(pixels[order], wanted[wanted_order])
    assert np.array_equal(labels[order], wanted_labels[wanted_order])
    assert not np.array_equal(labels, wanted_labels)


@BOTH
def test_batches_are_in_order_with_known_cardinality(data):
    split = split_from(data)
    batches = split.batches(16)
    assert int(batches.cardinality()) == 4
    joined = np.concatenate([batch[0].numpy() for batch in batches])
    assert np.array_equal(joined, images()[0])
    labels = np.concatenate([labels for _, labels in split.numpy_batches(16)])
    assert np.array_equal(labels, images()[1])
    training = split.training_batches(
        EpochPlan(batch_size=16, seed=0, first_epoch=1, epochs=3, augment=Augment())
    )
    assert int(training.cardinality()) == 8


@BOTH
def test_specs_and_statistics(data):
    split = split_from(data)
    assert split.examples == 50
    assert split.has_labels
    assert split.input_spec == tf.TensorSpec((8, 8, 1), tf.float32)
    assert split.label_spec == tf.TensorSpec((), tf.int64)
    (statistics,) = split.statistics()
    assert statistics.rows == 50
    assert statistics.mean == pytest.approx(images()[0].mean(), abs=1e-6)
    assert statistics.std == pytest.approx(images()[0].std(), abs=1e-6)
    assert statistics.max == images()[0].max()


@BOTH
def test_samples_come_from_the_whole_split(data):
    split = split_from(data)
    sample = split.sample_inputs(10, seed=1)
    rows = [int(np.flatnonzero((images()[0] == row).all(axis=(1, 2, 3)))[0]) for row in sample]
    assert len(set(rows)) == 10
    assert max(rows) > 30
    assert np.array_equal(sample, split.sample_inputs(10, seed=1))
    assert not np.array_equal(sample, split.sample_inputs(10, seed=2))
    assert len(split.sample_inputs(1000, seed=1)) == 50
    with pytest.raises(DataError, match="At least 1 example"):
        split.sample_inputs(0, seed=1)


@BOTH
def test_take_and_select(data):
    split = split_from(data)
    assert split.take(7).examples == 7
    assert split.take(700).examples == 50
    picked = split.select(np.array([3, 20, 49]))
    ((inputs, labels),) = picked.numpy_batches(10)
    assert np.array_equal(inputs, images()[0][[3, 20, 49]])
    assert labels.tolist() == [3, 0, 4]
    assert picked.class_numbers.tolist() == [3, 0, 4]


def test_several_inputs_and_sample_weight():
    inputs = {"b": np.zeros((6, 2)), "a": np.arange(6, dtype=np.uint8)}
    split = split_from((inputs, np.zeros(6), np.ones((6, 1))))
    assert split.input_spec["a"].dtype == tf.uint8
    assert split.input_spec["b"] == tf.TensorSpec((2,), tf.float32)
    (batch,) = split.batches(6)
    assert len(batch) == 3
    assert batch[2].shape == (6,)
    sample = split.sample_inputs(2, seed=0)
    assert set(sample) == {"a", "b"}
    pair = split_from(([np.zeros((6, 2)), np.ones((6, 3))], [0, 1, 2, 0, 1, 2]))
    assert [spec.shape.as_list() for spec in pair.input_spec] == [[2], [3]]
    (batch,) = pair.batches(6)
    assert isinstance(batch[0], tuple)
    assert len(pair.statistics()) == 2


def test_inputs_without_labels():
    for data in (np.zeros((4, 3)), (np.zeros((4, 3)),), [[1, 2, 3]] * 4, (np.zeros((4, 3)), None)):
        split = split_from(data)
        assert not split.has_labels
        assert split.label_spec is None
        (batch,) = split.batches(4)
        assert len(batch) == 1
        assert next(iter(split.numpy_batches(4)))[1] is None
        assert [len(batch) for batch in drawn(split, epochs=1, augment=Augment())] == [1]


def test_unlabelled_stream():
    dataset = tf.data.Dataset.from_tensor_slices(np.zeros((4, 3), np.float32)).batch(2)
    split = split_from(dataset)
    assert not split.has_labels
    assert [len(batch) for batch in drawn(split, epochs=1, augment=Augment())] == [1]


def test_a_split_is_returned_as_it_is():
    split = split_from(images())
    assert split_from(split) is split


def test_text_labels_become_numbers():
    split = split_from((np.zeros((3, 2)), ["dog", "cat", "dog"]))
    assert split.class_names == ("cat", "dog")
    assert split.labels.tolist() == [1, 0, 1]
    objects = np.array(["b", "a", "b"], dtype=object)
    assert split_from((np.zeros((3, 2)), objects)).class_names == ("a", "b")


def test_float64_becomes_float32_and_integers_stay():
    assert split_from(np.zeros((2, 2))).inputs.dtype == np.float32
    assert split_from(np.zeros((2, 2), np.uint8)).inputs.dtype == np.uint8
    assert split_from((np.zeros((2, 2)), np.array([True, False]))).labels.dtype == np.int64


BAD = {
    "empty": (np.zeros((0, 3)), "no examples"),
    "empty list": ([], "no examples"),
    "empty pair": ((np.zeros((0, 3)), np.zeros(0)), "no examples"),
    "lengths": ((np.zeros((3, 2)), np.zeros(4)), r"differ: .*inputs 3, .*labels 4"),
    "weights": ((np.zeros((3, 2)), np.zeros(3), np.zeros(2)), "sample_weight 2"),
    "weight shape": ((np.zeros((3, 2)), np.zeros(3), np.zeros((3, 2))), "one number a row"),
    "weight alone": ((np.zeros((3, 2)), None, np.zeros(3)), "needs labels"),
    "objects": (np.array([[1], [1, 2]], dtype=object), "objects"),
    "ragged": ([[1], [1, 2]], "same shape"),
    "text": (np.array(["a", "b"]), "text"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime64"),
    "nan": ((np.array([[0.0], [1.0], [np.nan]]), np.zeros(3)), r"inputs: 1 of 3 .* first in row 2"),
    "inf label": ((np.zeros((2, 1)), np.array([0.0, np.inf])), r"labels: 1 of 2 .* row 1"),
    "overflow": (np.array([[1e300]]), "too large for float32"),
    "scalar": (np.array(1.0), "no rows"),
    "number": (5, "expected an array. Received: builtins.int"),
    "text data": ("mnist", "expected an array"),
    "none": (None, "NoneType"),
    "four": ((1, 2, 3, 4), "tuple of 4"),
    "list of arrays": ([np.zeros((3, 2)), np.zeros(3)], "Write a tuple"),
    "empty dict": ({}, "dict of arrays is empty"),
    "dict lengths": (({"a": np.zeros(3), "b": np.zeros(2)}, np.zeros(3)), r"\['b'\] 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_named(name):
    data, message = BAD[name]
    with pytest.raises(DataError, match=message) as caught:
        split_from(data, what="my data")
    assert "\n" not in str(caught.value)


def dataset_of(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])


BAD_STREAMS = {
    "endless": (lambda: stream().repeat(), "never ends. Remove .repeat"),
    "unbatched": (lambda: dataset_of(*images()), "not batched"),
    "unbatched one-hot": (
        lambda: dataset_of(images()[0], np.eye(5, dtype=np.float32)[images()[1]]),
        "Is the dataset batched",
    ),
    "empty": (lambda: stream().take(0), "the dataset is empty"),
    "nan": (
        lambda: dataset_of(np.array([[0], [np.nan]], np.float32), [0, 1]).batch(1),
        "batch from row 1: 1 of 1 entries",
    ),
    "text": (lambda: dataset_of(np.zeros((2, 1)), ["a", "b"]).batch(1), "dtype string"),
    "four": (lambda: dataset_of([1], [1], [1], [1]).batch(1), "tuples of 4"),
    "no shape": (
        lambda: tf.data.Dataset.from_generator(lambda: [np.zeros((1, 2))], output_types=tf.float32),
        "shape of inputs is unknown",
    ),
    "sparse": (
        lambda: tf.data.Dataset.from_tensors(tf.sparse.from_dense([[1.0]])),
        "must be dense",
    ),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_bad_streams_are_named(name):
    make, message = BAD_STREAMS[name]
    with pytest.raises(DataError, match=message) as caught:
        split_from(make())
    assert "\n" not in str(caught.value)


def test_a_generator_that_fails_is_named():
    def rows():
        yield np.zeros((1, 2), np.float32)
        raise RuntimeError("disk on fire")

    dataset = tf.data.Dataset.from_generator(
        rows, output_signature=tf.TensorSpec((None, 2), tf.float32)
    )
    with pytest.raises(DataError, match="my data cannot be read: .*disk on fire"):
        split_from(dataset, what="my data")


def test_unknown_cardinality_is_counted():
    dataset = stream().filter(lambda inputs, labels: True)
    assert int(dataset.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert split_from(dataset).examples == 50


def test_a_stream_that_shuffles_is_noticed_and_can_be_fixed():
    shuffling = dataset_of(*images()).shuffle(50).batch(10)
    split = split_from(shuffling)
    assert isinstance(split, StreamSplit)
    assert not split.is_stable
    fixed = split_from(shuffling, fixed_order=True)
    assert isinstance(fixed, ArraySplit)
    assert isinstance(split_from(stream(), fixed_order=True), StreamSplit)


def test_epoch_and_batch_limits():
    split = split_from(images())
    with pytest.raises(DataError, match="batch_size must be at least 1. Received: 0"):
        split.batches(0)
    with pytest.raises(DataError, match="first_epoch <= epochs"):
        drawn(split, first=4, epochs=3)
    assert drawn(split, first=3, epochs=3) == []


def test_keras_fit_takes_the_batches():
    from tfopt.keras2.core import keras

    keras.utils.set_random_seed(0)
    inputs = {"left": np.ones((9, 2)), "right": np.ones((9, 3))}
    split = split_from((inputs, np.arange(9) % 2, np.ones(9)))
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model([left, right], keras.layers.Dense(2)(joined))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = split.training_batches(
        EpochPlan(batch_size=4, seed=0, first_epoch=0, epochs=2, augment=Augment())
    )
    history = model.fit(batches, epochs=2, steps_per_epoch=3, verbose=0)
    assert len(history.history["loss"]) == 2
    assert model.predict(split.batches(4), verbose=0).shape == (9, 2)
