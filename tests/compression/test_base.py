from __future__ import annotations

import pytest

from tfopt.compression.base import by_pattern, require_matches
from tfopt.errors import InputError


def test_the_last_matching_pattern_counts() -> None:
    found = by_pattern(
        {"conv*": 1, "conv2": 2}, {"conv1": "", "conv2": "", "out": ""}, 9, setting="s"
    )
    assert found == {"conv1": 1, "conv2": 2, "out": 9}


def test_layers_that_cannot_be_changed_have_no_value() -> None:
    assert by_pattern({}, {"conv": "", "norm": "has no kernel"}, 9, setting="s") == {"conv": 9}


def test_a_pattern_that_matches_nothing_names_the_nearest_layer() -> None:
    with pytest.raises(InputError, match=r"prune.layers: .*'cnov1' matches no layer.*'conv1'\?"):
        by_pattern({"cnov1": 1}, {"conv1": "", "out": ""}, 9, setting="prune.layers")


def test_a_pattern_for_an_unchangeable_layer_says_why() -> None:
    with pytest.raises(InputError, match=r"cannot change \(norm: has no kernel\)"):
        by_pattern({"norm": 1}, {"conv": "", "norm": "has no kernel"}, 9, setting="s")


def test_patterns_heed_case_on_every_system() -> None:
    with pytest.raises(InputError, match="matches no layer"):
        require_matches(["CONV*"], ["conv1"], setting="s")


def test_without_layers_the_message_says_none() -> None:
    with pytest.raises(InputError, match="Layers: none"):
        require_matches(["*"], [], setting="s")
