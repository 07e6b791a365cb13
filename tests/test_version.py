from __future__ import annotations

import re

import pytest

from tfopt.version import TESTED_VERSIONS, untested


def test_a_tested_version_is_major_and_minor() -> None:
    assert set(TESTED_VERSIONS) == {"python", "tensorflow", "tf_keras", "keras"}
    for versions in TESTED_VERSIONS.values():
        assert versions
        assert all(re.fullmatch(r"\d+\.\d+", version) for version in versions)


@pytest.mark.parametrize("suffix", ["", ".0", ".99", ".0rc1", ".0+cpu"])
def test_what_comes_after_major_and_minor_does_not_matter(suffix: str) -> None:
    found = {name: versions[-1] + suffix for name, versions in TESTED_VERSIONS.items()}
    assert untested(found) == []


@pytest.mark.parametrize("version", ["99.0.1", "2.2", "2.210.0"])
def test_another_version_is_named_with_those_that_were_run(version: str) -> None:
    (text,) = untested({"tensorflow": version, "numpy": "9.9"})
    assert text == f"tensorflow {version} (tested: {', '.join(TESTED_VERSIONS['tensorflow'])})"
