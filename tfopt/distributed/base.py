"""The contract of a strategy: who this process is, and how processes and replicas agree.

Only a strategy knows rank and size. What the chief does alone is reading and writing files;
every exchange is made by all processes, so none stands in a branch of the chief's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tfopt.config.distributed import StrategySettings as Settings
from tfopt.distributed.elastic.run_state import Journey
from tfopt.distributed.environment import Place, choose_kind
from tfopt.distributed.keepalive import guard_process
from tfopt.distributed.weight_digests import digests_of, require_equal_digests
from tfopt.errors import ExitCode, PeersLost, RankFailed, TfoptError
from tfopt.registry import resolve

STRATEGIES: Mapping[str, str] = {
    "single": "tfopt.distributed.single:open_single",
    "mirrored": "tfopt.distributed.tf_distribute.strategy:open_mirrored",
    "multi_worker": "tfopt.distributed.tf_distribute.strategy:open_multi_worker",
    "parameter_server": "tfopt.distributed.tf_distribute.parameter_server:open_parameter_server",
    "tpu": "tfopt.distributed.tf_distribute.tpu:open_tpu",
    "model_parallel": "tfopt.distributed.dtensor.strategy:open_model_parallel",
    "horovod": "tfopt.distributed.horovod.strategy:open_horovod",
}
"""Kind to a function from settings and place to the strategy."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What is to say of how a stage was trained.

    Attributes:
        evidence: Name to number or truth value.
        note: What the reader must know of the result, or empty.
    """

    evidence: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


class Steps(Protocol):
    """What trains a compiled model batch by batch, where ``fit`` of tf_keras cannot."""

    def train(self, batch: Any) -> Mapping[str, Any]:
        """Take a step, or begin one; return its logs, to be read with ``float``."""

    def judge(self, batch: Any) -> None:
        """Add a batch to the metrics in inference mode, or begin to."""

    def logs(self) -> dict[str, float]:
        """Wait for all that was begun, and return the metrics since they were reset."""


class Strategy(Protocol):
    """How one model is trained on many replicas.

    Attributes:
        name: Its kind.
        rank: Number of this process, from 0; the chief is 0.
        size: Number of processes.
        replicas: Number of model replicas in all processes.
        local_replicas: Those in this process; they have consecutive numbers, and each
            process has as many.
        copies: Whether a model that is to be trained must be made inside ``scope()``.
        journey: What an elastic run remembers while its processes change; None in any other.
        random_stream: Number that tells the random draws of this process from those of
            the others; 0 where the strategy tells replicas apart by itself.
    """

    name: str
    rank: int
    size: int
    replicas: int
    local_replicas: int
    copies: bool
    random_stream: int
    journey: Journey | None

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which a model is made, compiled and trained."""

    def distribute(self, batches: Any) -> Any:
        """Return what ``fit`` takes for this process's part of every batch.

        Args:
            batches: A dataset of the batches of one replica; with several replicas here,
                theirs in turns.
        """

    def whole(self, batches: Any) -> Any:
        """Return what ``fit`` takes to judge epochs by all rows, the same in every process.

        Args:
            batches: A dataset of undivided batches.
        """

    def steps_of(self, model: Any) -> Steps | None:
        """Return what trains a compiled model instead of ``fit``; None leaves it to ``fit``."""

    def spread(self) -> Spread:
        """Return what the results of a trained stage say beside its replicas and speed."""

    def optimizer(self, optimizer: Any) -> Any:
        """Return an optimizer that averages the gradients of all replicas."""

    def exchange_fraction(self) -> float | None:
        """Return which share of a step waited for other replicas, since the last call.

        It is the time from the last gradient of a replica to the last averaged one, over that
        of the step, the mean of this process; NaN if no step was measured since then, None
        if none ever is.
        """

    def recorded(self, file: Path) -> AbstractContextManager[Any]:
        """Return a context that writes what processes exchange in it to a file, if asked for.

        Args:
            file: Where the chief writes.
        """

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the logs of an epoch, averaged where each process has its own."""

    def settle(self, variables: Sequence[Any]) -> None:
        """Give all replicas the mean of their moving averages, before anything reads them.

        Args:
            variables: What is not trained, in the same order everywhere.
        """

    def copies_of(self, variable: Any) -> Sequence[Any]:
        """Return the copies of a variable that the replicas of this process hold."""

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave, by rank. It waits for all of them.

        Args:
            value: Anything that can be pickled.
        """

    def from_chief(self, value: Any) -> Any:
        """Return the chief's value on every process. It waits for the chief.

        Args:
            value: Anything that can be pickled; the others' is ignored.
        """

    def close(self) -> None:
        """Leave the run, in good order."""


def open_strategy(settings: Settings, place: Place) -> Strategy:
    """Return the strategy of a run; call it before TensorFlow does anything.

    Args:
        settings: The recipe's section.
        place: Where this process stands.

    Raises:
        InputError: If settings, launcher and devices contradict each other.
        BackendMissing: If a package is not installed.
    """
    kind = choose_kind(settings, place)
    if place.is_launched:
        guard_process()
    strategy: Strategy = resolve(STRATEGIES, "strategy", kind)(settings, place)
    return strategy


def is_chief(strategy: Strategy) -> bool:
    """Return whether this process writes the files of the run."""
    return strategy.rank == 0


@contextmanager
def agreed(strategy: Strategy) -> Iterator[None]:
    """Make an error of one process the error of all.

    No process may exchange anything with the others inside the block: one that failed
    would not take part.

    Raises:
        RankFailed: If another process raised a ``TfoptError`` in its block.
        PeersLost: The same, in an elastic run that has begun.
    """
    error: TfoptError | None = None
    try:
        yield
    except TfoptError as raised:
        error = raised
    told = None if error is None else (str(error), int(error.exit_code))
    found = strategy.gather(told)
    if error is not None:
        raise error
    for rank, other in enumerate(found):
        if other is not None:
            text, code = other
            message = f"Rank {rank} of {strategy.size} failed: {text}"
            if strategy.journey is not None and strategy.journey.output is not None:
                raise PeersLost(message)  # an elastic run that has begun goes on without it
            raise RankFailed(message, exit_code=ExitCode(code))


def require_alike(strategy: Strategy, variables: Sequence[Any], *, when: str) -> None:
    """Raise unless every replica of every process holds the same values, bit for bit.

    Ranks that do not average their gradients, or start from other weights, train on without
    any error and end with models of their own (such as Horovod 0.28.1 under a custom
    training step). It costs one hash of the weights and one exchange of a few bytes.

    Args:
        strategy: The run's strategy.
        variables: The variables, in the same order everywhere.
        when: The moment, for the message: ``after step 1``.

    Raises:
        VerificationError: With the replicas and variables that differ.
    """
    if strategy.replicas == 1 or not variables:
        return
    copies = zip(*(strategy.copies_of(variable) for variable in variables), strict=True)
    own = [digests_of(replica) for replica in copies]
    everyone = [digests for process in strategy.gather(own) for digests in process]
    causes = "a layer, a callback or a training step that changes weights on its own"
    require_equal_digests(everyone, variables, who="replicas", when=when, causes=causes)
