"""The state of a training stage, between two epochs or steps, in one file.

Weights, optimizer and bookkeeping are one ``.npz``, so they can never disagree. It is
written by a thread while the next epoch trains: a snapshot in memory takes a few
milliseconds, writing it safely to disk much longer.
"""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.errors import StorageError
from tfopt.storage import whole_file

Arrays = list[npt.NDArray[Any]]

_DAMAGE = (
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading an ``.npz`` with damaged bytes was seen to raise."""


@dataclass(slots=True)
class Progress:
    """What a stage remembers besides weights.

    Attributes:
        epochs_done: Finished epochs.
        steps_done: Steps done in the epoch after them.
        history: Epoch logs, name to one number an epoch.
        best_score: Best score among the epochs at target; larger is better.
        best_epoch: Its epoch, counted from 1.
        score_to_beat: Score of the last epoch that was a real improvement.
        epochs_since: Epochs at target since then.
        rate_wait: Epochs without improvement, for the plateau schedule.
        rate_best: Best value the plateau schedule has seen.
        stopped: Whether early stopping ended the stage.
    """

    epochs_done: int = 0
    steps_done: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)
    best_score: float | None = None
    best_epoch: int = 0
    score_to_beat: float | None = None
    epochs_since: int = 0
    rate_wait: int = 0
    rate_best: float | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stage's state at the end of an epoch, or of a step within one.

    Attributes:
        progress: Bookkeeping.
        weights: The model's weights, in order.
        optimizer: The optimizer's variables, in order.
        best: Weights of the best epoch; empty if none is kept.
    """

    progress: Progress
    weights: Arrays
    optimizer: Arrays
    best: Arrays


class CheckpointFile:
    """Writes checkpoints in the background, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def write(self, checkpoint: Checkpoint) -> None:
        """Start writing; waits for the one before.

        Raises:
            StorageError: If the one before could not be written.
        """
        self.wait()
        self._pending = self._writer.submit(_write, self.path, checkpoint)

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            StorageError: If it could not be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Finish writing and end the thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a file, or None if there is no file.

    Raises:
        StorageError: If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            counts = json.loads(str(stored["counts"]))
            groups = {
                name: [stored[f"{name}{number}"] for number in range(count)]
                for name, count in counts.items()
            }
            progress = Progress(**json.loads(str(stored["progress"])))
    except _DAMAGE as error:
        raise StorageError(
            f"The checkpoint {path} is damaged ({error}). Delete it to train the stage again."
        ) from error
    return Checkpoint(progress=progress, **groups)


def _write(path: Path, checkpoint: Checkpoint) -> None:
    groups = {name: getattr(checkpoint, name) for name in ("weights", "optimizer", "best")}
    arrays = {
        f"{name}{number}": array
        for name, group in groups.items()
        for number, array in enumerate(group)
    }
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            counts=json.dumps({name: len(group) for name, group in groups.items()}),
            progress=json.dumps(asdict(checkpoint.progress)),
            **arrays,
        )
