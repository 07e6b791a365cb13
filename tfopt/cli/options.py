"""What can be typed after a verb: options that several verbs share, declared once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

RecipeArgument = Annotated[
    Path | None, typer.Argument(help="The recipe, a YAML file.", show_default=False)
]
ModelArgument = Annotated[
    Path | None,
    typer.Argument(help="A .keras or .h5 file or SavedModel folder.", show_default=False),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="A recipe, for data and settings.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a setting; may be repeated."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The run folder [default: a new runs/NAME]."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run in the same folder.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and the verdict.")]
DataOption = Annotated[
    str | None,
    typer.Option("--data", "-d", help="mnist5k, digits, a .npz file, or package.module:function."),
]
StudentOption = Annotated[
    Path | None,
    typer.Option(help="The smaller model, a file; by default one like the teacher, untrained."),
]
AlphaOption = Annotated[
    float | None, typer.Option(help="Weight of the labels; the teacher has the rest.")
]
TemperatureOption = Annotated[
    float | None, typer.Option(help="Temperature of the teacher's soft targets.")
]
EpochsOption = Annotated[int | None, typer.Option(help="Epochs of training.")]
MaxDropOption = Annotated[float | None, typer.Option(help="Largest allowed drop of the metric.")]
PrecisionOption = Annotated[
    Literal["float32", "float16", "dynamic", "int8", "int8_io", "int16x8"],
    typer.Option("--precision", "-p", help="Number format of the file."),
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Let Python code in the model file (a Lambda) run.")
]
ThreadsOption = Annotated[int, typer.Option(min=1, max=64, help="Interpreter threads.")]
RunsOption = Annotated[int, typer.Option(min=1, help="Timed inferences.")]
WarmupOption = Annotated[int, typer.Option(min=0, help="Inferences before the first timed one.")]


@dataclass(frozen=True, slots=True)
class RunChoice:
    """The options that every running verb shares.

    Attributes:
        output: The run folder; None picks one under ``runs/``.
        resume: Take up the run in the folder.
        quiet: Show warnings and the verdict only.
    """

    output: Path | None
    resume: bool
    quiet: bool


@dataclass(frozen=True, slots=True)
class StepArguments:
    """What a verb for a single step was given.

    Attributes:
        model: The model file; None trains or builds that of the recipe.
        config: A recipe, for data and settings.
        data: A source, as ``data_settings`` takes it.
        overrides: ``a.b=value`` assignments to the recipe.
        settings: The step's settings given as options; None where not given.
        trust: Whether Python code in the model file may run.
    """

    model: Path | None
    config: Path | None
    data: str | None
    overrides: Sequence[str]
    settings: Mapping[str, Any]
    trust: bool = False
