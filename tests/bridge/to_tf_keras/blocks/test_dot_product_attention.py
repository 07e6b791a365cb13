"""The attention core as a layer of its own."""

from __future__ import annotations

import numpy as np
import pytest

from tfopt.bridge.to_tf_keras.blocks.dot_product_attention import ScaledDotProductAttention

RANDOM = np.random.default_rng(0)
QUERY, KEY, VALUE = (RANDOM.normal(size=(2, 3, 4)).astype("float32") for _ in range(3))


def test_is_made_again_from_its_config() -> None:
    core = ScaledDotProductAttention(
        2, 0.7, dropout=0.2, causal=True, masks=("padding",), attached=("query",)
    )
    again = ScaledDotProductAttention.from_config(core.get_config())
    assert again.get_config() == core.get_config()
    inputs = [QUERY, KEY, VALUE, np.array([[1, 1, 0], [1, 0, 0]])]
    np.testing.assert_array_equal(again(inputs), core(inputs))


def test_agrees_with_the_formula() -> None:
    scores = np.einsum("btd,bsd->bts", QUERY, KEY) * 0.5
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    core = ScaledDotProductAttention(1, 0.5)
    np.testing.assert_allclose(core([QUERY, KEY, VALUE]), weights @ VALUE, atol=1e-6)


def test_padding_and_causal_masks_hide_positions() -> None:
    changed = VALUE + np.array([0, 0, 9.0])[:, None]
    hidden = [np.array([[1, 1, 0], [1, 1, 0]])]
    padded = ScaledDotProductAttention(2, 1.0, masks=("padding",))
    np.testing.assert_array_equal(
        padded([QUERY, KEY, VALUE, *hidden]), padded([QUERY, KEY, changed, *hidden])
    )
    causal = ScaledDotProductAttention(2, 1.0, causal=True)
    before, after = causal([QUERY, KEY, VALUE]), causal([QUERY, KEY, changed])
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert np.abs(before[:, 2] - after[:, 2]).max() > 0.1


def test_refuses_unknown_roles() -> None:
    with pytest.raises(ValueError, match="masks .* takes padding, attention. Received: pad"):
        ScaledDotProductAttention(2, 1.0, masks=("pad",))
    with pytest.raises(ValueError, match="attached .* takes query, key, value. Received: keys"):
        ScaledDotProductAttention(2, 1.0, attached=("keys",))
