from __future__ import annotations

import inspect

import pytest

from tfopt import errors
from tfopt.errors import ExitCode, TfoptError

CODES = {
    "TfoptError": 1,
    "InputError": 2,
    "RecipeError": 2,
    "DataError": 2,
    "ModelError": 2,
    "StorageError": 2,
    "GateMissed": 3,
    "TrainingError": 4,
    "VerificationError": 4,
    "ExportError": 4,
    "RankFailed": 4,
    "BackendMissing": 5,
    "PeersLost": 6,
    "Interrupted": 130,
}


def test_every_error_has_its_documented_exit_code() -> None:
    found = {
        name: int(kind.exit_code)
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, TfoptError)
    }
    assert found == CODES
    assert {int(code) for code in ExitCode} == {0, *CODES.values()}


@pytest.mark.parametrize("name", CODES)
def test_the_message_is_what_was_said(name: str) -> None:
    assert (
        str(getattr(errors, name)("what failed, and what to do")) == "what failed, and what to do"
    )
