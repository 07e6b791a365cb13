"""KerasHub's transformer blocks as plain tf_keras layers.

Pruning, clustering and quantization work on layers whose kernels they can see, so each
Dense kernel inside a block becomes a Dense layer of the graph. KerasHub is not imported:
the classes are known by name, the settings are read from the built layer (0.32).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfopt.bridge.to_tf_keras.blocks import (
    base,
    dot_product_attention,
    embedding_layers,
    embeddings,
    vit,
)
from tfopt.bridge.to_tf_keras.blocks.attention import Masks, attention, multi_head_attention
from tfopt.bridge.to_tf_keras.blocks.base import (
    BlockParts,
    Call,
    Undecomposable,
    call_arguments,
    require_calls,
)
from tfopt.bridge.to_tf_keras.blocks.dot_product_attention import TENSORS
from tfopt.bridge.to_tf_keras.twin import Names, Rule, Twin
from tfopt.keras2.core import Layer

__all__ = ["OBJECTS", "RULES", "Undecomposable", "transformer_decoder", "transformer_encoder"]

_ENCODER_TAKES = frozenset({"inputs", "padding_mask", "attention_mask"})
_DECODER_TAKES = frozenset(
    {
        *("decoder_sequence", "decoder_padding_mask", "decoder_attention_mask"),
        *("encoder_sequence", "encoder_padding_mask", "encoder_attention_mask"),
        "use_causal_mask",
    }
)


def transformer_encoder(layer: Any, names: Names) -> Twin:
    """Turn ``keras_hub.layers.TransformerEncoder`` into plain layers.

    Args:
        layer: A built layer, called without asking for its attention scores.
        names: The names in use.

    Raises:
        Undecomposable: If a setting or a call argument cannot be followed.
    """
    require_calls(layer, _ENCODER_TAKES)
    parts = BlockParts(layer, names)
    attend = attention(layer._self_attention_layer, parts, "attention")
    attended = _block(layer, parts, "self_attention", part="attention")
    run_feedforward = _feedforward(layer, parts)
    fed = _block(layer, parts, "feedforward", part="feedforward")

    def call(*args: Any, **kwargs: Any) -> Any:
        given = call_arguments(layer, args, kwargs, takes=_ENCODER_TAKES)
        # An attached mask counts beside an explicit one: MultiHeadAttention reads it itself.
        masks = Masks(
            padding=(given["padding_mask"],) if "padding_mask" in given else (),
            attention=given.get("attention_mask"),
            attached=TENSORS,
        )
        x = attended(given["inputs"], lambda x: attend(x, x, masks))
        return fed(x, run_feedforward)

    return parts.twin_called(call)


def transformer_decoder(layer: Any, names: Names) -> Twin:
    """Turn ``keras_hub.layers.TransformerDecoder`` into plain layers.

    Args:
        layer: A built layer, called without a cache.
        names: The names in use.

    Raises:
        Undecomposable: If a setting or a call argument cannot be followed.
    """
    require_calls(layer, _DECODER_TAKES)
    parts = BlockParts(layer, names)
    attend = attention(layer._self_attention_layer, parts, "attention")
    attended = _block(layer, parts, "self_attention", part="attention")
    crosses = layer._cross_attention_layer is not None
    if crosses:
        attend_across = attention(layer._cross_attention_layer, parts, "cross_attention")
        crossed = _block(layer, parts, "cross_attention", part="cross_attention")
    run_feedforward = _feedforward(layer, parts)
    fed = _block(layer, parts, "feedforward", part="feedforward")

    def call(*args: Any, **kwargs: Any) -> Any:
        given = call_arguments(layer, args, kwargs, takes=_DECODER_TAKES)
        masks = _merged_masks(given, "decoder", causal=given.get("use_causal_mask", True))
        x = attended(given["decoder_sequence"], lambda x: attend(x, x, masks))
        if crosses:
            across = _merged_masks(given, "encoder", causal=False)
            x = crossed(x, lambda x: attend_across(x, given["encoder_sequence"], across))
        return fed(x, run_feedforward)

    return parts.twin_called(call)


def _merged_masks(given: Mapping[str, Any], side: str, *, causal: bool) -> Masks:
    """Return which masks count, as KerasHub's merge_padding_and_attention_mask has it.

    The mask attached to a sequence counts only if no padding mask is passed.
    """
    padding = given.get(f"{side}_padding_mask")
    return Masks(
        padding=() if padding is None else (padding,),
        attention=given.get(f"{side}_attention_mask"),
        causal=causal,
        attached=("value",) if padding is None else (),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """Something run around a shortcut, with the normalization before or after it.

    Attributes:
        norm: The normalization.
        dropout: Follows what is run.
        add: Adds the shortcut.
        normalize_first: Whether the normalization comes before.
    """

    norm: Layer
    dropout: Call
    add: Layer
    normalize_first: bool

    def __call__(self, inputs: Any, run: Callable[[Any], Any]) -> Any:
        """Return the result of one block, in the shape of ``inputs``."""
        x = run(self.norm(inputs) if self.normalize_first else inputs)
        x = self.add([self.dropout(x), inputs])
        return x if self.normalize_first else self.norm(x)


def _block(layer: Any, parts: BlockParts, source: str, *, part: str) -> _Block:
    norm = getattr(layer, f"_{source}_layer_norm")
    return _Block(
        norm=parts.norm(norm, f"{part}_norm"),
        dropout=parts.dropout(getattr(layer, f"_{source}_dropout"), f"{part}_dropout"),
        add=parts.add(f"{part}_add", like=layer),
        normalize_first=bool(layer.normalize_first),
    )


def _feedforward(layer: Any, parts: BlockParts) -> Call:
    intermediate = parts.dense(layer._feedforward_intermediate_dense, "feedforward_intermediate")
    output = parts.dense(layer._feedforward_output_dense, "feedforward_output")
    return lambda x: output(intermediate(x))


RULES: Mapping[str, Rule] = {
    "keras.MultiHeadAttention": multi_head_attention,
    "keras.ReversibleEmbedding": embeddings.reversible_embedding,
    "keras_hub.CachedMultiHeadAttention": multi_head_attention,
    "keras_hub.MaskedLMHead": embeddings.masked_lm_head,
    "keras_hub.MLP": vit.mlp,
    "keras_hub.PositionEmbedding": embeddings.position_embedding,
    "keras_hub.ReversibleEmbedding": embeddings.reversible_embedding,
    "keras_hub.TokenAndPositionEmbedding": embeddings.token_and_position_embedding,
    "keras_hub.TransformerDecoder": transformer_decoder,
    "keras_hub.TransformerEncoder": transformer_encoder,
    "keras_hub.ViTEncoder": vit.vit_encoder,
    "keras_hub.ViTEncoderBlock": vit.vit_encoder_block,
    "keras_hub.ViTPatchingAndEmbedding": vit.vit_patching_and_embedding,
}
"""Rules by ``<top module>.<class name>`` of the Keras 3 layer."""

OBJECTS: Mapping[str, type] = {
    **dot_product_attention.OBJECTS,
    **base.OBJECTS,
    **embedding_layers.OBJECTS,
    **vit.OBJECTS,
}
"""The layer classes of these rules; a saved model needs them as ``custom_objects``."""
