"""How a stage trains: optimizer, learning rate, clipping, stopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tfopt.config.base import Section, Strict
from tfopt.config.transfer import Transfer

OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam", "adamax", "lion"]


class _Rate(Strict):
    """A learning rate; pydantic allows no validator on ``schedule``, which chooses the kind."""

    peak: float = Field(gt=0)

    _booleans = field_validator(
        "peak",
        "decay",
        "every_epochs",
        "at_epochs",
        "warmup_fraction",
        "floor",
        "patience",
        mode="before",
        check_fields=False,
    )(Strict.refuse_boolean.__func__)  # type: ignore[attr-defined]  # a class method has it


class ConstantRate(_Rate):
    """A learning rate that stays the same.

    Attributes:
        peak: The learning rate.
    """

    schedule: Literal["constant"]


class CosineRate(_Rate):
    """Linear warm-up to ``peak``, then half a cosine down to ``peak * floor``.

    Attributes:
        peak: Highest learning rate.
        warmup_fraction: Share of all steps spent warming up.
        floor: Last learning rate over the peak.
    """

    schedule: Literal["cosine"]
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    floor: float = Field(0.0, ge=0, le=1)


class ExponentialRate(_Rate):
    """Multiply by ``decay`` smoothly, once every ``every_epochs`` epochs.

    Attributes:
        peak: First learning rate.
        decay: Factor over ``every_epochs``.
        every_epochs: Epochs, or parts of one, over which the rate falls by ``decay``.
    """

    schedule: Literal["exponential"]
    decay: float = Field(0.9, gt=0, le=1)
    every_epochs: float = Field(1.0, gt=0)


class StepRate(_Rate):
    """Multiply by ``decay`` at each of the given epochs.

    Attributes:
        peak: First learning rate.
        decay: Factor at each of ``at_epochs``.
        at_epochs: Finished epochs, or parts of one, after which the rate falls.
    """

    schedule: Literal["step"]
    decay: float = Field(0.1, gt=0, le=1)
    at_epochs: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)


class PlateauRate(_Rate):
    """Multiply by ``decay`` when ``monitor`` has not improved for ``patience`` epochs.

    Attributes:
        peak: First learning rate.
        decay: Factor at each plateau.
        patience: Epochs without improvement that make a plateau.
        floor: Smallest learning rate over the peak.
        monitor: Loss that is watched: of the training rows, or of the validation rows.
    """

    schedule: Literal["plateau"]
    decay: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(3, ge=1)
    floor: float = Field(0.0, ge=0, le=1)
    monitor: Literal["loss", "val_loss"] = "loss"


RateSchedule = Annotated[
    ConstantRate | CosineRate | ExponentialRate | StepRate | PlateauRate,
    Field(discriminator="schedule"),
]


def _rate_from_number(raw: Any) -> Any:
    is_number = isinstance(raw, int | float | str) and not isinstance(raw, bool)
    return {"schedule": "constant", "peak": raw} if is_number else raw


LearningRate = Annotated[
    RateSchedule,
    BeforeValidator(_rate_from_number, json_schema_input_type=float | RateSchedule),
]
"""A schedule; a bare number means a constant rate."""


OPTIMIZER_SETTINGS: Mapping[str, frozenset[str]] = {
    "sgd": frozenset({"momentum", "nesterov"}),
    "adam": frozenset({"beta_1", "beta_2", "epsilon"}),
    "adamw": frozenset({"beta_1", "beta_2", "epsilon"}),
    "rmsprop": frozenset({"momentum", "epsilon"}),
    "adagrad": frozenset({"epsilon"}),
    "nadam": frozenset({"beta_1", "beta_2", "epsilon"}),
    "adamax": frozenset({"beta_1", "beta_2", "epsilon"}),
    "lion": frozenset({"beta_1", "beta_2"}),
}
"""What each optimizer takes besides ``weight_decay`` and ``ema``, which all take."""


class Optimizer(Section):
    """An optimizer with settings of its own; a plain name takes the defaults.

    Attributes:
        name: Optimizer name.
        momentum: Momentum of ``sgd`` and ``rmsprop``.
        nesterov: Nesterov's form of momentum, for ``sgd``.
        weight_decay: Decoupled weight decay on kernels (not on biases or norms).
        beta_1: First-moment decay of the Adam family.
        beta_2: Second-moment decay of the Adam family.
        epsilon: Added to the denominator.
        ema: Decay of an exponential moving average of the weights, which becomes the
            weights at the end. It belongs to no single epoch, so ``keep: best`` is refused.
    """

    name: OptimizerName = "adam"
    momentum: float | None = Field(None, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float | None = Field(None, ge=0)
    beta_1: float | None = Field(None, ge=0, lt=1)
    beta_2: float | None = Field(None, ge=0, lt=1)
    epsilon: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _takes_its_settings(self) -> Optimizer:
        takes = OPTIMIZER_SETTINGS[self.name]
        for setting in sorted(frozenset().union(*OPTIMIZER_SETTINGS.values()) - takes):
            given = getattr(self, setting)
            if given is not None and given is not False:  # 0 is given, and equals False
                known = ", ".join([*sorted(takes), "weight_decay", "ema"])
                raise ValueError(f"optimizer {self.name!r} has no {setting}; it takes {known}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum, for example 0.9")
        return self


def _optimizer_from_name(raw: Any) -> Any:
    return {"name": raw} if isinstance(raw, str) else raw


AnyOptimizer = Annotated[
    Optimizer,
    BeforeValidator(_optimizer_from_name, json_schema_input_type=OptimizerName | Optimizer),
]
"""An optimizer; a bare name takes the defaults."""


class GradientClip(Section):
    """Gradient clipping; set exactly one limit.

    Attributes:
        norm: Largest Euclidean norm of each gradient.
        global_norm: Largest Euclidean norm of all gradients together.
        value: Largest magnitude of each entry.
    """

    norm: float | None = Field(None, gt=0)
    global_norm: float | None = Field(None, gt=0)
    value: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_limit(self) -> GradientClip:
        if sum(limit is not None for limit in (self.norm, self.global_norm, self.value)) != 1:
            raise ValueError("set exactly one of norm, global_norm and value")
        return self


class EarlyStopping(Section):
    """Stop when ``monitor`` has not improved by ``min_delta`` for ``patience`` epochs.

    Attributes:
        monitor: What is watched: a loss, or the task metric on the validation rows.
        patience: Epochs without improvement after which training stops.
        min_delta: Smallest change that counts as an improvement.
    """

    monitor: Literal["loss", "val_loss", "val_metric"] = "val_loss"
    patience: int = Field(5, ge=1)
    min_delta: float = Field(0.0, ge=0)


class Fit(Section):
    """Settings that every training stage shares.

    Attributes:
        epochs: Passes over the training data.
        optimizer: A name, or a mapping with settings.
        learning_rate: A number, or a mapping with ``schedule``.
        gradient_clip: Gradient clipping.
        accumulate: Parts in which a batch is computed, one after the other; their gradients are
            averaged before the one update of the batch. It saves memory; only what
            looks at several rows together (batch statistics, ranges) sees a difference.
        early_stopping: Stop before ``epochs``; only epochs at target count.
        keep: Weights kept at the end: of the last epoch, or of the best epoch on the
            validation rows among the epochs at target: by what ``early_stopping``
            monitors, or else by the metric.
    """

    epochs: int = Field(ge=0)
    optimizer: AnyOptimizer = Optimizer()
    learning_rate: LearningRate
    gradient_clip: GradientClip | None = None
    accumulate: int = Field(1, ge=1)
    early_stopping: EarlyStopping | None = None
    keep: Literal["last", "best"] = "last"

    @model_validator(mode="after")
    def _one_choice_of_weights(self) -> Fit:
        if self.keep == "best" and self.optimizer.ema is not None:
            raise ValueError(
                "keep: best and optimizer.ema both choose the final weights; remove one"
            )
        return self


class Train(Fit):
    """Training of the float model.

    Attributes:
        loss: ``auto`` reads it off the model's output and the labels.
        label_smoothing: Share of the target moved from the true class to all classes.
        precision: Number format of the computation; weights stay float32. Compression
            steps always compute in float32.
        jit_compile: Compile the training step with XLA (float training only).
        transfer: How training starts from the weights that the model brings.
    """

    epochs: int = Field(10, ge=0)
    learning_rate: LearningRate = CosineRate(schedule="cosine", peak=1e-3)
    loss: Literal["auto", "cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"] = (
        "auto"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    jit_compile: bool = False
    transfer: Transfer | None = None

    @model_validator(mode="after")
    def _transfer_fits(self) -> Train:
        if self.transfer is None:
            return self
        if self.epochs == 0:
            raise ValueError("transfer needs epochs of at least 1")
        unfreeze = self.transfer.unfreeze
        if unfreeze is None:
            return self
        last = unfreeze.at_epochs[-1] if unfreeze.at_epochs else unfreeze.every_epochs or 0
        if unfreeze.every_epochs and unfreeze.group_count:
            last *= unfreeze.group_count
        if last >= self.epochs:
            raise ValueError(
                f"transfer.unfreeze begins to train the last group after {last} epochs, but there "
                f"are {self.epochs}; raise epochs or unfreeze earlier"
            )
        if self.optimizer.name == "nadam":
            raise ValueError(
                "optimizer 'nadam' counts its steps for all weights together, so weights that are "
                "unfrozen later would begin at a wrong rate; use adam or adamw"
            )
        return self
