"""All processes of a run do the same one: checked before it begins, written to one folder."""

from __future__ import annotations

import os
import platform
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tfopt.config.load import recipe_sha256
from tfopt.config.schema import PlateauRate, Recipe
from tfopt.distributed.base import Strategy, agreed, is_chief
from tfopt.distributed.versions import SAME_VERSIONS, require_equal, versions_here
from tfopt.errors import RecipeError, StorageError
from tfopt.pipeline.run_directory import RunDir, held_run_dir, open_run_dir
from tfopt.reporting.console import Reporter
from tfopt.reporting.process_log import log_into
from tfopt.storage import write_whole

_TOKEN = ".seen-by-all"

_PATIENCE_SECONDS, _LOST_CHIEF_SECONDS = 0.1, 20.0


def require_elastic(strategy: Strategy, recipe: Recipe) -> None:
    """Raise if a recipe cannot be trained by more and fewer replicas in turn.

    Raises:
        RecipeError: Naming the setting.
    """
    fits = [*([recipe.training] if recipe.training else []), *(s.settings for s in recipe.steps)]
    is_scaled = recipe.strategy.learning_rate_scaling != "none"
    if (
        strategy.journey is not None
        and is_scaled
        and any(isinstance(fit.learning_rate, PlateauRate) for fit in fits)
    ):
        raise RecipeError(
            "strategy.learning_rate_scaling of an elastic run needs a learning rate that follows "
            "from the step; that of learning_rate.schedule: plateau is what it has become. Set "
            "learning_rate_scaling: none, or another schedule."
        )


def require_one_recipe(strategy: Strategy, recipe: Recipe) -> None:
    """Raise unless all processes have the same software and recipe; before they read data.

    Raises:
        InputError: Naming what differs, and where.
    """
    require_same(strategy, versions_here(), SAME_VERSIONS)
    facts = {"recipe": recipe_sha256(recipe)}
    require_same(strategy, facts, "All processes of a run need the same file.")


def require_one_start(strategy: Strategy, *, data: str, model: str) -> None:
    """Raise unless all processes train the same model on the same rows.

    Args:
        strategy: The run's strategy.
        data: Hash of this process's data.
        model: Hash of its untrained model.

    Raises:
        InputError: Naming what differs, and where.
    """
    facts = {"training data": data, "untrained model": model}
    require_same(strategy, facts, "All processes of a run need the same.")


def require_same(strategy: Strategy, facts: Mapping[str, str], advice: str) -> None:
    """Raise unless all processes have the same facts.

    Args:
        strategy: What connects them.
        facts: What is compared, by name.
        advice: What to do, for the message.

    Raises:
        InputError: Naming what differs, and where.
    """
    if strategy.size > 1:
        require_equal(strategy.gather, facts, advice, rank=_who_fails(strategy))


def _who_fails(strategy: Strategy) -> int | None:
    """Return this rank where only it is to fail by what it has otherwise; None: all fail."""
    return None if strategy.journey is None else strategy.rank


@contextmanager
def run_folder(
    strategy: Strategy, output: Path, *, resume: bool, reporter: Reporter
) -> Iterator[RunDir]:
    """Open the run's folder; of the other processes, each has one of its own that goes away."""
    if is_chief(strategy):
        # A chief that was cut off holds the folder until it has noticed.
        is_static = strategy.journey is None
        patience = _PATIENCE_SECONDS if is_static else _LOST_CHIEF_SECONDS
        with held_run_dir(output, resume=resume, patience_seconds=patience) as directory:
            if not directory.is_locked:
                reporter.warning(
                    f"The file system of {directory.root} has no locks, so nothing stops a "
                    "second process from resuming this run while it goes on."
                )
            yield directory
        return
    with tempfile.TemporaryDirectory(prefix="tfopt-rank-") as scratch:
        yield open_run_dir(Path(scratch), resume=False)


def keep_log(folder: Path, strategy: Strategy) -> None:
    """Let this process's log go on in a folder of the run.

    Raises:
        StorageError: If it cannot be written.
    """
    if strategy.journey is None:
        log_into(folder / f"rank-{strategy.rank}.log")
    elif strategy.journey.output is None:  # once; ranks have other numbers later
        log_into(folder / f"{platform.node()}-{os.getpid()}.log")


def require_shared(strategy: Strategy, folder: Path) -> None:
    """Raise unless every process finds in the folder what the chief has written there.

    Raises:
        StorageError: Naming the host that does not.
        RankFailed: If another process does not.
    """
    token = strategy.from_chief(uuid.uuid4().hex)
    path = folder / f"{_TOKEN}-{token}"  # a new name, which no file system remembers as missing
    with agreed(strategy):
        if is_chief(strategy):
            write_whole(path, token.encode())
    with agreed(strategy):
        if not path.is_file():
            raise StorageError(
                f"Host {socket.gethostname()} does not see the run folder {folder.absolute()} of "
                "the chief's host. An elastic run needs one that all hosts share, since another "
                "host goes on from it: give -o a folder on a network file system."
            )
    with agreed(strategy):
        if is_chief(strategy):
            path.unlink(missing_ok=True)
