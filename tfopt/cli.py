"""The ``tfopt`` command. Nothing heavy is imported until a verb needs it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import click
import typer

from tfopt import __version__
from tfopt.errors import ExitCode, GateMissed, InputError, TfoptError
from tfopt.process import quiet_tensorflow

if TYPE_CHECKING:
    from tfopt.config.schema import Recipe

_DEBUG = "--debug"
_RUNS = Path("runs")

app = typer.Typer(
    name="tfopt",
    help="Make Keras models small and fast, and prove it on the exported file.",
    epilog="Exit codes: 0 ok, 1 internal error, 2 bad input, 3 gate missed (files are written), "
    "4 verification failed, 5 optional backend missing, 130 interrupted (resume with --resume). "
    "Add --debug to any command for the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
    typer.Option("--set", help="Override a setting: a.b=value. May be repeated."),
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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show tracebacks of errors.")] = False,
) -> None:
    if version:
        print(f"tfopt {__version__}")
        raise typer.Exit


@dataclass(frozen=True, slots=True)
class _RunChoice:
    """The options that every running verb shares."""

    output: Path | None
    resume: bool
    quiet: bool


@app.command(
    epilog="Examples:  tfopt run configs/lenet5_mnist.yaml  |  tfopt run my.yaml --set "
    "train.epochs=5 --set steps.prune.sparsity=0.8 -o out  |  tfopt run my.yaml -o out --resume"
)
def run(
    recipe: RecipeArgument = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train, compress, export and prove a model, as a recipe says."""
    chosen = _load(recipe or config, overrides)
    _execute(chosen, _RunChoice(output, resume, quiet))


@app.command(epilog="Example:  tfopt train --config configs/lenet5_mnist.yaml -o trained")
def train(
    recipe: RecipeArgument = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the float model of a recipe, without its steps and exports."""
    chosen = _load(recipe or config, overrides)
    chosen = chosen.model_copy(update={"steps": (), "export": (), "gate": None})
    _execute(chosen, _RunChoice(output, resume, quiet))


@app.command(
    epilog="Examples:  tfopt prune model.keras --data digits --sparsity 0.9 --epochs 3  |  "
    "tfopt prune --config configs/lenet5_mnist.yaml"
)
def prune(
    model: ModelArgument = None,
    config: ConfigOption = None,
    data: DataOption = None,
    sparsity: Annotated[
        float | None, typer.Option(help="Share of zeros, between 0 and 1.", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.")] = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prune a model: small weights become zero while it trains."""
    settings = {"sparsity": sparsity, "epochs": epochs}
    chosen = _one_step("prune", model, config=config, data=data, settings=settings, sets=overrides)
    _execute(chosen, _RunChoice(output, resume, quiet))


@app.command(epilog="Example:  tfopt cluster model.keras --data digits --clusters 16 --epochs 2")
def cluster(
    model: ModelArgument = None,
    config: ConfigOption = None,
    data: DataOption = None,
    clusters: Annotated[int | None, typer.Option(help="Distinct values a kernel may hold.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.")] = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cluster a model: each kernel shares a few values, which are trained."""
    settings = {"clusters": clusters, "epochs": epochs}
    chosen = _one_step(
        "cluster", model, config=config, data=data, settings=settings, sets=overrides
    )
    _execute(chosen, _RunChoice(output, resume, quiet))


@app.command(epilog="Example:  tfopt quantize model.keras --data digits --epochs 2")
def quantize(
    model: ModelArgument = None,
    config: ConfigOption = None,
    data: DataOption = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; 0 calibrates.")] = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model with emulated 8-bit arithmetic, from calibrated ranges."""
    chosen = _one_step(
        "quantize", model, config=config, data=data, settings={"epochs": epochs}, sets=overrides
    )
    _execute(chosen, _RunChoice(output, resume, quiet))


PrecisionOption = Annotated[
    Literal["float32", "float16", "dynamic", "int8", "int8_io", "int16x8"],
    typer.Option("--precision", "-p", help="Number format of the file."),
]
ThreadsOption = Annotated[int, typer.Option(min=1, max=64, help="Interpreter threads.")]
RunsOption = Annotated[int, typer.Option(min=1, help="Timed inferences.")]
WarmupOption = Annotated[int, typer.Option(min=0, help="Inferences before the first timed one.")]


@app.command(
    epilog="Example:  tfopt export model.keras --precision int8 --data digits -o model.tflite"
)
def export(
    model: Annotated[Path, typer.Argument(help="A .keras or .h5 file or SavedModel folder.")],
    precision: PrecisionOption = "int8",
    data: DataOption = None,
    config: ConfigOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file [default: MODEL.tflite].")
    ] = None,
    select_tf_ops: Annotated[
        bool, typer.Option(help="Allow TensorFlow ops that LiteRT lacks.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    max_drop: Annotated[
        float | None, typer.Option(help="Largest allowed drop of the metric.")
    ] = None,
) -> None:
    """Export a model to a .tflite file, and verify the file on the data."""
    from tfopt.config.schema import LitertExport

    settings = LitertExport(precision=precision, select_tf_ops=select_tf_ops)
    section = _data_section(data, config)
    with quiet_tensorflow() as stream:
        from tfopt.single import export_file

        path = output or model.with_suffix(".tflite")
        artifact = export_file(model, path, settings=settings, data=section, overwrite=overwrite)
        _print_artifact(artifact, stream)
        _check_gate(artifact, max_drop)


@app.command(
    epilog="Example:  tfopt verify model.tflite --against model.keras --data digits --max-drop 0.01"
)
def verify(
    file: Annotated[Path, typer.Argument(help="A .tflite file.")],
    against: Annotated[Path, typer.Option("--against", "-a", help="The Keras model it came from.")],
    data: DataOption = None,
    config: ConfigOption = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Largest allowed drop of the metric.")
    ] = None,
    max_error: Annotated[
        float | None, typer.Option(help="Largest allowed relative output error.")
    ] = None,
) -> None:
    """Compare a .tflite file with its source model on every row of the data."""
    section = _data_section(data, config)
    with quiet_tensorflow() as stream:
        from tfopt.single import verify_file

        artifact = verify_file(file, against, data=section, max_relative_error=max_error)
        _print_artifact(artifact, stream)
        _check_gate(artifact, max_drop)


@app.command(epilog="Example:  tfopt bench a.tflite b.tflite --threads 1 --runs 500")
def bench(
    files: Annotated[list[Path], typer.Argument(help=".tflite files, timed in turns.")],
    threads: ThreadsOption = 1,
    runs: RunsOption = 200,
    warmup: WarmupOption = 20,
) -> None:
    """Time one inference of .tflite files, interleaved so that they compare fairly."""
    from tfopt.benchmark.latency import measure_interleaved

    measured = measure_interleaved(files, threads=threads, runs=runs, warmup=warmup)
    print(f"{threads} thread(s), {runs} runs after {warmup} warm-up runs, batch 1, interleaved")
    first = measured[0].p50
    for file, latency in zip(files, measured, strict=True):
        ratio = f"{latency.p50 / first:.2f}x" if first else "n/a"
        print(f"{file}: p50 {latency.p50:.4f} ms, p90 {latency.p90:.4f} ms, {ratio} of the first")


@app.command(epilog="Example:  tfopt report runs/lenet5-mnist")
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder with results.json.")],
) -> None:
    """Write report.html of a run folder again."""
    from tfopt.report.files import report_from_run_dir
    from tfopt.storage import write_whole

    page = report_from_run_dir(folder)
    write_whole(folder / "report.html", page.encode())
    print(folder / "report.html")


@app.command(epilog="Example:  tfopt plan configs/lenet5_mnist.yaml")
def plan(
    recipe: RecipeArgument = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Say before any training what each step will do to each layer, and how big it gets."""
    chosen = _load(recipe or config, overrides)
    with quiet_tensorflow():
        from tfopt.plan import make_plan, print_plan

        print_plan(make_plan(chosen), stream=sys.stdout)


@app.command()
def doctor() -> None:
    """Print versions and what works on this machine, to paste into a bug report."""
    with quiet_tensorflow():
        from tfopt.doctor import examine, print_findings

        findings = examine()
        print_findings(findings, stream=sys.stdout)
    if not all(finding.is_ok for finding in findings if finding.is_required):
        raise typer.Exit(ExitCode.BACKEND_MISSING)


@app.command(epilog="Example:  tfopt schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    import json

    from tfopt.config.schema import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: Words after ``tfopt``; those of the process by default.

    Returns:
        One of ``ExitCode``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    show_traceback = _DEBUG in words
    words = [word for word in words if word != _DEBUG]
    command = typer.main.get_command(app)
    try:
        code = command.main(args=words, prog_name="tfopt", standalone_mode=False)
        return int(code or 0)
    except click.UsageError as error:
        error.show()
        return int(ExitCode.BAD_INPUT)
    except TfoptError as error:
        return _failed(str(error), error.exit_code, show_traceback=show_traceback)
    except (KeyboardInterrupt, click.Abort):
        return _failed("interrupted", ExitCode.INTERRUPTED, show_traceback=False)
    except BrokenPipeError:
        # The reader of a pipe went away (tfopt plan | head); nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except Exception as error:  # noqa: BLE001  # the last resort of a command
        text = f"internal error: {type(error).__name__}: {error}"
        hint = "" if show_traceback else "\nRun again with --debug for the traceback."
        return _failed(text + hint, ExitCode.INTERNAL_ERROR, show_traceback=show_traceback)


def script(verb: str) -> None:
    """Run one verb with the process's arguments, for the programs in ``scripts/``."""
    sys.exit(main([verb, *sys.argv[1:]]))


def _failed(message: str, code: ExitCode, *, show_traceback: bool) -> int:
    if show_traceback:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return int(code)


def _load(path: Path | None, overrides: Sequence[str] | None) -> Recipe:
    from tfopt.config.load import load_recipe

    if path is None:
        raise InputError("Give a recipe: a YAML file, as an argument or with --config.")
    return load_recipe(path, overrides or ())


def _one_step(
    name: str,
    model: Path | None,
    *,
    config: Path | None,
    data: str | None,
    settings: dict[str, Any],
    sets: Sequence[str] | None,
) -> Recipe:
    """Return a recipe with one step: that of the config, with the command's settings."""
    from tfopt.config.load import parse_recipe, recipe_to_plain

    given = {key: value for key, value in settings.items() if value is not None}
    if config is not None:
        plain = recipe_to_plain(_load(config, sets))
        steps = [entry[name] for entry in plain.get("steps", ()) if name in entry]
        plain.update(steps=[{name: {**(steps[0] if steps else {}), **given}}], export=[])
        plain.pop("gate", None)
    elif sets:
        raise InputError("--set changes a recipe; give one with --config.")
    else:
        plain = {"steps": [{name: given}], "data": _data_settings(data)}
    if model is not None:
        plain.update(model={"path": str(model)}, name=_safe_name(f"{model.stem}-{name}"))
        plain.pop("train", None)
    elif config is None:
        raise InputError("Give a model file, or a recipe with --config.")
    if data is not None:
        plain["data"] = {**plain["data"], **_data_settings(data)}
    return parse_recipe(plain, origin=f"tfopt {name}")


def _data_settings(data: str | None) -> dict[str, Any]:
    if data is None:
        raise InputError(
            "Give the data: --data mnist5k, digits, FILE.npz or package.module:function, or a "
            "recipe with --config."
        )
    if data.endswith(".npz"):
        return {"source": "npz", "path": data}
    return {"source": data}


def _data_section(data: str | None, config: Path | None) -> Any:
    """Return the data section of the options, or None for float exports without data."""
    from tfopt.config.load import parse_data

    if data is not None:
        return parse_data(_data_settings(data), origin="--data")
    if config is not None:
        return _load(config, None).data
    return None


def _safe_name(text: str) -> str:
    kept = "".join(
        char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in text
    )
    return kept.lstrip("._-")[:100] or "model"


def _execute(recipe: Recipe, choice: _RunChoice) -> None:
    from tfopt.console import make_reporter
    from tfopt.run_dir import fresh_folder, latest_folder

    if choice.output is not None:
        folder = choice.output
    elif choice.resume:
        folder = latest_folder(_RUNS, recipe.name)
    else:
        folder = fresh_folder(_RUNS, recipe.name)
    with quiet_tensorflow(log_to=folder / "log.txt") as stream:
        reporter = make_reporter(quiet=choice.quiet, stream=stream)
        from tfopt.pipeline import RunOptions, command_text, run_recipe

        options = RunOptions(folder, resume=choice.resume, command=command_text(sys.argv[1:]))
        try:
            run_recipe(recipe, options, reporter)
        finally:
            reporter.close()


def _print_artifact(artifact: Any, stream: TextIO) -> None:
    from tfopt.single import artifact_lines

    stream.flush()
    for line in artifact_lines(artifact):
        print(line)


def _check_gate(artifact: Any, max_drop: float | None) -> None:
    if max_drop is None:
        return
    if artifact.drop is None:
        raise InputError("--max-drop needs labelled data; give --data.")
    if not artifact.drop <= max_drop:
        raise GateMissed(
            f"The metric drops by {artifact.drop:.4f}; the gate allows {max_drop:.4f}. "
            f"{artifact.path} is kept."
        )
