"""The recipe: every section, setting, default and limit. Unknown keys are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tfopt.config.base import Section, defaults_for_bare_keys, one_key_or_bare_name
from tfopt.config.components import METRICS
from tfopt.config.distill import DistillStep, Taught
from tfopt.config.distributed import StrategySettings
from tfopt.config.model import Model, Preprocess
from tfopt.config.text import TextSettings
from tfopt.config.training import (
    ConstantRate,
    CosineRate,
    EarlyStopping,
    ExponentialRate,
    Fit,
    GradientClip,
    LearningRate,
    Optimizer,
    PlateauRate,
    RateSchedule,
    StepRate,
    Train,
)
from tfopt.registry import did_you_mean

__all__ = [
    "Augment",
    "ClusterStep",
    "ConstantRate",
    "CosineRate",
    "Data",
    "DistillStep",
    "EarlyStopping",
    "ExponentialRate",
    "Export",
    "Fit",
    "Gate",
    "GradientClip",
    "LitertExport",
    "Model",
    "Optimizer",
    "PlateauRate",
    "Precision",
    "Preprocess",
    "PruneStep",
    "QuantizeStep",
    "RateSchedule",
    "Recipe",
    "Section",
    "Step",
    "StepRate",
    "StrategySettings",
    "Taught",
    "TextSettings",
    "Train",
]

Precision = Literal["float32", "float16", "dynamic", "int8", "int8_io", "int16x8"]


class Augment(Section):
    """Random changes to training images, drawn anew each epoch from the recipe's seed.

    Attributes:
        shift: Largest move along each axis, as a fraction of the side.
        rotate_degrees: Largest rotation either way, in degrees.
        zoom: Largest relative change of size, so 0.1 draws from 0.9 to 1.1.
        shear: Largest shear, as a fraction of the side.
        flip_horizontal: Mirror half of the images.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast about the image's mean.
        noise: Standard deviation of added Gaussian noise, in input units.
    """

    shift: float = Field(0.0, ge=0, le=0.5)
    rotate_degrees: float = Field(0.0, ge=0, le=180)
    zoom: float = Field(0.0, ge=0, lt=1)
    shear: float = Field(0.0, ge=0, le=1)
    flip_horizontal: bool = False
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    noise: float = Field(0.0, ge=0)


class Data(Section):
    """Where examples come from and how they are batched.

    Attributes:
        source: A built-in name (``mnist5k``, ``digits``, ``tweets``), a format (``npz``,
            ``images``, ``tfrecord``, ``csv``, ``tfds``) or a dotted path
            ``package.module:function``.
        path: File or folder of the ``npz``, ``images``, ``tfrecord`` and ``csv`` sources.
        name: Dataset name of the ``tfds`` source.
        batch_size: Examples in a training step, ``>= 1``.
        evaluation_fraction: Share of rows held out for the reported metric when the
            source has no evaluation split of its own.
        validation_fraction: Share of the training rows held out to choose epochs
            (early stopping, ``keep: best``); never part of the reported metric.
        limit: Use at most this many training examples.
        augment: Random changes to training images.
        label: Name of the label: column of ``csv``, feature of ``tfrecord``.
        features: Columns of ``csv`` that are inputs; all but the label by default.
        image_feature: Feature of ``tfrecord`` with the encoded image.
        image_size: Height and width that ``images`` and ``tfrecord`` are resized to.
        channels: Colour channels of ``images`` and ``tfrecord``.
        task: Whether labels are classes or numbers; ``auto`` looks at their type.
        cache: Keep decoded examples in memory. ``auto`` does so up to 2 GB.
        arguments: Keyword arguments for a dotted-path source.
        text: How text becomes token ids: of ``tweets``, of columns of ``csv``, or of the
            strings that ``npz`` and dotted-path sources give as inputs.
    """

    source: str = Field(min_length=1)
    path: Path | None = None
    name: str | None = None
    batch_size: int = Field(64, ge=1)
    evaluation_fraction: float = Field(0.2, gt=0, lt=1)
    validation_fraction: float = Field(0.0, ge=0, lt=1)
    limit: int | None = Field(None, ge=1)
    augment: Augment = Augment()
    label: str | None = None
    features: tuple[str, ...] | None = None
    image_feature: str = "image"
    image_size: tuple[int, int] | None = None
    channels: Literal[1, 3] = 3
    task: Literal["auto", "classification", "regression"] = "auto"
    cache: Literal["auto", "always", "never"] = "auto"
    arguments: dict[str, Any] = Field(default_factory=dict)
    text: TextSettings | None = None

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Data:
        if self.source in {"npz", "images", "tfrecord", "csv"} and self.path is None:
            raise ValueError(f"source {self.source!r} needs path")
        if self.source == "tfds" and self.name is None:
            raise ValueError("source 'tfds' needs name")
        if self.source in {"images", "tfrecord"} and self.image_size is None:
            raise ValueError(f"source {self.source!r} needs image_size: [height, width]")
        if self.source in {"csv", "tfrecord"} and self.label is None:
            raise ValueError(f"source {self.source!r} needs label")
        if self.source == "tweets" and self.text is None:
            raise ValueError("source 'tweets' needs text: {tokenizer: ...}")
        if self.source == "csv" and self.text is not None:
            if self.text.columns is None:
                raise ValueError(
                    "source 'csv' with text needs text.columns: the names of one or two"
                )
            if self.features is not None:
                raise ValueError("features are numbers; with text, write text.columns alone")
        if self.source != "csv" and self.text is not None and self.text.columns is not None:
            raise ValueError(f"text.columns is for source 'csv'; {self.source!r} has no columns")
        return self


class PruneStep(Taught):
    """Magnitude pruning: a ``prune`` step.

    Attributes:
        sparsity: Fraction of each kernel's entries that is zero at the end, in ``(0, 1)``.
        layers: Layer-name pattern (``conv*``) to its own sparsity; 0 leaves the layer
            alone. A pattern that matches no prunable layer is an error; where several
            match, the last one counts.
        epochs: Epochs of training while weights are removed, ``>= 1``.
        schedule: ``polynomial`` raises the sparsity from what the model has, along a
            cubic; ``constant`` removes everything at once.
        begin: Share of the steps after which removal begins.
        end: Share of the steps after which removal is complete.
        pattern: ``unstructured``, or ``2:4`` (two zeros in four consecutive entries
            along the input axis; its sparsity is 0.5 and it is applied at once).
    """

    sparsity: float = Field(0.8, gt=0, lt=1)
    layers: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(default_factory=dict)
    epochs: int = Field(2, ge=1)
    learning_rate: LearningRate = CosineRate(schedule="cosine", peak=1e-3)
    schedule: Literal["polynomial", "constant"] = "polynomial"
    begin: float = Field(0.0, ge=0, lt=1)
    end: float = Field(0.6, gt=0, le=1)
    pattern: Literal["unstructured", "2:4"] = "unstructured"

    @model_validator(mode="after")
    def _schedule_fits(self) -> PruneStep:
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must be before end ({self.end})")
        if self.pattern == "2:4":
            changed = self.model_fields_set & _FIXED_BY_2_4
            if changed:
                raise ValueError(
                    f"pattern '2:4' fixes the sparsity at 0.5 and applies it at once; remove "
                    f"{', '.join(sorted(changed))}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_what_2_4_fixes(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the settings that the pattern fixes, so that what is written can be read."""
        plain: dict[str, Any] = handler(self)
        fixed = _FIXED_BY_2_4 if self.pattern == "2:4" else frozenset()
        return {key: value for key, value in plain.items() if key not in fixed}


_FIXED_BY_2_4 = frozenset({"sparsity", "schedule", "begin", "end"})


class ClusterStep(Taught):
    """Weight clustering: a ``cluster`` step.

    Attributes:
        clusters: Distinct values a kernel may hold, zero included, ``>= 2``.
        layers: Layer-name pattern to its own number; 0 leaves the layer alone.
        per_channel: Give each output channel of a convolution its own values.
        preserve_sparsity: Keep zeros at zero; ``auto`` does so on pruned kernels.
        initialization: Where the values start: ``kmeans`` on the weights, or
            ``linear`` between the extremes (both as in Deep Compression).
        epochs: Epochs of training of the shared values.
    """

    clusters: int = Field(16, ge=2, le=1024)
    layers: dict[str, Annotated[int, Field(ge=0, le=1024)]] = Field(default_factory=dict)
    per_channel: bool = False
    preserve_sparsity: Literal["auto"] | bool = "auto"
    initialization: Literal["kmeans", "linear"] = "kmeans"
    epochs: int = Field(1, ge=0)
    learning_rate: LearningRate = CosineRate(schedule="cosine", peak=3e-4)


class QuantizeStep(Taught):
    """Quantization-aware training to 8 bits: a ``quantize`` step.

    Attributes:
        epochs: Epochs of training with emulated quantization; 0 only calibrates.
        skip: Layer-name patterns left in floating point.
        preserve: Keep the zeros and the shared values that the model brings;
            ``auto`` keeps what it finds.
        calibration_examples: Training examples that set the first ranges.
    """

    epochs: int = Field(1, ge=0)
    learning_rate: LearningRate = CosineRate(schedule="cosine", peak=1e-4)
    skip: tuple[str, ...] = ()
    preserve: Literal["auto", "none"] = "auto"
    calibration_examples: int = Field(512, ge=1)


class Step(Section):
    """One entry of ``steps``: exactly one of the keys below."""

    model_config = ConfigDict(json_schema_extra=one_key_or_bare_name)

    distill: DistillStep | None = None
    prune: PruneStep | None = None
    cluster: ClusterStep | None = None
    quantize: QuantizeStep | None = None

    @property
    def name(self) -> str:
        """Return the key that is set."""
        return next(name for name in STEP_ORDER if getattr(self, name) is not None)

    @property
    def settings(self) -> DistillStep | Taught:
        """Return the settings under that key."""
        settings: DistillStep | Taught = getattr(self, self.name)
        return settings

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, raw: Any) -> Any:
        """Accept ``- quantize`` and ``- quantize:`` for ``- quantize: {}``."""
        return defaults_for_bare_keys(raw)

    @model_validator(mode="after")
    def _one_key(self) -> Step:
        if sum(getattr(self, name) is not None for name in STEP_ORDER) != 1:
            raise ValueError(f"write exactly one of {', '.join(STEP_ORDER)} in each entry")
        return self


STEP_ORDER = ("distill", "prune", "cluster", "quantize")
"""Legal order: each step keeps what the ones before it made, and none after it could."""


class LitertExport(Section):
    """A ``.tflite`` file for LiteRT (TensorFlow Lite).

    Attributes:
        precision: ``float32``; ``float16`` weights; ``dynamic`` (int8 weights, float
            activations); ``int8`` (int8 inside, float at the ends); ``int8_io`` (int8
            throughout); ``int16x8`` (int16 activations, int8 weights).
        select_tf_ops: Allow TensorFlow ops that the built-in set lacks.
        calibration_examples: Training examples that set the integer ranges.
        time_limit_seconds: The conversion is stopped after this long.
        threads: Threads of the timed interpreter.
        runs: Timed inferences.
        warmup: Inferences before the first timed one.
    """

    precision: Precision = "int8"
    select_tf_ops: bool = False
    calibration_examples: int = Field(256, ge=1)
    time_limit_seconds: float = Field(600.0, gt=0)
    threads: int = Field(1, ge=1, le=64)
    runs: int = Field(200, ge=1)
    warmup: int = Field(20, ge=0)


class Export(Section):
    """One entry of ``export``: exactly one of the keys below."""

    model_config = ConfigDict(json_schema_extra=one_key_or_bare_name)

    litert: LitertExport | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, raw: Any) -> Any:
        """Accept ``- litert`` for ``- litert: {}``."""
        return defaults_for_bare_keys(raw)

    @model_validator(mode="after")
    def _one_key(self) -> Export:
        if self.litert is None:
            raise ValueError("write litert in each entry")
        return self


class Gate(Section):
    """What the exported files must reach, against the trained float model.

    Attributes:
        max_drop: Largest allowed drop of the metric, in metric units (0.005 is half a
            point of accuracy); negative asks for a gain.
    """

    max_drop: float


def _list_metrics(schema: dict[str, Any]) -> None:
    """Tell editors the names."""
    schema["enum"] = ["auto", *METRICS]


_EMPTY_LIST = BeforeValidator(lambda raw: () if raw is None else raw)
"""``steps:`` with every entry commented out is a list without entries."""


class Recipe(Section):
    """A whole run: data, model, training, steps, exports, gate.

    Attributes:
        name: Names the run folder and the report.
        seed: Seeds weights, shuffling and augmentation; a CPU run repeats bit for bit.
        metric: Task metric; ``auto`` is accuracy for classes and mean squared error
            for numbers.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    metric: Annotated[str, Field(json_schema_extra=_list_metrics)] = "auto"
    data: Data
    model: Model
    train: Train | None = None
    strategy: StrategySettings = StrategySettings()
    steps: Annotated[tuple[Step, ...], _EMPTY_LIST] = ()
    export: Annotated[tuple[Export, ...], _EMPTY_LIST] = ()
    gate: Gate | None = None

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, name: str) -> str:
        if name != "auto" and name not in METRICS:
            near = did_you_mean(name, METRICS)
            raise ValueError(f"must be auto or one of {', '.join(METRICS)}.{near}")
        return name

    @property
    def training(self) -> Train | None:
        """Return the float training; a built model without ``train`` gets the defaults."""
        return Train() if self.train is None and self.model.builder is not None else self.train
