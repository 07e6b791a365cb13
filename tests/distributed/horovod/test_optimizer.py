from __future__ import annotations

from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tf_keras as keras2

import tfopt
from tfopt.distributed.horovod import library
from tfopt.errors import BackendMissing, InputError

pytestmark = pytest.mark.horovod


def model_of(k: Any) -> Any:
    k.utils.set_random_seed(0)
    return k.Sequential([k.Input((3,)), k.layers.Dense(4, activation="tanh"), k.layers.Dense(2)])


def fitted(k: Any, optimizer: Any, rows: Any, **settings: Any) -> Any:
    model = model_of(k)
    model.compile(optimizer, "mse")
    model.fit(*rows, batch_size=4, epochs=2, shuffle=False, verbose=0, **settings)
    return model


def test_one_rank_trains_as_without_it(k: Any, rows: Any) -> None:
    plain = fitted(k, k.optimizers.Adam(0.01), rows)
    optimizer = k.optimizers.Adam(0.01)
    wrapped = tfopt.DistributedOptimizer(optimizer)
    assert wrapped is optimizer
    assert isinstance(wrapped, k.optimizers.Adam)
    for one, other in zip(plain.get_weights(), fitted(k, wrapped, rows).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_exclusions_and_rate_stay(k: Any, rows: Any) -> None:
    optimizer = k.optimizers.AdamW(0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model = model_of(k)
    optimizer.build(model.trainable_variables)
    held = len(optimizer.variables)
    wrapped = tfopt.DistributedOptimizer(optimizer)
    assert len(wrapped.variables) == held
    assert not wrapped._use_weight_decay(model.layers[0].bias)
    assert wrapped._use_weight_decay(model.layers[0].kernel)
    wrapped.learning_rate = 0.25
    assert float(np.asarray(wrapped.learning_rate)) == 0.25


def test_accumulated_batches_are_the_big_one(k: Any, rows: Any) -> None:
    model = model_of(k)
    model.compile(k.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(*rows, batch_size=8, epochs=2, shuffle=False, verbose=0)
    wrapped = tfopt.DistributedOptimizer(k.optimizers.SGD(0.1, momentum=0.9), accumulate_steps=2)
    small = fitted(k, wrapped, rows)
    for one, other in zip(model.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert int(np.asarray(small.optimizer.iterations)) == 4


# Keras 3 writes its variables through numpy this way.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_a_file_brings_it_back(k: Any, rows: Any, tmp_path: Path) -> None:
    schedule = k.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    wrapped = tfopt.DistributedOptimizer(
        k.optimizers.SGD(schedule, momentum=0.9), accumulate_steps=2, groups=3, op="sum"
    )
    model = fitted(k, wrapped, rows)
    model.save(tmp_path / "model.keras")
    known = {"DistributedOptimizer": tfopt.DistributedOptimizer}
    loaded = k.models.load_model(tmp_path / "model.keras", custom_objects=known)
    assert type(loaded.optimizer).__name__ == "DistributedOptimizer"
    assert loaded.optimizer.get_config() == wrapped.get_config()
    assert loaded.optimizer.get_config()["accumulate_steps"] == 2
    for one in (model, loaded):
        one.fit(*rows, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_legacy_optimizer_comes_back_too(rows: Any, tmp_path: Path) -> None:
    wrapped = tfopt.DistributedOptimizer(keras2.optimizers.legacy.SGD(0.1, momentum=0.9))
    model = fitted(keras2, wrapped, rows)
    model.save(tmp_path / "model.keras")
    loaded = keras2.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras2.optimizers.legacy.SGD)
    assert type(loaded.optimizer).__name__ == "DistributedOptimizer"


def test_a_loss_scale_optimizer_is_taken_as_each_keras_needs_it() -> None:
    inner = keras2.optimizers.SGD(0.1)
    outer = keras2.mixed_precision.LossScaleOptimizer(inner)
    assert tfopt.DistributedOptimizer(outer) is outer
    assert type(inner).__name__ == "DistributedOptimizer"
    inner = keras3.optimizers.SGD(0.1)
    outer = keras3.optimizers.LossScaleOptimizer(inner)
    assert type(tfopt.DistributedOptimizer(outer)).__name__ == "DistributedOptimizer"
    assert type(inner).__name__ == "SGD"


def test_loss_scaling_around_a_keras_3_one_is_refused(rows: Any) -> None:
    wrapped = tfopt.DistributedOptimizer(keras3.optimizers.SGD(0.1))
    with pytest.raises(InputError, match="Wrap the other way round"):
        fitted(keras3, keras3.optimizers.LossScaleOptimizer(wrapped), rows)


def test_mixed_float16_and_accumulation_do_not_go_together(rows: Any) -> None:
    with pytest.raises(InputError, match="accumulate_steps does not work with a LossScale"):
        tfopt.DistributedOptimizer(
            keras2.mixed_precision.LossScaleOptimizer(keras2.optimizers.SGD()), accumulate_steps=2
        )
    wrapped = tfopt.DistributedOptimizer(keras2.optimizers.SGD(), accumulate_steps=2)
    with pytest.raises(InputError, match="gradients arrive averaged already"):
        fitted(keras2, keras2.mixed_precision.LossScaleOptimizer(wrapped), rows)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"op": "mean"}, "op must be one of average, sum, adasum. Received: 'mean'"),
        ({"compression": "int8"}, "compression must be one of none, float16"),
        ({"groups": -1}, "groups must be a number >= 0. Received: -1"),
        ({"accumulate_steps": 0}, "accumulate_steps must be a whole number >= 1. Received: 0"),
        ({"accumulate_steps": True}, "accumulate_steps must be a whole number"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tfopt.DistributedOptimizer(keras2.optimizers.SGD(), **settings)


def test_what_is_no_optimizer_is_refused(k: Any) -> None:
    with pytest.raises(InputError, match="takes an optimizer object .* Received: builtins.str"):
        tfopt.DistributedOptimizer("adam")
    wrapped = tfopt.DistributedOptimizer(k.optimizers.SGD())
    with pytest.raises(InputError, match="averages over ranks already"):
        tfopt.DistributedOptimizer(wrapped)


def test_horovods_own_is_not_wrapped_again() -> None:
    from horovod.tensorflow.keras import DistributedOptimizer

    with pytest.raises(InputError, match="averages over ranks already"):
        tfopt.DistributedOptimizer(DistributedOptimizer(keras3.optimizers.SGD()))


def test_a_process_set_is_not_saved() -> None:
    from horovod.tensorflow import global_process_set

    wrapped = tfopt.DistributedOptimizer(keras2.optimizers.SGD(), process_set=global_process_set)
    with pytest.raises(InputError, match="cannot be saved: the set belongs to this run"):
        wrapped.get_config()


def test_it_asks_for_horovod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_installed", lambda: False)
    with pytest.raises(BackendMissing, match="install_horovod.sh"):
        tfopt.DistributedOptimizer(keras2.optimizers.SGD())
