"""Show that all processes of an elastic run see one run folder: a new chief goes on from it."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from tfopt.distributed.base import Strategy, agreed, is_chief
from tfopt.errors import StorageError
from tfopt.storage import write_whole

_TOKEN = ".seen-by-all"


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
