"""Which process this is among those that a launcher started; imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tfopt.config.distributed import StrategySettings
from tfopt.errors import InputError

_HOROVOD = ("HOROVOD_RANK", "HOROVOD_SIZE")
_ELASTIC = "HOROVOD_ELASTIC"
_MPI = (
    ("mpirun", ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")),
    ("mpiexec", ("PMI_RANK", "PMI_SIZE")),
)
_SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
_CLUSTER = "TF_CONFIG"


@dataclass(frozen=True, slots=True)
class Place:
    """One process among those of a run.

    Attributes:
        rank: Its number, from 0.
        size: Number of processes.
        launcher: What started them: ``horovodrun``, ``mpirun`` (also for ``horovodrun --mpi``),
            ``mpiexec``, ``srun``, ``TF_CONFIG``, or empty.
        is_elastic: Whether rank and size may change while the process lives; they are those
            that it was started with.
        task: In a cluster with parameter servers ``chief``, ``worker`` or ``ps``; the chief is
            the only process that runs the recipe. Otherwise empty.
    """

    rank: int = 0
    size: int = 1
    launcher: str = ""
    is_elastic: bool = False
    task: str = ""

    @property
    def is_launched(self) -> bool:
        """Return whether this process has others beside it, or may get some."""
        return self.size > 1 or self.is_elastic

    @property
    def kind(self) -> str:
        """Return the strategy that goes with the launcher."""
        if self.launcher == _CLUSTER:
            return "parameter_server" if self.task else "multi_worker"
        return "horovod" if self.launcher else "single"

    @property
    def serves(self) -> bool:
        """Return whether this process does what a chief tells it, and runs no recipe."""
        return self.task in ("worker", "ps")


def find_place(environment: Mapping[str, str]) -> Place:
    """Return where this process stands, from the variables that launchers set.

    Args:
        environment: The process's environment.

    Raises:
        InputError: If a variable does not say what it should.
    """
    if environment.get(_ELASTIC) == "1":
        found = [
            environment.get(name, default) for name, default in zip(_HOROVOD, "01", strict=True)
        ]
        return replace(_place("horovodrun", *found), is_elastic=True)
    for launcher, (rank, size) in (("horovodrun", _HOROVOD), *_MPI):
        if rank in environment:
            return _place(launcher, environment[rank], environment.get(size, "1"))
    # A batch script of Slurm, and a single task, have these variables too.
    if environment.get(_SLURM[1], "1") != "1" and not environment.get(_CLUSTER):
        return _place("srun", environment.get(_SLURM[0], ""), environment[_SLURM[1]])
    if environment.get(_CLUSTER):
        return _in_cluster(environment[_CLUSTER])
    return Place()


def rank_words(environment: Mapping[str, str]) -> str:
    """Return ``rank 1: `` where this process is not the first one of a run, for messages.

    Example:
        >>> rank_words({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"})
        'rank 1: '
    """
    rank = rank_of(environment)
    return f"rank {rank}: " if rank else ""


def rank_of(environment: Mapping[str, str]) -> int:
    """Return the number of this process, or 0 where its variables do not say it."""
    try:
        return find_place(environment).rank
    except InputError:
        return 0


def choose_kind(settings: StrategySettings, place: Place) -> str:
    """Return the strategy of a run, which must fit how its processes were started.

    Args:
        settings: The recipe's section.
        place: Where this process stands.

    Raises:
        InputError: If they contradict each other: processes that do not know of each
            other would train alone, and write over each other's files.
    """
    kind = place.kind if settings.kind == "auto" else settings.kind
    if kind == "parameter_server" and not place.task:
        raise InputError(
            f"strategy.kind is 'parameter_server', but {_started(place)}, and TF_CONFIG names no "
            "'ps'. Start it with: tfopt launch -np 2 --kind parameter_server -- run RECIPE"
        )
    if place.task and kind != "parameter_server":
        raise InputError(
            f"strategy.kind is {kind!r}, but {_started(place)} of a cluster with parameter "
            "servers. Set strategy.kind to auto or 'parameter_server', or take 'ps' out of "
            "TF_CONFIG."
        )
    if kind == "multi_worker" and place.launcher != _CLUSTER:
        raise InputError(
            f"strategy.kind is 'multi_worker', but {_started(place)}, and TF_CONFIG names no "
            "workers. Start it with: tfopt launch -np 2 --kind multi_worker -- run RECIPE"
        )
    if kind == "horovod" and place.launcher == _CLUSTER:
        raise InputError(
            f"strategy.kind is 'horovod', but {_started(place)}. Start it with horovodrun or "
            "mpirun, or set strategy.kind to auto or 'multi_worker'."
        )
    if kind in ("single", "mirrored", "tpu", "model_parallel") and place.is_launched:
        raise InputError(
            f"strategy.kind is {kind!r}, but {_started(place)}: each would train alone. Set "
            f"strategy.kind to auto or {place.kind!r}, or start one process."
        )
    return kind


def _started(place: Place) -> str:
    if not place.launcher:
        return "this process was started alone"
    if place.task:
        return f"TF_CONFIG says that this is the {place.task}"
    number = f"{place.size} process{'' if place.size == 1 else 'es'}"
    return f"{place.launcher} started {number} (this is rank {place.rank})"


def _place(launcher: str, rank: str, size: str) -> Place:
    if not (rank.isdigit() and size.isdigit() and int(rank) < int(size)):
        raise InputError(
            f"{launcher} says that this is rank {rank!r} of {size!r} processes, which is "
            "impossible. Start the run again, or unset its variables."
        )
    return Place(int(rank), int(size), launcher)


def _in_cluster(text: str) -> Place:
    """Return the place that ``TF_CONFIG`` gives: the chief is rank 0, then the workers."""
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        chiefs, workers = len(cluster.get("chief", ())), len(cluster.get("worker", ()))
        kind, index = task["type"], int(task["index"])
        if cluster.get("ps"):
            return _with_servers(cluster, kind, index)
        rank = {"chief": index, "worker": chiefs + index}[kind]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG does not describe a chief or worker of a cluster ({error!r}). It is JSON "
            'like {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": '
            '"worker", "index": 0}}. Received: '
            f"{text:.300}"
        ) from error
    return _place(_CLUSTER, str(rank), str(chiefs + workers))


def _with_servers(cluster: Mapping[str, Sequence[str]], kind: str, index: int) -> Place:
    """Return the place in a cluster with parameter servers.

    Raises:
        InputError: If the cluster lacks a chief or workers.
        KeyError: If this process is none of the cluster's.
    """
    chiefs, workers = len(cluster.get("chief", ())), len(cluster.get("worker", ()))
    if chiefs != 1 or not workers:
        raise InputError(
            f"TF_CONFIG names parameter servers ('ps'), {chiefs} chief(s) and {workers} worker(s). "
            "A cluster with parameter servers needs one chief and at least one worker."
        )
    if not 0 <= index < len(cluster[kind]):
        raise KeyError(f"{kind} {index}")
    return Place(launcher=_CLUSTER, task=kind)
