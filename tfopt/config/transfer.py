"""How a train stage starts from pretrained weights: what is frozen, adapted and kept."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from tfopt.config.base import Section

BACKBONE = "backbone"
"""In ``freeze``: every layer but the head."""

Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(
        lambda raw: (raw,) if isinstance(raw, str) else raw,
        json_schema_input_type=str | tuple[str, ...],
    ),
    Field(min_length=1),
]
"""Shell-style patterns of layer names (``conv*``); one may stand alone."""

Multiplier = Annotated[float, Field(gt=0)]


class Unfreeze(Section):
    """Gradual unfreezing from the head down (ULMFiT, Howard and Ruder, arXiv:1801.06146).

    Set exactly one of ``every_epochs`` and ``at_epochs``.

    Attributes:
        every_epochs: One more group trains after each so many epochs.
        at_epochs: Finished epochs after which each group trains, ascending, ``>= 1``.
        groups: How the frozen layers are cut, the group nearest to the head first: a number
            of groups of about equal depth, or the layer-name patterns of each. By default
            as many as ``at_epochs`` has entries, or one for each block.
    """

    every_epochs: int | None = Field(None, ge=1)
    at_epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    groups: (
        Annotated[int, Field(ge=1)] | Annotated[tuple[Patterns, ...], Field(min_length=1)] | None
    ) = None

    @property
    def group_count(self) -> int | None:
        """Return the number of groups, or None if the model's blocks decide."""
        if isinstance(self.groups, tuple):
            return len(self.groups)
        return self.groups or (len(self.at_epochs) if self.at_epochs else None)

    @model_validator(mode="after")
    def _one_clock(self) -> Unfreeze:
        if (self.every_epochs is None) == (self.at_epochs is None):
            raise ValueError("set exactly one of every_epochs and at_epochs")
        if self.at_epochs is None:
            return self
        if list(self.at_epochs) != sorted(set(self.at_epochs)):
            raise ValueError(f"at_epochs must ascend. Received: {list(self.at_epochs)}")
        if self.group_count != len(self.at_epochs):
            raise ValueError(
                f"there are {self.group_count} groups, but {len(self.at_epochs)} epochs in "
                "at_epochs; give one for each group"
            )
        return self


class Lora(Section):
    """Low-rank adapters, merged into the kernels at the end (LoRA, Hu et al., arXiv:2106.09685).

    Only the adapters and the head train; the merged model has its original layers.

    Attributes:
        rank: Rank of each kernel's update, ``>= 1``.
        alpha: The update is scaled by ``alpha / rank``; the rank by default.
        layers: Patterns of the Dense and Conv2D layers that get an adapter; all outside
            of the head by default.
        dropout: Share of an adapter's inputs that is dropped in training.
    """

    rank: int = Field(8, ge=1)
    alpha: float | None = Field(None, gt=0)
    layers: Patterns | None = None
    dropout: float = Field(0.0, ge=0, lt=1)


class KeepPretrained(Section):
    """A pretraining term beside the task's loss: ``L = L_pretrain + L_fine_tune``.

    Attributes:
        l2_sp: Strength ``a`` of ``a / 2 * ||w - w_start||^2`` over kernels (L2-SP, Li et al.,
            arXiv:1802.01483); biases and norms are free, as in weight decay.
        layers: Patterns of the layers that ``l2_sp`` pulls; all outside of the head that
            train, by default.
        head_l2: Strength ``b`` of ``b / 2 * ||w||^2`` over the kernels of the head.
        masked_language_model: Weight of a loss that predicts hidden tokens of the same texts,
            by a head that is trained along and dropped; for models of builder ``bert``.
        mask_token: Id of the mask token in the vocabulary; the tokenizer of ``data.text``
            tells it, and the special tokens, where it is not set.
        special_tokens: Ids that are never hidden, such as those that begin and end a text.
    """

    l2_sp: float | None = Field(None, gt=0)
    layers: Patterns | None = None
    head_l2: float | None = Field(None, gt=0)
    masked_language_model: float | None = Field(None, gt=0)
    mask_token: int | None = Field(None, ge=0)
    special_tokens: tuple[Annotated[int, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _keeps_something(self) -> KeepPretrained:
        if self.l2_sp is None and self.masked_language_model is None:
            raise ValueError("set l2_sp, for example 0.01, or masked_language_model")
        if self.l2_sp is None and (self.layers or self.head_l2):
            raise ValueError("layers and head_l2 belong to l2_sp; set it, or remove them")
        is_set = self.mask_token is not None or self.special_tokens
        if is_set and self.masked_language_model is None:
            raise ValueError(
                "mask_token and special_tokens belong to masked_language_model; set it, for "
                "example 0.5, or remove them"
            )
        return self


class Transfer(Section):
    """Transfer learning from the weights that the model brings.

    Layer names are those of the model with nested models opened, as ``tfopt plan`` lists them.

    Attributes:
        freeze: Patterns of layers that do not change, batch statistics included; the word
            ``backbone`` stands for all but the head.
        head: Patterns of the layers of the head. By default those after the last pooling or
            flattening.
        unfreeze: Frozen layers train later, group by group; without ``freeze``, all but the
            head begin frozen.
        learning_rates: Layer-name pattern to multiplier of the learning rate and weight decay,
            in place of ``layer_decay``; where several match, the last one counts.
        layer_decay: Each block's multiplier over that of the block above it; the head has 1.
            Blocks are those of a transformer (``layer_{i}_...``), or else of about equal depth.
        lora: Adapters.
        keep_pretrained: A pull to the pretrained model.
    """

    freeze: Patterns | None = None
    head: Patterns | None = None
    unfreeze: Unfreeze | None = None
    learning_rates: dict[str, Multiplier] = Field(default_factory=dict)
    layer_decay: float | None = Field(None, gt=0, le=1)
    lora: Lora | None = None
    keep_pretrained: KeepPretrained | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_lora(cls, raw: Any) -> Any:
        """Accept ``lora:`` for ``lora: {}``."""
        if isinstance(raw, dict) and "lora" in raw and raw["lora"] is None:
            return {**raw, "lora": {}}
        return raw

    @model_validator(mode="after")
    def _parts_fit(self) -> Transfer:
        chosen = ("freeze", "unfreeze", "learning_rates", "layer_decay", "lora", "keep_pretrained")
        if not any(getattr(self, name) for name in chosen):
            raise ValueError(f"set at least one of {', '.join(chosen)}")
        if self.lora is None:
            return self
        if self.unfreeze is not None:
            raise ValueError(
                "lora keeps every weight below the head frozen to the end, so unfreeze has nothing "
                "to do; remove one of them"
            )
        if self.freeze not in (None, (BACKBONE,)):
            raise ValueError(
                "lora freezes every layer but the head itself; remove freeze, and choose the "
                "adapted layers with lora.layers"
            )
        if self.keep_pretrained is not None and self.keep_pretrained.l2_sp is not None:
            raise ValueError(
                "lora leaves the pretrained weights as they are, so keep_pretrained.l2_sp has "
                "nothing to pull; remove one of them"
            )
        return self
