"""How far an elastic run has come, through all the ranks that it has had."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tfopt.distributed.horovod.membership import hosts_changed, leave
from tfopt.errors import PeersLost
from tfopt.results import RankChange

_Result = TypeVar("_Result")
_TRIES_WITHOUT_PROGRESS = 3


class RanksChanged(PeersLost):
    """The launcher has hosts to add or remove; all ranks are at the same commit."""


@dataclass(slots=True)
class Journey:
    """What a process remembers of a run while its ranks change.

    Attributes:
        commit_every_steps: Steps between two checkpoints within an epoch, ``>= 1``.
        output: The run folder, once the run has begun in it.
        stage: The stage in hand.
        step: Steps done in it, in all epochs.
        commits: Checkpoints so far.
        changes: Changes of the ranks since the run began.
    """

    commit_every_steps: int
    output: Path | None = None
    stage: str = ""
    step: int = 0
    commits: int = 0
    changes: list[RankChange] = field(default_factory=list)
    _noticed: RankChange | None = None
    _since: float = 0.0

    def meet(self, gather: Callable[[Any], list[Any]], output: Path) -> tuple[Path, bool]:
        """Take over what those know who have been here before; collective.

        Args:
            gather: Returns what each process gave, by rank.
            output: The folder that this process would choose for a new run.

        Returns:
            The run folder, and whether the run has begun in it.
        """
        found = gather((self.output, self.changes, output))
        self.changes = max((list(changes) for _, changes, _ in found), key=len)
        begun = next((folder for folder, _, _ in found if folder is not None), None)
        return (found[0][2], False) if begun is None else (begun, True)

    def is_due(self, step: int) -> bool:
        """Return whether there is to be a checkpoint after a step of an epoch, from 1."""
        return step % self.commit_every_steps == 0

    def commit(self) -> None:
        """Note that all ranks have come to a checkpoint; collective.

        Raises:
            RanksChanged: If the launcher has other hosts by now.
        """
        self.commits += 1
        if hosts_changed():
            raise RanksChanged("The hosts of the run have changed.")

    def notice(self, cause: str) -> None:
        """Note that the ranks have to meet anew."""
        self._noticed = self._noticed or RankChange(cause, self.stage, self.step, self.step, 0, 0.0)
        self._since = self._since or time.monotonic()

    def go_on(self, step: int, size: int) -> None:
        """Note that the stage in hand is trained on from a step, by so many ranks."""
        self.step = step
        if self._noticed is not None:
            before = self._noticed
            same = before.stage == self.stage
            seconds = time.monotonic() - self._since
            self.changes.append(
                RankChange(
                    before.cause,
                    before.stage,
                    before.reached,
                    step if same else before.reached,
                    size,
                    seconds,
                )
            )
        self._noticed, self._since = None, 0.0

    def until_done(self, attempt: Callable[[], _Result]) -> _Result:
        """Call a function, and again with other ranks each time that they change.

        Args:
            attempt: Enters the ranks of the moment, and does what is left to do.

        Raises:
            PeersLost: If ranks are lost time and again without a checkpoint in between.
            TrainingError: If the launcher cannot be reached.
        """
        tries, best = 0, -1
        while True:
            is_lost = True
            try:
                return attempt()
            except RanksChanged:
                is_lost = False
                self.notice("hosts changed")
            except PeersLost as error:
                tries, best = (0 if self.commits > best else tries + 1), self.commits
                if tries >= _TRIES_WITHOUT_PROGRESS:
                    raise PeersLost(
                        f"Peers were lost for the {tries + 1}th time without a checkpoint in "
                        f"between. The last time: {error}"
                    ) from error
                self.notice("lost")
            leave(lost=is_lost)
