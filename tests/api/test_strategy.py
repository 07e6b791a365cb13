"""Which strategy a Python function trains with."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from tfopt.api.strategy import strategy_of
from tfopt.errors import InputError


def launched_by(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_process_on_its_own_is_single() -> None:
    assert strategy_of("auto").name == "single"
    assert strategy_of("auto") is strategy_of("single")


def test_a_strategy_of_tensorflow_is_taken_as_it_is() -> None:
    strategy = strategy_of(tf.distribute.MirroredStrategy(["CPU:0"]))
    assert (strategy.name, strategy.replicas, strategy.size) == ("mirrored", 1, 1)
    with pytest.raises(InputError, match="OneDeviceStrategy; the Python functions train with Mir"):
        strategy_of(tf.distribute.OneDeviceStrategy("CPU:0"))


def test_what_is_no_strategy_is_refused() -> None:
    with pytest.raises(InputError, match="one of auto, single.*'horovd'. Did you mean 'horovod'"):
        strategy_of("horovd")
    with pytest.raises(InputError, match="Received: 2"):
        strategy_of(2)


def test_ranks_do_not_train_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    launched_by(monkeypatch, HOROVOD_RANK="1", HOROVOD_SIZE="2")
    for given in ("single", "mirrored", tf.distribute.MirroredStrategy(["CPU:0"])):
        with pytest.raises(InputError, match="started 2 processes .*: each would train alone"):
            strategy_of(given)


def test_elastic_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launched_by(monkeypatch, HOROVOD_ELASTIC="1")
    with pytest.raises(InputError, match="elastic run.*or use tfopt run or tfopt.fit_elastic"):
        strategy_of("auto")


def test_parameter_servers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}
    config = {"cluster": cluster, "task": {"type": "chief", "index": 0}}
    launched_by(monkeypatch, TF_CONFIG=json.dumps(config))
    with pytest.raises(InputError, match="'parameter_server', which the Python functions do not"):
        strategy_of("auto")
