from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("elastic_ranks.py")

pytestmark = pytest.mark.horovod


def results(text: str) -> dict[tuple[str, int], dict[str, Any]]:
    found = [json.loads(line) for line in re.findall(r"RESULT (\{.*\})", text)]
    return {(one["keras"], one["rank"]): one for one in found}


def test_parts_of_unequal_size_weigh_as_many_rows(launch: Callable[..., tuple[int, str]]) -> None:
    code, text = launch("horovodrun", PROGRAM)
    assert code == 0, text
    found = results(text)
    words = [sys.executable, str(PROGRAM)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    alone = results(done.stdout)
    assert len(found) == 4
    for keras in ("tf_keras", "keras3"):
        first, second, one = found[keras, 0], found[keras, 1], alone[keras, 0]
        assert (first["size"], first["steps"], one["size"]) == (2, 9, 1)
        assert first["weights"] == second["weights"]
        for own, expected in zip(first["weights"], one["weights"], strict=True):
            assert np.allclose(own, expected, rtol=0, atol=1e-6)


def test_a_host_with_another_version_is_named(launch: Callable[..., tuple[int, str]]) -> None:
    code, text = launch("horovodrun", PROGRAM, "--other-version")
    assert code != 0
    assert re.search(
        r"error: Rank 1 on host \S+ has tf_keras 2.20.0 instead of 2.21\S* as rank 0", text
    ), text
    assert not results(text)
