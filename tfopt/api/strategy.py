"""Which strategy a Python function trains with."""

from __future__ import annotations

import functools
import os
from typing import Any

import tensorflow as tf

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.base import Strategy, open_strategy
from tfopt.distributed.environment import Place, choose_kind, find_place
from tfopt.distributed.tf_distribute.strategy import Distributed
from tfopt.errors import InputError
from tfopt.registry import did_you_mean

KINDS = ("auto", "single", "mirrored", "multi_worker", "horovod")
"""What ``strategy=`` takes by name."""

_NATIVE = {
    tf.distribute.MirroredStrategy: "mirrored",
    tf.distribute.MultiWorkerMirroredStrategy: "multi_worker",
    tf.distribute.TPUStrategy: "tpu",
}


def strategy_of(given: Any) -> Strategy:
    """Return the strategy that a user names or hands over.

    A strategy that is named is opened once in a process and stays open, as its processes stay
    the same.

    Args:
        given: One of ``KINDS``, or a strategy of ``tf.distribute``.

    Raises:
        InputError: If it is neither, or does not fit how the process was launched.
        BackendMissing: If Horovod is asked for and not installed.
    """
    place = find_place(os.environ)
    if place.is_elastic:
        raise InputError(
            "This process was started for an elastic run, whose processes change. The Python "
            "functions train with the same ones from beginning to end: start them with tfopt "
            "launch without --elastic, or use tfopt run or tfopt.fit_elastic."
        )
    if isinstance(given, tf.distribute.Strategy):
        return _of_tensorflow(given, place)
    if given not in KINDS:
        raise InputError(
            f"strategy must be one of {', '.join(KINDS)}, or a strategy of tf.distribute. "
            f"Received: {given!r}.{did_you_mean(str(given), KINDS)}"
        )
    kind = choose_kind(Settings(kind=given), place)
    if kind not in KINDS:
        raise InputError(
            f"This process was launched for strategy {kind!r}, which the Python functions do not "
            f"train with. Use tfopt run, or launch it for one of {', '.join(KINDS[1:])}."
        )
    return _opened(kind)


@functools.cache
def _opened(kind: str) -> Strategy:
    try:
        return open_strategy(Settings.model_validate({"kind": kind}), find_place(os.environ))
    except InputError as error:
        if kind != "multi_worker":
            raise
        raise InputError(
            f"{str(error).rstrip('.')}. TensorFlow makes this strategy only before anything else: "
            "begin the program with strategy = tf.distribute.MultiWorkerMirroredStrategy(), and "
            "give it as strategy=strategy."
        ) from error


def _of_tensorflow(native: Any, place: Place) -> Strategy:
    kind = next((name for one, name in _NATIVE.items() if isinstance(native, one)), None)
    if kind is None:
        known = ", ".join(one.__name__ for one in _NATIVE)
        raise InputError(
            f"strategy is a {type(native).__name__}; the Python functions train with {known}."
        )
    if kind == "multi_worker" and not place.launcher:
        return Distributed("mirrored", native, place)  # TF_CONFIG names no other worker
    return Distributed(choose_kind(Settings.model_validate({"kind": kind}), place), native, place)
