import pytest
import tensorflow as tf

from tfopt.data.epochs import EpochPlan, epoch_batches
from tfopt.data.sharding import WHOLE
from tfopt.errors import DataError


def numbers(plan, augment=None):
    batches = epoch_batches(
        plan,
        examples=10,
        one_epoch=lambda seed: (
            tf.data.Dataset.from_tensors(seed).map(WHOLE.part).repeat(plan.steps(10))
        ),
        finish=lambda seed: (seed,),
        augment=augment,
    )
    return [tuple(batch[0].numpy().tolist()) for batch in batches]


def test_seeds_differ_between_epochs_and_batches():
    plan = EpochPlan(batch_size=4, seed=1, first_epoch=0, epochs=3)
    assert plan.steps(10) == 3
    assert len(set(numbers(plan))) == 3
    drawn = numbers(plan, augment=lambda inputs, seed, part: seed)
    assert len(set(drawn)) == 9
    later = EpochPlan(batch_size=4, seed=1, first_epoch=2, epochs=3)
    assert numbers(later, augment=lambda inputs, seed, part: seed) == drawn[6:]


def test_a_source_that_ends_early_is_an_error_and_not_a_short_epoch():
    plan = EpochPlan(batch_size=4, seed=1, first_epoch=0, epochs=1)
    batches = epoch_batches(
        plan,
        examples=10,
        one_epoch=lambda seed: tf.data.Dataset.from_tensors(seed).map(WHOLE.part),
        finish=lambda seed: (seed,),
        augment=None,
    )
    with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain 3"):
        list(batches)


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (3, 2)])
def test_epochs_are_checked(first, last):
    with pytest.raises(DataError, match="first_epoch <= epochs"):
        EpochPlan(batch_size=1, seed=0, first_epoch=first, epochs=last)
