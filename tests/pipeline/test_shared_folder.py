from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfopt.distributed.elastic.run_state import Journey
from tfopt.distributed.single import Single
from tfopt.errors import PeersLost, RankFailed, StorageError
from tfopt.pipeline.shared_folder import require_shared


class Other(Single):
    """The second of two processes; the chief writes into a folder of its own."""

    rank, size, replicas = 1, 2, 2

    def __init__(self, chief: Path) -> None:
        self._chief = chief
        self._token = ""

    def from_chief(self, value: Any) -> Any:
        self._token = "token"
        return self._token

    def gather(self, value: Any) -> list[Any]:
        (self._chief / f".seen-by-all-{self._token}").write_text(self._token)
        return [None, value]


def test_one_folder_for_all(tmp_path: Path) -> None:
    require_shared(Single(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    require_shared(Other(tmp_path), tmp_path)


def test_a_folder_of_ones_own_is_named(tmp_path: Path) -> None:
    for name in ("chief", "own"):
        (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match="does not see the run folder .*own.* of the chief's"):
        require_shared(Other(tmp_path / "chief"), tmp_path / "own")


class First(Single):
    """The chief of two, whose other process does not see its folder."""

    size = replicas = 2

    def __init__(self) -> None:
        self._times = 0

    def gather(self, value: Any) -> list[Any]:
        self._times += 1
        return [value, ("Host b does not see it", 2) if self._times == 2 else None]


def test_an_elastic_run_that_has_begun_goes_on_without_that_host(tmp_path: Path) -> None:
    with pytest.raises(RankFailed, match="Rank 1 of 2 failed: Host b does not see it"):
        require_shared(First(), tmp_path)
    strategy = First()
    strategy.journey = Journey(1, output=tmp_path)
    with pytest.raises(PeersLost, match="Rank 1 of 2 failed: Host b does not see it"):
        require_shared(strategy, tmp_path)
