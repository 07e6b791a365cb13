from __future__ import annotations

import json

import pytest

from tfopt.errors import InputError
from tfopt.strategies.versions import (
    PACKAGES,
    require_equal,
    require_equal_versions,
    versions_here,
)


def test_equal_versions_pass() -> None:
    require_equal_versions(lambda text: [text, text])


@pytest.mark.parametrize("package", [*PACKAGES, "python", "tfopt"])
def test_another_version_names_host_package_and_both_versions(package: str) -> None:
    chief = json.dumps(["alpha", versions_here() | {package: "0.0.1"}])
    own = versions_here()[package]
    with pytest.raises(InputError, match=rf"Host \S+ has {package} {own} instead of 0.0.1 as on a"):
        require_equal_versions(lambda text: [chief, text])


def test_other_facts_are_named() -> None:
    chief = json.dumps(["alpha", {"rows": "50", "seed": "1"}])
    with pytest.raises(
        InputError, match=r"Host \S+ has rows 40 instead of 50 as on alpha. Look up"
    ):
        require_equal(lambda text: [chief, text], {"rows": "40", "seed": "1"}, "Look up.")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    chief = json.dumps(["alpha", versions_here()])
    monkeypatch.setattr("tfopt.strategies.versions.PACKAGES", ("no-such-package",))
    with pytest.raises(InputError, match="tensorflow None instead of 2"):
        require_equal_versions(lambda text: [chief, text])
    assert versions_here()["no-such-package"] == "not installed"
