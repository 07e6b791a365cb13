"""States of an elastic run, in memory and on disk."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.errors import InputError, StorageError
from tfopt.storage import whole_file

_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Commit:
    """What all ranks held after an update.

    Attributes:
        step: Updates done.
        position: Rows used.
        values: Of the model's weights and the optimizer's variables, in order.
    """

    step: int
    position: int
    values: list[npt.NDArray[Any]]


class CommitFile:
    """The last commit, on disk: one ``.npz``, whole or not there.

    Args:
        path: Where; its folder exists.
        seed: Of the order of the rows.
        examples: Number of rows.
    """

    def __init__(self, path: Path, *, seed: int, examples: int) -> None:
        self.path = path
        self._order = {"seed": seed, "examples": examples}

    def write(self, commit: Commit) -> None:
        """Replace what is there.

        Raises:
            StorageError: If it cannot be written, such as on a full disk; what was there stays.
        """
        about = json.dumps({"step": commit.step, "position": commit.position, **self._order})
        with whole_file(self.path) as partial, partial.open("wb") as stream:
            np.savez(stream, *commit.values, about=np.array(about))

    def read(self, variables: int) -> Commit | None:
        """Return what is there, or None if there is no file.

        Args:
            variables: How many values the model and the optimizer have.

        Raises:
            StorageError: If the file is damaged.
            InputError: If it belongs to another model or other data.
        """
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                about = json.loads(str(stored["about"]))
                values = [stored[f"arr_{index}"] for index in range(len(stored.files) - 1)]
        except _DAMAGE as error:
            raise StorageError(
                f"The checkpoint {self.path} cannot be read ({error}). Delete it to begin anew."
            ) from error
        found = {name: about[name] for name in self._order}
        if found != self._order or len(values) != variables:
            raise InputError(
                f"The checkpoint {self.path} belongs to another run: {found}, {len(values)} "
                f"values. This one has {self._order}, {variables} values. Delete it, or give "
                "another file."
            )
        return Commit(about["step"], about["position"], values)
