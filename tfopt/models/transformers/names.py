"""Which tensor of a pretrained model belongs to which layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from tfopt.errors import ModelError
from tfopt.models.transformers.config import Family, TransformerConfig

Kind: TypeAlias = Literal["table", "dense", "fused", "norm", "vector"]


class TensorSource(NamedTuple):
    """Where the weights of one layer come from.

    Attributes:
        name: The tensors' name, without ``.weight`` or ``.bias``.
        kind: ``dense`` is ``(out, in)`` and a bias, as ``torch.nn.Linear`` has it; ``fused`` is
            ``(in, out)`` and a bias, as GPT-2's ``Conv1D`` has it; ``norm`` a scale and an
            offset; ``table`` one matrix; ``vector`` one vector, named in full.
        third: Which third of the columns, of queries, keys and values kept together.
    """

    name: str
    kind: Kind
    third: int | None = None


_BERT: Mapping[str, TensorSource] = {
    "word_embeddings": TensorSource("embeddings.word_embeddings", "table"),
    "position_embeddings": TensorSource("embeddings.position_embeddings", "table"),
    "token_type_embeddings": TensorSource("embeddings.token_type_embeddings", "table"),
    "embeddings_norm": TensorSource("embeddings.LayerNorm", "norm"),
    "layer_#_attention_query": TensorSource("encoder.layer.#.attention.self.query", "dense"),
    "layer_#_attention_key": TensorSource("encoder.layer.#.attention.self.key", "dense"),
    "layer_#_attention_value": TensorSource("encoder.layer.#.attention.self.value", "dense"),
    "layer_#_attention_output": TensorSource("encoder.layer.#.attention.output.dense", "dense"),
    "layer_#_attention_norm": TensorSource("encoder.layer.#.attention.output.LayerNorm", "norm"),
    "layer_#_intermediate": TensorSource("encoder.layer.#.intermediate.dense", "dense"),
    "layer_#_output": TensorSource("encoder.layer.#.output.dense", "dense"),
    "layer_#_output_norm": TensorSource("encoder.layer.#.output.LayerNorm", "norm"),
}
_DISTILBERT: Mapping[str, TensorSource] = {
    "word_embeddings": TensorSource("embeddings.word_embeddings", "table"),
    "position_embeddings": TensorSource("embeddings.position_embeddings", "table"),
    "embeddings_norm": TensorSource("embeddings.LayerNorm", "norm"),
    "layer_#_attention_query": TensorSource("transformer.layer.#.attention.q_lin", "dense"),
    "layer_#_attention_key": TensorSource("transformer.layer.#.attention.k_lin", "dense"),
    "layer_#_attention_value": TensorSource("transformer.layer.#.attention.v_lin", "dense"),
    "layer_#_attention_output": TensorSource("transformer.layer.#.attention.out_lin", "dense"),
    "layer_#_attention_norm": TensorSource("transformer.layer.#.sa_layer_norm", "norm"),
    "layer_#_intermediate": TensorSource("transformer.layer.#.ffn.lin1", "dense"),
    "layer_#_output": TensorSource("transformer.layer.#.ffn.lin2", "dense"),
    "layer_#_output_norm": TensorSource("transformer.layer.#.output_layer_norm", "norm"),
}
_GPT2: Mapping[str, TensorSource] = {
    "word_embeddings": TensorSource("wte", "table"),
    "position_embeddings": TensorSource("wpe", "table"),
    "layer_#_attention_norm": TensorSource("h.#.ln_1", "norm"),
    "layer_#_attention_query": TensorSource("h.#.attn.c_attn", "fused", 0),
    "layer_#_attention_key": TensorSource("h.#.attn.c_attn", "fused", 1),
    "layer_#_attention_value": TensorSource("h.#.attn.c_attn", "fused", 2),
    "layer_#_attention_output": TensorSource("h.#.attn.c_proj", "fused"),
    "layer_#_intermediate_norm": TensorSource("h.#.ln_2", "norm"),
    "layer_#_intermediate": TensorSource("h.#.mlp.c_fc", "fused"),
    "layer_#_output": TensorSource("h.#.mlp.c_proj", "fused"),
    "final_norm": TensorSource("ln_f", "norm"),
}
_BODY: Mapping[Family, Mapping[str, TensorSource]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": _DISTILBERT,
    "gpt2": _GPT2,
}
_HEAD: Mapping[Family, Mapping[str, TensorSource]] = {
    "bert": {
        "lm_transform": TensorSource("cls.predictions.transform.dense", "dense"),
        "lm_norm": TensorSource("cls.predictions.transform.LayerNorm", "norm"),
        "lm_bias": TensorSource("cls.predictions.bias", "vector"),
    },
    "roberta": {
        "lm_transform": TensorSource("lm_head.dense", "dense"),
        "lm_norm": TensorSource("lm_head.layer_norm", "norm"),
        "lm_bias": TensorSource("lm_head.bias", "vector"),
    },
    "distilbert": {
        "lm_transform": TensorSource("vocab_transform", "dense"),
        "lm_norm": TensorSource("vocab_layer_norm", "norm"),
        "lm_bias": TensorSource("vocab_projector.bias", "vector"),
    },
    "gpt2": {},
}
TIED: Mapping[Family, str] = {
    "bert": "cls.predictions.decoder.weight",
    "roberta": "lm_head.decoder.weight",
    "distilbert": "vocab_projector.weight",
    "gpt2": "lm_head.weight",
}
"""The tensor that must be equal to the table of tokens, where a file has it."""

_PREFIXES: Mapping[Family, tuple[str, ...]] = {
    "bert": ("", "bert."),
    "roberta": ("", "roberta."),
    "distilbert": ("", "distilbert."),
    "gpt2": ("", "transformer."),
}
# Tensors that are in files of these families and have no place in the model, with the reason.
_HARMLESS: tuple[tuple[str, str], ...] = (
    (r"embeddings\.(position|token_type)_ids", "numbers of positions, which the model counts"),
    (r"h\.\d+\.attn\.(masked_)?bias", "the causal mask, which the model makes"),
    (r"pooler\.dense\.(weight|bias)", "the pooler of the pretraining; pooling is the head's"),
    (r"cls\.seq_relationship\.(weight|bias)", "the next-sentence head of the pretraining"),
    (r"cls\.predictions\..*|lm_head\..*|vocab_\w+\..*", "the language-model head"),
    (
        r"(classifier|pre_classifier|qa_outputs|score)(\.(dense|out_proj))?\.(weight|bias)",
        "the head of another task",
    ),
)


def sources(
    config: TransformerConfig, blocks: Iterable[int]
) -> Iterator[tuple[str, TensorSource, bool]]:
    """Yield layer, source, and whether it is of the body rather than the head.

    Args:
        config: The shape of the model.
        blocks: For each of its blocks, the number of the pretrained one.
    """
    for layer, source in _BODY[config.family].items():
        if "#" not in layer:
            yield layer, source, True
            continue
        for number, block in enumerate(blocks):
            name = source.name.replace("#", str(block))
            yield layer.replace("#", str(number)), source._replace(name=name), True
    for layer, source in _HEAD[config.family].items():
        yield layer, source, False


def meant_shapes(
    layer: str, source: TensorSource, config: TransformerConfig
) -> list[tuple[int, ...]]:
    """Return the shapes of a layer's weights in the pretrained model, as its config means them.

    Args:
        layer: Name of the layer.
        source: Where its weights come from.
        config: The shape of the pretrained model.
    """
    hidden = config.hidden
    if source.kind == "norm":
        return [(hidden,), (hidden,)]
    if source.kind == "vector":
        return [(config.vocabulary, 1)]
    if source.kind == "table":
        rows = {
            "word_embeddings": config.vocabulary,
            "position_embeddings": config.positions,
            "token_type_embeddings": config.token_types,
        }
        return [(rows[layer], hidden)]
    if re.fullmatch(r"layer_\d+_intermediate", layer):
        return [(hidden, config.intermediate), (config.intermediate,)]
    if re.fullmatch(r"layer_\d+_output", layer):
        return [(config.intermediate, hidden), (hidden,)]
    return [(hidden, hidden), (hidden,)]


def prefix_of(family: Family, names: Iterable[str]) -> str:
    """Return what stands before the names of the body's tensors.

    Args:
        family: The family.
        names: Names of all tensors.

    Raises:
        ModelError: If the table of tokens is under none of the known names.
    """
    known = set(names)
    for prefix in _PREFIXES[family]:
        if table_name(family, prefix) in known:
            return prefix
    tried = " nor ".join(table_name(family, prefix) for prefix in _PREFIXES[family])
    raise ModelError(
        f"The weights are not those of a {family} model: there is neither {tried}. They hold, "
        f"among others: {', '.join(sorted(known)[:3])}."
    )


def table_name(family: Family, prefix: str) -> str:
    """Return the name of the table of tokens in the files."""
    return f"{prefix}{_BODY[family]['word_embeddings'].name}.weight"


def reason_unused(name: str, prefix: str) -> str | None:
    """Return why a tensor is not needed; None if nothing explains it."""
    bare = name.removeprefix(prefix)
    return next((why for pattern, why in _HARMLESS if re.fullmatch(pattern, bare)), None)


def block_of(name: str, prefix: str, family: Family) -> int | None:
    """Return the number of the block that a tensor belongs to."""
    start = _BODY[family]["layer_#_output"].name.split("#")[0]
    found = re.match(rf"{re.escape(prefix + start)}(\d+)\.", name)
    return int(found[1]) if found else None
