"""Questions about the batch of all ranks; on two of them: tests/conformance."""

from __future__ import annotations

from typing import Any

import pytest

from tfopt.distributed.horovod.global_batch import WholeBatch


class Recording:
    """Stands for Horovod, and keeps account of what it is asked."""

    Average, Max = "average", "max"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def allreduce(self, value: Any, *, op: str, name: str, ignore_name_scope: bool) -> Any:
        self.asked.append((op, name, ignore_name_scope))
        return value

    def allgather(self, value: Any, *, name: str, ignore_name_scope: bool) -> Any:
        self.asked.append(("gather", name, ignore_name_scope))
        return value


@pytest.mark.parametrize(
    ("question", "operation"),
    [("mean", "average"), ("largest", "max"), ("rows_of_all", "gather")],
)
def test_questions_are_numbered_alike_on_every_rank(question: str, operation: str) -> None:
    horovod = Recording()
    batch = WholeBatch(horovod)
    assert [getattr(batch, question)(value) for value in (1, 2)] == [1, 2]
    names = [f"tfopt.whole_batch.{number}" for number in (0, 1)]
    assert horovod.asked == [(operation, name, True) for name in names]
