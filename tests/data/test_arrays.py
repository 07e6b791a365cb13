import numpy as np
import pytest

from tfopt.config.schema import Augment
from tfopt.data.arrays import ArraySplit
from tfopt.data.epochs import EpochPlan
from tfopt.errors import DataError


def test_lengths_are_checked_however_it_is_made():
    with pytest.raises(DataError, match="inputs 3, labels 2"):
        ArraySplit(np.zeros((3, 1)), np.zeros(2))


def test_sample_weights_follow_their_rows():
    split = ArraySplit(np.arange(9.0), np.arange(9), np.arange(9, dtype=np.float32))
    batches = split.select(np.array([1, 4, 8])).training_batches(
        EpochPlan(batch_size=2, seed=0, first_epoch=0, epochs=2, augment=Augment())
    )
    for inputs, labels, weights in batches:
        assert np.array_equal(inputs, labels)
        assert np.array_equal(inputs, weights)


def test_the_users_array_is_not_changed_by_training():
    images = np.ones((8, 4, 4, 1), np.float32)
    split = ArraySplit(images)
    noisy = Augment(noise=1.0, shift=0.5)
    list(
        split.training_batches(
            EpochPlan(batch_size=4, seed=0, first_epoch=0, epochs=1, augment=noisy)
        )
    )
    assert (images == 1).all()
    assert (next(split.numpy_batches(8))[0] == 1).all()


def test_statistics_of_each_input():
    split = ArraySplit({"b": np.full((4, 2), 5.0), "a": np.arange(4)})
    assert [entry.max for entry in split.statistics()] == [3.0, 5.0]
