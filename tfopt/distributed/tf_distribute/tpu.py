"""The cores of a TPU, by ``tf.distribute``. No TPU was at hand: only this path to it was run."""

from __future__ import annotations

import tensorflow as tf

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.environment import Place
from tfopt.distributed.lost_peers import reason_of
from tfopt.distributed.tf_distribute.cluster import first_absent
from tfopt.distributed.tf_distribute.strategy import Distributed
from tfopt.errors import BackendMissing

_LOCAL = "local"
_REMOTE = "grpc://"
_ANSWER_SECONDS = 20.0


def open_tpu(settings: Settings, place: Place) -> Distributed:
    """Return the strategy of all cores of a TPU.

    Raises:
        BackendMissing: If there is none, or it does not answer.
    """
    name = settings.tpu or _LOCAL
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        address = str(resolver.master())
        # TensorFlow itself would wait for an address that nobody has.
        if address.startswith(_REMOTE):
            _require_answer(address)
        if name != _LOCAL:
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        native = tf.distribute.TPUStrategy(resolver)
    except tf.errors.OpError as error:
        raise _missing(name, reason_of(error)) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise _missing(name, str(error)) from error
    return Distributed("tpu", native, place)


def _require_answer(address: str) -> None:
    if first_absent([address.removeprefix(_REMOTE)], seconds=_ANSWER_SECONDS):
        raise ConnectionError(f"{address} does not answer within {_ANSWER_SECONDS:.0f} s")


def _missing(name: str, reason: str) -> BackendMissing:
    where = "this machine has none" if name == _LOCAL else f"strategy.tpu {name!r} is not reached"
    return BackendMissing(
        f"strategy.kind is 'tpu', but {where} ({reason.splitlines()[0]:.200}). Run it on a TPU VM "
        "with: pip install tensorflow-tpu; or set strategy.tpu to a TPU's name or "
        "grpc://host:port, or strategy.kind to auto."
    )
