"""What the ranks of Horovod tell each other in the middle of a step."""

from __future__ import annotations

import itertools
from typing import Any


class WholeBatch:
    """Answers questions about the batch of all ranks; see ``tfopt.distributed.replica_context``.

    Args:
        horovod: Horovod for TensorFlow, initialized.
    """

    def __init__(self, horovod: Any) -> None:
        self._horovod = horovod
        # All ranks trace the same steps, and so number their questions alike.
        self._numbers = itertools.count()

    def mean(self, value: Any) -> Any:
        """Return the mean over all ranks."""
        return self._reduced(value, self._horovod.Average)

    def largest(self, value: Any) -> Any:
        """Return the largest over all ranks."""
        return self._reduced(value, self._horovod.Max)

    def rows_of_all(self, value: Any) -> Any:
        """Return the rows of all ranks."""
        return self._horovod.allgather(value, name=self._name(), ignore_name_scope=True)

    def _reduced(self, value: Any, operation: Any) -> Any:
        # The layers around it may be named otherwise on another rank.
        return self._horovod.allreduce(
            value, op=operation, name=self._name(), ignore_name_scope=True
        )

    def _name(self) -> str:
        return f"tfopt.whole_batch.{next(self._numbers)}"
