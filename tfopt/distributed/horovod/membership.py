"""Enter the ranks of this moment, hear of changes, and leave."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfopt.distributed.horovod import consistency
from tfopt.distributed.horovod.library import hvd, is_elastic, library
from tfopt.distributed.keepalive import connected, cut, require_launcher, watch_peers

_LAUNCHER_SECONDS = 5.0


class _News:
    """What the launcher says about hosts; Horovod calls it from a thread of its own."""

    def __init__(self) -> None:
        self._has_some = False

    def on_hosts_updated(self, timestamp: int, update_res: Any) -> None:
        """Note that hosts were added or removed."""
        self._has_some = True

    def take(self) -> bool:
        """Return whether there was news since the last call."""
        found, self._has_some = self._has_some, False
        return found


_news = _News()
_peers: set[int] = set()  # connections that came with the ranks of the moment


def enter(lost_seconds: int) -> None:
    """Become one of the ranks, and let the kernel watch the connections to the others.

    Args:
        lost_seconds: How long a peer may be silent, in seconds.
    """
    if not library().is_initialized():
        _news.take()  # the ranks that meet now are what it was about
    before = connected()
    hvd()
    _peers.clear()
    _peers.update(connected() - before)
    if is_elastic():
        from horovod.common.elastic import notification_manager

        notification_manager.init()  # does nothing the second time
        notification_manager.register_listener(_news)
    watch_peers(lost_seconds)


def leave(*, lost: bool) -> None:
    """Stop being a rank, in order to enter anew.

    Args:
        lost: Whether a peer was lost; the others may not have noticed yet, and are told.

    Raises:
        TrainingError: If the launcher cannot be reached, so that nobody can say who is left.
    """
    if lost:
        cut(_peers)
    library().shutdown()
    require_launcher(_LAUNCHER_SECONDS)


def hosts_changed() -> bool:
    """Return on every rank whether the launcher has other hosts; it tells rank 0 alone."""
    return any(bool(one[0]) for one in consistency.gather(np.array([_news.take()], np.int64)))
