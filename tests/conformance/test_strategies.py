"""The same recipe gives the same model under every strategy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("strategy_battery.py")
EXACT = [
    "sgd",
    "adam",
    "adamw",
    "ema",
    "global norm",
    "value",
    "plateau",
    "augmented",
    "sparse",
    "sparse adam",
    "prune",
    "cluster",
]
LOOSE = ["norm", "dropout", "quantize"]
_LIMIT_SECONDS = 400


def battery(settings: dict[str, Any]) -> Any:
    """Return what the program found under a strategy in one process."""
    command = [sys.executable, str(PROGRAM), json.dumps(settings)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def mirrored() -> Any:
    return battery({"kind": "mirrored", "devices": 2})


def require_same_model(found: Any, name: str, *, ranks: int) -> None:
    assert found["replicas"] == 2
    assert len(found["ranks"]) == ranks
    cases = [rank[name] for rank in found["ranks"]]
    assert all(case["weights"] == cases[0]["weights"] for case in cases)
    for case in cases:
        assert case["moved"] > 10 * case["limit"] or case["limit"] > 1e-3
        assert case["apart"] <= case["limit"]
        for key, (alone, together) in case["logs"].items():
            if key.startswith("val_"):
                assert together == pytest.approx(alone, abs=20 * case["limit"])


@pytest.mark.parametrize("name", [*EXACT, *LOOSE])
def test_mirrored(name: str, mirrored: Any) -> None:
    require_same_model(mirrored, name, ranks=1)


def test_the_battery_is_whole(mirrored: Any) -> None:
    (found,) = mirrored["ranks"]
    assert {*found} == {*EXACT, *LOOSE}
    assert all(found[name]["limit"] <= 1e-5 for name in EXACT)
    # What each replica draws or observes on its own rows is not that of one process.
    assert all(found[name]["apart"] > 1e-5 for name in LOOSE)
