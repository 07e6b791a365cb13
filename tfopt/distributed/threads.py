"""Let the processes on one host share its cores instead of each taking all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress

import tensorflow as tf

_CHOSEN_BY_USER = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_LEAST_INTER_OP = 2  # one may sit in a Python function


def share_cores(processes_here: int) -> None:
    """Give TensorFlow in this process its part of the host's cores.

    Nothing is done where the user has said otherwise (``TF_NUM_INTRAOP_THREADS``,
    ``TF_NUM_INTEROP_THREADS``, ``tf.config.threading``), for a process that is alone on its
    host, or when TensorFlow runs already.

    Args:
        processes_here: Processes of the run on this host.
    """
    threading = tf.config.threading
    is_chosen = (
        any(os.environ.get(name) for name in _CHOSEN_BY_USER)
        or threading.get_intra_op_parallelism_threads()
        or threading.get_inter_op_parallelism_threads()
    )
    if is_chosen or processes_here < 2:
        return
    cores = own_cores(len(os.sched_getaffinity(0)), os.cpu_count() or 1, processes_here)
    with suppress(RuntimeError):  # fixed once TensorFlow has run something
        threading.set_intra_op_parallelism_threads(cores)
        threading.set_inter_op_parallelism_threads(max(_LEAST_INTER_OP, cores))


def own_cores(allowed: int, cores: int, processes: int) -> int:
    """Return how many cores are one process's, ``>= 1``.

    Args:
        allowed: Cores that this process may run on.
        cores: Cores of the host.
        processes: Processes of the run on the host.

    Example:
        >>> own_cores(8, 8, 2), own_cores(2, 8, 4), own_cores(2, 2, 4)
        (4, 2, 1)
    """
    fair = max(1, cores // processes)
    # A launcher that binds each process to cores of its own, as mpirun does, has divided them.
    return allowed if allowed <= fair else max(1, allowed // processes)


def workers_here(environment: Mapping[str, str]) -> int:
    """Return how many workers ``TF_CONFIG`` puts on this worker's host.

    Example:
        >>> workers_here({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1", "a:2"]}, '
        ...               '"task": {"type": "worker", "index": 2}}'})
        2
    """
    config = json.loads(environment["TF_CONFIG"])
    addresses = [one for job in config["cluster"].values() for one in job]
    hosts = [address.rpartition(":")[0] for address in addresses]
    task = config["task"]
    own = config["cluster"][task["type"]][int(task["index"])].rpartition(":")[0]
    return hosts.count(own)
