"""tfopt's transformers compute what PyTorch computed, and what it computes here and now."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformer_parity


@pytest.fixture(scope="module")
def reference(data: Path) -> Iterator[Any]:
    with np.load(data / "reference.npz") as file:
        yield file


def test_the_reference_says_what_computed_it(reference: Any) -> None:
    names = [entry.split()[0] for entry in reference["versions"]]
    assert names == ["torch", "transformers", "sentence_transformers"]


def test_minilm_embeds_a_hundred_sentences_as_the_reference_does(reference: Any) -> None:
    expected = reference["minilm_embeddings"]
    assert expected.shape == (100, 384)
    # The sentences are told apart: equality is not for want of a signal.
    assert np.abs(expected - expected.mean(axis=0)).max() > 0.1
    assert transformer_parity.minilm_difference(expected) <= 1e-4


@pytest.mark.parametrize("family", transformer_parity.FAMILIES)
def test_logits_of_padded_rows_are_those_of_the_reference(
    family: str, reference: Any, data: Path
) -> None:
    expected = reference[f"{family}_logits"]
    assert expected.shape == (3, 12, 60)
    assert expected.std() > 0.5
    found = transformer_parity.logits_differences(family, reference, data / family)
    assert len(found) == (2 if family == "gpt2" else 1)
    assert all(difference <= 1e-4 for difference in found.values()), found


def test_a_live_reference_agrees(tmp_path: Path, data: Path) -> None:
    absent = [name for name in transformer_parity.NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"not installed (extra 'reference'): {', '.join(absent)}")
    import sys

    file = tmp_path / "reference.npz"
    transformer_parity.compute_reference(sys.executable, data, file, create=False)
    with np.load(file) as reference:
        found = transformer_parity.differences(reference, data)
    assert all(difference <= 1e-4 for difference in found.values()), found
