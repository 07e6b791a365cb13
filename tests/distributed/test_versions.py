from __future__ import annotations

import json
import re

import pytest

from tfopt.distributed.versions import PACKAGES, SAME_VERSIONS, require_equal, versions_here
from tfopt.errors import InputError


def test_equal_versions_pass() -> None:
    require_equal(lambda text: [text, text], versions_here(), SAME_VERSIONS)


@pytest.mark.parametrize("package", [*PACKAGES, "python", "tfopt"])
def test_another_version_names_host_package_and_both_versions(package: str) -> None:
    chief = json.dumps(["alpha", versions_here() | {package: "0.0.1"}])
    own = versions_here()[package]
    named = (
        rf"Rank 1 on host \S+ has {package} {re.escape(own)} instead of 0.0.1 as rank 0 on alpha"
    )
    for rank in (None, 1):
        with pytest.raises(InputError, match=named):
            require_equal(lambda text: [chief, text], versions_here(), SAME_VERSIONS, rank=rank)


def test_of_an_elastic_job_only_the_rank_that_differs_ends() -> None:
    other = json.dumps(["beta", {"rows": "50"}])
    require_equal(lambda text: [text, other], {"rows": "40"}, "Look up.", rank=0)
    with pytest.raises(InputError, match="Rank 1 on host beta has rows 50 instead of 40 as rank 0"):
        require_equal(lambda text: [text, other], {"rows": "40"}, "Look up.")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    chief = json.dumps(["alpha", versions_here()])
    monkeypatch.setattr("tfopt.distributed.versions.PACKAGES", ("no-such-package",))
    with pytest.raises(InputError, match="tensorflow None instead of 2"):
        require_equal(lambda text: [chief, text], versions_here(), SAME_VERSIONS)
    assert versions_here()["no-such-package"] == "not installed"
