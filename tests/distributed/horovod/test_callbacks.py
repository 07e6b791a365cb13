from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfopt
from tfopt.distributed.horovod import callbacks as parts
from tfopt.errors import InputError

pytestmark = pytest.mark.horovod


def compiled(k: Any, rate: Any = 0.1) -> Any:
    model = k.Sequential([k.Input((3,)), k.layers.Dense(2), k.layers.BatchNormalization()])
    model.compile(tfopt.DistributedOptimizer(k.optimizers.SGD(rate)), "mse", metrics=["mae"])
    return model


def test_all_of_them_do_nothing_on_one_rank(k: Any, rows: Any) -> None:
    plain, checked = (compiled(k) for _ in range(2))
    checked.set_weights(plain.get_weights())
    settings = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    history = plain.fit(*rows, **settings).history
    chosen = tfopt.callbacks.for_horovod(rows)
    assert checked.fit(*rows, callbacks=chosen, **settings).history == history
    for one, other in zip(plain.get_weights(), checked.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_schedule_cannot_be_warmed_up(k: Any, rows: Any) -> None:
    model = compiled(k, k.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5))
    with pytest.raises(InputError, match="this optimizer has a schedule"):
        model.fit(*rows, verbose=0, callbacks=[tfopt.callbacks.WarmUp(0.1)])


def test_warm_up_needs_the_number_of_steps(k: Any, rows: Any) -> None:
    data = tf.data.Dataset.from_tensor_slices(rows).batch(4).filter(lambda *_: True)
    with pytest.raises(InputError, match="WarmUp needs steps_per_epoch"):
        compiled(k).fit(data, shuffle=False, verbose=0, callbacks=[tfopt.callbacks.WarmUp(0.1)])
    chosen = [tfopt.callbacks.WarmUp(0.25, epochs=1, steps_per_epoch=4)]
    model = compiled(k)
    model.fit(*rows, batch_size=4, verbose=0, callbacks=chosen)
    assert float(np.asarray(model.optimizer.learning_rate)) == 0.25


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base": 0.0}, "base and epochs must be > 0. Received: 0.0 and 5"),
        ({"base": 0.1, "epochs": 0}, "Received: 0.1 and 0"),
        ({"base": 0.1, "scale": "cubic"}, "scale must be one of linear, sqrt, none"),
    ],
)
def test_settings_of_warm_up(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tfopt.callbacks.WarmUp(**settings)


@pytest.mark.parametrize(
    ("scale", "first", "last"), [("linear", 0.1, 0.4), ("sqrt", 0.1, 0.2), ("none", 0.025, 0.1)]
)
def test_the_rate_rises_to_that_of_all_ranks(
    scale: Any, first: float, last: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(parts, "hvd", lambda: SimpleNamespace(size=lambda: 4))
    callback = tfopt.callbacks.WarmUp(0.1, epochs=2, scale=scale, steps_per_epoch=5)
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=1.0)))
    callback.set_params({"steps": 5})
    callback.on_train_begin()
    rates = []
    for epoch in range(3):
        callback.on_epoch_begin(epoch)
        for batch in range(5):
            callback.on_train_batch_begin(batch)
            rates.append(callback.model.optimizer.learning_rate)
    assert rates[0] == pytest.approx(first)
    assert rates[5] == pytest.approx((first + last) / 2)
    assert rates[10:] == [pytest.approx(last)] * 5
    # What another callback sets afterwards stays.
    callback.model.optimizer.learning_rate = 0.001
    callback.on_train_batch_begin(4)
    assert callback.model.optimizer.learning_rate == 0.001


def test_rows_are_taken_from_arrays_and_datasets(rows: Any) -> None:
    from_arrays = parts._first_rows(rows, 7)
    from_data = parts._first_rows(tf.data.Dataset.from_tensor_slices(rows).batch(4), 7)
    for one, other in zip(from_arrays, from_data, strict=True):
        assert len(one) == 7
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="rows must be >= 1. Received: 0"):
        tfopt.callbacks.RequireShards(rows=0)


def test_state_is_that_of_layers_not_of_metrics(k: Any, rows: Any) -> None:
    model = compiled(k)
    model.fit(*rows, verbose=0)
    found = parts._state_of(model)
    assert [tuple(one.shape) for one in found] == [(2,), (2,)]
