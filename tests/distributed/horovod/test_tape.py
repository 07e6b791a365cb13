from __future__ import annotations

import pytest
import tensorflow as tf

import tfopt
from tfopt.errors import InputError

pytestmark = pytest.mark.horovod


def test_it_is_a_tape_on_one_rank() -> None:
    variable, constant = tf.Variable(3.0), tf.constant(2.0)
    with tfopt.DistributedGradientTape(tf.GradientTape(persistent=True)) as tape:
        tape.watch(constant)
        loss = variable**2 * constant
    assert tape.gradient(loss, variable).numpy() == 12.0
    found = tape.gradient(loss, {"v": variable, "c": [constant, tf.Variable(1.0)]})
    assert found["v"].numpy() == 12.0
    assert found["c"][0].numpy() == 9.0
    assert found["c"][1] is None


def test_it_makes_its_own_tape() -> None:
    variable = tf.Variable(3.0)
    with tfopt.DistributedGradientTape() as tape:
        loss = variable * 4
    assert tape.gradient(loss, [variable])[0].numpy() == 4.0


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="op must be one of"):
        tfopt.DistributedGradientTape(op="max")
