"""Callbacks for ``fit`` of both Kerases on several ranks of Horovod; put them first."""

from __future__ import annotations

from tfopt.distributed.horovod.callbacks import (
    AverageMetrics,
    BroadcastState,
    MeanOfState,
    RequireAgreement,
    RequireShards,
    WarmUp,
    for_horovod,
)

__all__ = [
    "AverageMetrics",
    "BroadcastState",
    "MeanOfState",
    "RequireAgreement",
    "RequireShards",
    "WarmUp",
    "for_horovod",
]
