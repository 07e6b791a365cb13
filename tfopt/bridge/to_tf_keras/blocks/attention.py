"""Multi-head attention of Keras 3 as four Dense layers and a core without weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tfopt.bridge.to_tf_keras.blocks.base import (
    MAKES_HEADS,
    BlockParts,
    Undecomposable,
    call_arguments,
    precision,
    require_calls,
)
from tfopt.bridge.to_tf_keras.blocks.dot_product_attention import TENSORS, ScaledDotProductAttention
from tfopt.bridge.to_tf_keras.twin import Names, Twin
from tfopt.keras2.core import Layer


def multi_head_attention(layer: Any, names: Names) -> Twin:
    """Turn MultiHeadAttention or CachedMultiHeadAttention into four Dense layers and a core.

    Args:
        layer: A built layer, called without a cache and without asking for its scores.
        names: The names in use.

    Raises:
        Undecomposable: If a setting or a call argument cannot be followed.
    """
    # Keras 3 puts the mask attached to the query in place of query_mask, whatever is passed.
    takes = {"query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask"}
    takes.add("use_causal_mask")
    require_calls(layer, takes)
    parts = BlockParts(layer, names)
    attend = attention(layer, parts)
    # KerasHub's class overrides ``call`` and looks at no attached mask.
    is_cached = type(layer).__name__ == "CachedMultiHeadAttention"

    def call(*args: Any, **kwargs: Any) -> Any:
        given = call_arguments(layer, args, kwargs, takes=takes)
        masks = Masks(
            padding=tuple(given[name] for name in ("value_mask", "key_mask") if name in given),
            attention=given.get("attention_mask"),
            causal=given.get("use_causal_mask", False),
            attached=() if is_cached else TENSORS,
        )
        return attend(given["query"], given["value"], masks, key=given.get("key"))

    return parts.twin_called(call)


def attention(layer: Any, parts: BlockParts, part: str = "") -> Attend:
    """Make the Dense layers of an attention layer, and return what calls them.

    Args:
        layer: A built MultiHeadAttention, or KerasHub's CachedMultiHeadAttention.
        parts: Takes the layers.
        part: Begins their names, after the prefix of ``parts``.

    Raises:
        Undecomposable: If a setting cannot be followed.
    """
    _require_plain(layer)
    start = f"{part}_" if part else ""
    return Attend(
        layer=layer,
        parts=parts,
        core_name=f"{start}core",
        query=parts.projection(layer.query_dense, f"{start}query"),
        key=parts.projection(layer.key_dense, f"{start}key"),
        value=parts.projection(layer.value_dense, f"{start}value"),
        output=parts.projection(layer.output_dense, f"{start}output"),
    )


@dataclass(frozen=True, slots=True)
class Masks:
    """Which positions may attend to which, in one call.

    Attributes:
        padding: Masks over the keys, ``(batch, S)``.
        attention: Mask that broadcasts to ``(batch, heads, T, S)``; None for none.
        causal: Whether a position attends to none after it.
        attached: Whose own masks count, of ``query``, ``key`` and ``value``.
    """

    padding: tuple[Any, ...] = ()
    attention: Any = None
    causal: bool = False
    attached: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attend:
    """The plain layers of one attention layer; calling it calls them.

    Attributes:
        layer: The Keras 3 layer.
        parts: Gives names to the cores.
        core_name: Name of a core, after the prefix of ``parts``.
        query: Projects the queries.
        key: Projects the keys.
        value: Projects the values.
        output: Projects the result.
        cores: The cores made so far; calls with the same kinds of masks share one.
    """

    layer: Any
    parts: BlockParts
    core_name: str
    query: Layer
    key: Layer
    value: Layer
    output: Layer
    cores: dict[tuple[Any, ...], Layer] = field(default_factory=dict)

    def __call__(self, query: Any, value: Any, masks: Masks, *, key: Any = None) -> Any:
        """Return the attention output, ``(batch, T, features)``.

        Args:
            query: ``(batch, T, features)``.
            value: ``(batch, S, features)``.
            masks: What may attend to what.
            key: Like ``value``; None is ``value``.
        """
        projected = [self.query(query), self.key(value if key is None else key), self.value(value)]
        roles, given = ("padding",) * len(masks.padding), masks.padding
        if masks.attention is not None:
            roles, given = (*roles, "attention"), (*given, masks.attention)
        core = self._core({"causal": masks.causal, "masks": roles, "attached": masks.attached})
        return self.output(core([*projected, *given]))

    def _core(self, settings: dict[str, Any]) -> Layer:
        kind = tuple(settings.values())
        if kind not in self.cores:
            self.cores[kind] = ScaledDotProductAttention(
                self.layer.num_heads,
                self.layer._inverse_sqrt_key_dim,
                dropout=self.layer.dropout,
                name=self.parts.name(self.core_name),
                dtype=precision(self.layer),
                **settings,
            )
        return self.cores[kind]


def _require_plain(layer: Any) -> None:
    """Raise unless attention runs over the one axis of ``(batch, length, features)``."""
    if layer.query_dense.equation != MAKES_HEADS or layer.key_dense.equation != MAKES_HEADS:
        raise Undecomposable("its inputs are not of the shape (batch, length, features)")
    if len(layer.output_dense.kernel.shape) != 3:
        raise Undecomposable("its output_shape has several axes")
    if tuple(layer.attention_axes) != (1,):
        raise Undecomposable(f"it attends over the axes {layer.attention_axes}")
    if getattr(layer, "_sliding_window", None) is not None:
        raise Undecomposable("it has a sliding_window")
    if getattr(layer, "_use_gate", False):
        raise Undecomposable("it has use_gate=True")
