"""A TPU that is not there is said at once; the rest is run with a stand-in for its cores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.base import open_strategy
from tfopt.distributed.environment import Place
from tfopt.distributed.launch.launcher import free_ports
from tfopt.distributed.tf_distribute import tpu
from tfopt.errors import BackendMissing, ExitCode


def test_a_machine_without_a_tpu() -> None:
    with pytest.raises(
        BackendMissing, match=r"this machine has none \(.+\).*tensorflow-tpu"
    ) as caught:
        open_strategy(Settings(kind="tpu"), Place())
    assert caught.value.exit_code == ExitCode.BACKEND_MISSING


def test_a_tpu_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpu, "_ANSWER_SECONDS", 0.1)
    address = f"grpc://localhost:{free_ports(1)[0]}"
    with pytest.raises(BackendMissing, match=f"{address!r} is not reached .*does not answer"):
        open_strategy(Settings(kind="tpu", tpu=address), Place())


def test_the_path_to_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    def resolver(tpu: str) -> Any:
        return SimpleNamespace(tpu=tpu, master=lambda: "")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    monkeypatch.setattr(
        tf.config, "experimental_connect_to_cluster", lambda r: done.append(("connect", r.tpu))
    )
    monkeypatch.setattr(
        tf.tpu.experimental, "initialize_tpu_system", lambda r: done.append(("initialize", r.tpu))
    )
    monkeypatch.setattr(
        tf.distribute, "TPUStrategy", lambda r: tf.distribute.MirroredStrategy(["CPU:0"])
    )
    strategy = open_strategy(Settings(kind="tpu", tpu="mine"), Place())
    assert done == [("connect", "mine"), ("initialize", "mine")]
    assert (strategy.name, strategy.size, strategy.replicas) == ("tpu", 1, 1)
    with strategy.scope():
        assert tf.distribute.get_strategy().num_replicas_in_sync == 1
    done.clear()
    open_strategy(Settings(kind="tpu"), Place())
    assert done == [("initialize", "local")]


def test_a_name_is_for_a_tpu() -> None:
    with pytest.raises(ValueError, match="tpu is for kind 'tpu'; this is 'single'"):
        Settings(kind="single", tpu="mine")
