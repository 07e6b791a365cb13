"""Find the user's data files, with errors that say where was looked."""

from __future__ import annotations

from pathlib import Path

from tfopt.errors import DataError
from tfopt.registry import did_you_mean


def existing(path: Path | None, *, what: str) -> Path:
    """Return ``path`` if something is there.

    Args:
        path: As the recipe gives it; relative to the current directory.
        what: How the message names it: ``"data.path of source 'npz'"``.

    Returns:
        The path.

    Raises:
        DataError: If it is missing.
    """
    if path is None:
        raise DataError(f"{what} is not set.")
    if path.exists():
        return path
    if not path.parent.is_dir():
        raise DataError(f"{what}: the folder {str(path.parent)!r} does not exist.")
    near = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    raise DataError(
        f"{what}: there is no {str(path)!r} (looked in {str(path.parent.resolve())!r}).{near}"
    )


def existing_file(path: Path | None, *, what: str) -> Path:
    """Return ``path`` if it is a file that is not empty.

    Args:
        path: As the recipe gives it.
        what: How the message names it.

    Returns:
        The path.

    Raises:
        DataError: If it is missing, a folder, or empty.
    """
    found = existing(path, what=what)
    if found.is_dir():
        raise DataError(f"{what}: {str(found)!r} is a folder. Give a file.")
    if found.stat().st_size == 0:
        raise DataError(f"{what}: the file {str(found)!r} is empty (0 bytes).")
    return found
