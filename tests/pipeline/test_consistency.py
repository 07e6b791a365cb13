"""What the processes of a run agree on before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tfopt.config.load import parse_recipe
from tfopt.distributed.elastic.run_state import Journey
from tfopt.distributed.single import Single
from tfopt.errors import InputError, PeersLost, RankFailed, RecipeError, StorageError
from tfopt.pipeline.consistency import (
    require_elastic,
    require_one_recipe,
    require_one_start,
    require_shared,
)

RECIPE = {
    "name": "one",
    "data": {"source": "digits"},
    "model": {"builder": "lenet5"},
    "train": {
        "epochs": 1,
        "learning_rate": {"schedule": "plateau", "peak": 0.1, "monitor": "loss"},
    },
    "strategy": {"learning_rate_scaling": "linear"},
}


class Second(Single):
    """The second of two processes; the first one has other facts where they are named."""

    rank, size, replicas = 1, 2, 2

    def __init__(self, **others: str) -> None:
        self._others = others

    def gather(self, value: Any) -> list[Any]:
        _, facts = json.loads(value)
        changed = {name: self._others.get(name, fact) for name, fact in facts.items()}
        return [json.dumps(["alpha", changed]), value]


def test_a_rate_that_depends_on_the_past_is_not_scaled_anew() -> None:
    recipe = parse_recipe(RECIPE, origin="test")
    strategy = Single()
    require_elastic(strategy, recipe)
    strategy.journey = Journey(1)
    with pytest.raises(RecipeError, match="learning_rate_scaling of an elastic run.*plateau"):
        require_elastic(strategy, recipe)
    require_elastic(strategy, parse_recipe({**RECIPE, "strategy": {}}, origin="test"))


def test_what_one_process_has_otherwise_is_named() -> None:
    recipe = parse_recipe(RECIPE, origin="test")
    require_one_recipe(Second(), recipe)
    require_one_start(Second(), data="rows", model="weights")
    for others, named in (({"keras": "0"}, "keras .* instead of 0"), ({"recipe": "x"}, "recipe ")):
        with pytest.raises(InputError, match=f"Rank 1 on host .* has {named}"):
            require_one_recipe(Second(**others), recipe)
    with pytest.raises(InputError, match="has untrained model weights instead of others as rank 0"):
        require_one_start(Second(**{"untrained model": "others"}), data="rows", model="weights")


class OtherFolder(Single):
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
    require_shared(OtherFolder(tmp_path), tmp_path)


def test_a_folder_of_ones_own_is_named(tmp_path: Path) -> None:
    for name in ("chief", "own"):
        (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match="does not see the run folder .*own.* of the chief's"):
        require_shared(OtherFolder(tmp_path / "chief"), tmp_path / "own")


class ChiefAlone(Single):
    """The chief of two, whose other process does not see its folder."""

    size = replicas = 2

    def __init__(self) -> None:
        self._times = 0

    def gather(self, value: Any) -> list[Any]:
        self._times += 1
        return [value, ("Host b does not see it", 2) if self._times == 2 else None]


def test_an_elastic_run_that_has_begun_goes_on_without_that_host(tmp_path: Path) -> None:
    with pytest.raises(RankFailed, match="Rank 1 of 2 failed: Host b does not see it"):
        require_shared(ChiefAlone(), tmp_path)
    strategy = ChiefAlone()
    strategy.journey = Journey(1, output=tmp_path)
    with pytest.raises(PeersLost, match="Rank 1 of 2 failed: Host b does not see it"):
        require_shared(strategy, tmp_path)
