import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment
from tfopt.data.epochs import EpochPlan
from tfopt.data.split import split_from
from tfopt.data.stream import StreamSplit, in_memory, memory_bytes, shuffle_buffer
from tfopt.errors import DataError


def counting(rows, **options):
    """Return a stream of numbers whose decoding doubles them."""
    spec = (tf.TensorSpec((), tf.int64),)
    return StreamSplit(
        tf.data.Dataset.range(rows),
        rows,
        "numbers",
        spec,
        decode=lambda number: (number * 2,),
        **options,
    )


def test_decoding_comes_after_selecting_and_shuffling():
    split = counting(10)
    assert in_memory(split).inputs.tolist() == list(range(0, 20, 2))
    assert in_memory(split.select(np.array([3, 9]))).inputs.tolist() == [6, 18]
    batches = split.training_batches(
        EpochPlan(batch_size=4, seed=0, first_epoch=0, epochs=1, augment=Augment())
    )
    drawn = np.concatenate([batch[0] for batch in batches])
    assert sorted(drawn) == list(range(0, 20, 2))
    assert list(drawn) != sorted(drawn)


def test_a_small_buffer_still_gives_every_row():
    batches = counting(50, shuffle_buffer=3).training_batches(
        EpochPlan(batch_size=8, seed=0, first_epoch=0, epochs=1, augment=Augment())
    )
    assert sorted(np.concatenate([batch[0] for batch in batches])) == list(range(0, 100, 2))


@pytest.mark.parametrize("global_seed", [0, 1, 99])
def test_order_does_not_depend_on_the_global_seed(global_seed):
    tf.random.set_seed(global_seed)
    before = tf.random.uniform(()).numpy()
    tf.random.set_seed(global_seed)
    batches = counting(8).training_batches(
        EpochPlan(batch_size=8, seed=5, first_epoch=0, epochs=2, augment=Augment())
    )
    first, second = (batch[0].numpy().tolist() for batch in batches)
    assert first == [6, 2, 0, 8, 4, 10, 12, 14]
    assert second != first
    assert tf.random.uniform(()).numpy() == before


def test_sizes():
    assert memory_bytes(counting(10)) == 80
    assert shuffle_buffer(1024**2) == 256
    assert shuffle_buffer(10**12) == 1
    assert shuffle_buffer(0) > 1000


def test_no_examples():
    with pytest.raises(DataError, match="numbers: there are no examples"):
        counting(0)


def test_examples_of_different_shape_do_not_fit_in_memory():
    def rows():
        yield np.zeros((1, 2), np.float32)
        yield np.zeros((1, 3), np.float32)

    dataset = tf.data.Dataset.from_generator(
        rows, output_signature=tf.TensorSpec((None, None), tf.float32)
    )
    with pytest.raises(DataError, match="shape|batch"):
        in_memory(split_from(dataset))


def test_a_stream_that_fails_later_is_named():
    def explode(number):
        if number == 7:
            raise DataError("file 7 is broken\nand more")
        return number

    split = StreamSplit(
        tf.data.Dataset.range(10),
        10,
        "numbers",
        (tf.TensorSpec((), tf.int64),),
        decode=lambda number: (tf.numpy_function(explode, [number], tf.int64),),
    )
    with pytest.raises(DataError, match="numbers cannot be read: file 7 is broken$"):
        list(split.numpy_batches(2))
