"""Two ranks train what one process does, and what they cannot do has a name."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("two_ranks.py")
Launch = Callable[..., tuple[int, str]]
FAILS = (
    "import time\n"
    "from tfopt.distributed.horovod.library import hvd\n"
    "from tfopt.errors import InputError\n"
    "if hvd().rank() == 1: raise InputError('the recipe is on one rank only')\n"
    "time.sleep(600)\n"
)
KINDS = ("keras2", "keras3")

pytestmark = [pytest.mark.horovod, pytest.mark.timeout(900)]


def names_in(table: str) -> list[str]:
    """Read the cases of a table from the program, without importing what it imports."""
    for node in ast.walk(ast.parse(PROGRAM.read_text())):
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == table:
            return [key.value for key in node.value.keys]  # type: ignore[union-attr]
    raise AssertionError(table)


PARITY = [
    *(f"{kind}/{name}" for kind in KINDS for name in [*names_in("SETTINGS"), "tape"]),
    *(f"legacy/{name}" for name in names_in("LEGACY")),
    "distillation",
]


def results(output: str) -> dict[str, Any]:
    """Return what rank 0 printed as JSON."""
    lines = [line for line in output.splitlines() if "RESULTS " in line]
    assert lines, output[-4000:]
    return json.loads(lines[0].split("RESULTS ", 1)[1])


@pytest.fixture(scope="module")
def found(launch: Launch) -> dict[str, Any]:
    code, output = launch("horovodrun", PROGRAM, seconds=800)
    assert code == 0, output[-4000:]
    return results(output)


def of(found: dict[str, Any], name: str) -> dict[str, Any]:
    case = found[name]
    assert "failed" not in case, case["failed"]
    return case


def errors(found: dict[str, Any], name: str) -> list[str]:
    """What each rank raised; both must have raised the same, at the same place."""
    raised = of(found, name)["errors"]
    assert len(raised) >= 2
    assert raised[0] == raised[1]
    return raised


def test_no_case_is_forgotten(found: dict[str, Any]) -> None:
    assert len(PARITY) >= 55
    assert set(PARITY) <= set(found)
    assert of(found, "ranks") == {"size": 2, "ranks": [0, 1]}


@pytest.mark.parametrize("name", PARITY)
def test_two_halves_train_as_the_whole(found: dict[str, Any], name: str) -> None:
    case = of(found, name)
    assert case["difference"] <= case["tolerance"]
    assert case["moved"] > 1000 * case["difference"] or case["tolerance"] > 1e-4
    assert case["moved"] > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_of_ranks_leaves_the_others_alone(found: dict[str, Any], kind: str) -> None:
    case = of(found, f"{kind}/sets_of_one")
    assert case["differences"] == [0.0, 0.0]
    assert case["sums"][0] != case["sums"][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_step_is_skipped_on_all_ranks(found: dict[str, Any], kind: str) -> None:
    case = of(found, f"{kind}/skipped_together")
    assert case == {"moved": [0.0, 0.0], "scale": [512.0, 512.0]}


@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_give_all_ranks_one_history_and_a_rising_rate(
    found: dict[str, Any], kind: str
) -> None:
    case = of(found, f"{kind}/callbacks")
    first, second = case["histories"]
    assert first == second
    assert {"loss", "mae", "val_loss", "val_mae"} <= set(first)
    rates = case["rates"]
    assert len(rates) == 18
    expected = np.minimum(np.linspace(0.01, 0.025, 19)[:18], 0.02)
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_built_by_its_first_step_is_broadcast(found: dict[str, Any], kind: str) -> None:
    assert of(found, f"{kind}/first_step_builds")["variables"] >= 4


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_reduced(found: dict[str, Any], kind: str) -> None:
    case = of(found, f"{kind}/statistics")
    apart = np.asarray(case["without"])
    assert np.abs(apart[0] - apart[1]).max() > 1e-2
    one, other = np.asarray(case["with"])
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, apart.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_goes_on_from_its_file(found: dict[str, Any], kind: str) -> None:
    case = of(found, f"{kind}/saved_and_loaded")
    assert case["kind"] == "DistributedOptimizer"
    assert case["difference"] == 0
    assert case["rate"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    "name",
    ["keras2/plain_optimizer", "keras3/plain_optimizer", "horovods_own_with_a_custom_step"],
)
def test_gradients_that_are_not_averaged_are_found(found: dict[str, Any], name: str) -> None:
    text = errors(found, name)[0]
    assert text.startswith("VerificationError: The weights of ranks [0, 1] differ after the first")
    assert "tfopt.DistributedOptimizer" in text


def test_horovods_own_around_keras_3_is_named_and_found(found: dict[str, Any]) -> None:
    named, _, measured, again = errors(found, "horovods_own_around_keras_3")
    assert "does not average gradients of Keras 3" in named
    assert "differ after the first step" in measured
    assert measured == again


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keras2/same_data", "DataError: Ranks 0 and 1 have the same training data: 48 of 48"),
        ("keras3/same_data", "DataError: Ranks 0 and 1 have the same training data: 48 of 48"),
        ("same_data_shuffled", "of 500 rows looked at. Each rank must have a part of its own"),
        ("equal_rows_in_shards", "nothing"),
        ("keras2/unequal_steps", "(rank 0: 4, rank 1: 6)"),
        ("keras3/unequal_steps", "(rank 0: 4, rank 1: 6)"),
        ("keras2/stops_on_one_rank", "Only ranks [1] of 2 want to stop training"),
        ("keras3/stops_on_one_rank", "Only ranks [1] of 2 want to stop training"),
        ("different_models", "The ranks built different models or optimizers"),
        ("keras2/compiled_by_xla", "jit_compile=False"),
        ("keras3/compiled_by_xla", "jit_compile=False"),
        ("loss_scaling_outside", "Wrap the other way round"),
        ("adasum", "op='adasum' is an MPI operation of Horovod, and this process uses Gloo"),
    ],
)
def test_what_cannot_be_is_told_on_every_rank(found: dict[str, Any], name: str, words: str) -> None:
    assert words in errors(found, name)[0]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")
def test_mpi_trains_the_same(launch: Launch) -> None:
    from tfopt.distributed.horovod.library import library

    if not library().mpi_built():
        pytest.skip("Horovod was built without MPI: scripts/install_horovod.sh --mpi")
    names = ["ranks", "adasum", "keras2/momentum", "keras3/momentum"]
    code, output = launch("mpirun", PROGRAM, *names, seconds=300)
    assert code == 0, output[-4000:]
    case = results(output)
    assert of(case, "ranks") == {"size": 2, "ranks": [0, 1]}
    assert of(case, "adasum")["errors"] == ["nothing", "nothing"]
    # Orthogonal gradients add up; equal ones would be averaged.
    np.testing.assert_allclose(of(case, "adasum")["result"], [1.0, 1.0], atol=1e-6)
    for name in names[2:]:
        assert of(case, name)["difference"] <= of(case, name)["tolerance"]


def test_a_rank_that_fails_ends_the_launch(launch: Launch) -> None:
    code, output = launch("horovodrun", "-c", FAILS, seconds=120)
    assert code != 0
    assert "InputError: the recipe is on one rank only" in output
