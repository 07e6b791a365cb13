"""The ``tfopt`` command. Nothing heavy is imported until a verb needs it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer

from tfopt.cli.launch import PASS_ON, launch
from tfopt.cli.options import (
    AlphaOption,
    ConfigOption,
    DataOption,
    EpochsOption,
    MaxDropOption,
    ModelArgument,
    OutputOption,
    PrecisionOption,
    QuietOption,
    RecipeArgument,
    ResumeOption,
    RunChoice,
    RunsOption,
    SetOption,
    StepArguments,
    StudentOption,
    TemperatureOption,
    ThreadsOption,
    TrustOption,
    WarmupOption,
)
from tfopt.distributed.environment import rank_of, rank_words
from tfopt.distributed.launch.exit_reports import report_end
from tfopt.errors import ExitCode, TfoptError
from tfopt.reporting.process_log import quiet_tensorflow, terminable
from tfopt.version import __version__

_DEBUG = "--debug"

# Newer typer carries its own copy of click, so the base of usage errors is found from here.
_UsageProblem: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


def _examples(*commands: str) -> str:
    """Return the end of a verb's help; the first line keeps click from joining the others."""
    return "\n".join(["\b", "Examples:", *(f"  tfopt {command}" for command in commands)])


app = typer.Typer(
    name="tfopt",
    help="Make Keras models small and fast, and prove it on the exported file.",
    epilog="Exit codes: 0 ok, 1 internal error, 2 bad input, 3 gate missed (files are written), "
    "4 verification failed, 5 optional backend missing, 6 another process of the run was lost, "
    "130 interrupted (resume both with --resume). "
    "Add --debug to any command for the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show tracebacks of errors.")] = False,
) -> None:
    if version:
        print(f"tfopt {__version__}")
        raise typer.Exit


@app.command(
    epilog=_examples(
        "run configs/lenet5_mnist.yaml",
        "run my.yaml --set train.epochs=5 --set steps.prune.sparsity=0.8 -o out",
        "run my.yaml -o out --resume",
    )
)
def run(
    context: typer.Context,
    recipe: RecipeArgument = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train, compress, export and prove a model, as a recipe says."""
    from tfopt.cli.arguments import recipe_from
    from tfopt.cli.run import execute

    chosen = recipe_from(recipe or config, overrides)
    execute(context.obj, chosen, RunChoice(output, resume, quiet))


@app.command(epilog=_examples("train configs/lenet5_mnist.yaml -o trained"))
def train(
    context: typer.Context,
    recipe: RecipeArgument = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train only the float model of a recipe."""
    from tfopt.cli.arguments import recipe_from
    from tfopt.cli.run import execute

    chosen = recipe_from(recipe or config, overrides)
    chosen = chosen.model_copy(update={"steps": (), "export": (), "gate": None})
    execute(context.obj, chosen, RunChoice(output, resume, quiet))


@app.command(
    epilog=_examples(
        "distill teacher.keras --student small.keras --data data.npz --epochs 5 -o out",
        "distill --config configs/lenet5_distill.yaml",
    )
)
def distill(
    context: typer.Context,
    model: ModelArgument = None,
    student: StudentOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    alpha: AlphaOption = None,
    temperature: TemperatureOption = None,
    epochs: EpochsOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    trust: TrustOption = False,
) -> None:
    """Teach a smaller model what a trained one knows."""
    from tfopt.cli.arguments import distill_settings

    settings = distill_settings(student, alpha, temperature, epochs, trust=trust)
    given = StepArguments(model, config, data, overrides or (), settings, trust)
    _run_step(context, "distill", given, RunChoice(output, resume, quiet))


@app.command(
    epilog=_examples(
        "prune model.keras --data digits --sparsity 0.9 --epochs 3",
        "prune --config configs/lenet5_mnist.yaml",
    )
)
def prune(
    context: typer.Context,
    model: ModelArgument = None,
    config: ConfigOption = None,
    data: DataOption = None,
    sparsity: Annotated[
        float | None, typer.Option(help="Share of zeros, between 0 and 1.", show_default=False)
    ] = None,
    epochs: EpochsOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    trust: TrustOption = False,
) -> None:
    """Prune a model: small weights become zero while it trains."""
    settings = {"sparsity": sparsity, "epochs": epochs}
    given = StepArguments(model, config, data, overrides or (), settings, trust)
    _run_step(context, "prune", given, RunChoice(output, resume, quiet))


@app.command(epilog=_examples("cluster model.keras --data digits --clusters 16 --epochs 2"))
def cluster(
    context: typer.Context,
    model: ModelArgument = None,
    config: ConfigOption = None,
    data: DataOption = None,
    clusters: Annotated[int | None, typer.Option(help="Distinct values a kernel may hold.")] = None,
    epochs: EpochsOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    trust: TrustOption = False,
) -> None:
    """Cluster a model: each kernel shares a few trained values."""
    settings = {"clusters": clusters, "epochs": epochs}
    given = StepArguments(model, config, data, overrides or (), settings, trust)
    _run_step(context, "cluster", given, RunChoice(output, resume, quiet))


@app.command(epilog=_examples("quantize model.keras --data digits --epochs 2"))
def quantize(
    context: typer.Context,
    model: ModelArgument = None,
    config: ConfigOption = None,
    data: DataOption = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; 0 calibrates.")] = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
    trust: TrustOption = False,
) -> None:
    """Train a model with emulated 8-bit arithmetic."""
    given = StepArguments(model, config, data, overrides or (), {"epochs": epochs}, trust)
    _run_step(context, "quantize", given, RunChoice(output, resume, quiet))


@app.command(epilog=_examples("export model.keras --precision int8 --data digits -o model.tflite"))
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
    max_drop: MaxDropOption = None,
    trust: TrustOption = False,
) -> None:
    """Export a model to a .tflite file, and verify the file."""
    from tfopt.cli.arguments import data_section, metric_named
    from tfopt.config.schema import LitertExport
    from tfopt.evaluation.gate import require_gate

    settings = LitertExport(precision=precision, select_tf_ops=select_tf_ops)
    section, metric = data_section(data, config), metric_named(data, config)
    with quiet_tensorflow() as stream:
        from tfopt.api.files import export_file

        path = output or model.with_suffix(".tflite")
        artifact = export_file(
            model,
            path,
            settings=settings,
            data=section,
            metric=metric,
            overwrite=overwrite,
            trust=trust,
        )
        _print_artifact(artifact, stream)
    require_gate(artifact, max_drop)


@app.command(
    epilog=_examples("verify model.tflite --against model.keras --data digits --max-drop 0.01")
)
def verify(
    file: Annotated[Path, typer.Argument(help="A .tflite file.")],
    against: Annotated[Path, typer.Option("--against", "-a", help="The Keras model it came from.")],
    data: DataOption = None,
    config: ConfigOption = None,
    max_drop: MaxDropOption = None,
    max_error: Annotated[
        float | None, typer.Option(help="Largest allowed relative output error.")
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Compare a .tflite file with its source model on all rows."""
    from tfopt.cli.arguments import data_section, metric_named
    from tfopt.evaluation.gate import require_gate

    section, metric = data_section(data, config), metric_named(data, config)
    with quiet_tensorflow() as stream:
        from tfopt.api.files import verify_file

        artifact = verify_file(
            file,
            against,
            data=section,
            metric=metric,
            max_relative_error=max_error,
            trust=trust,
        )
        _print_artifact(artifact, stream)
    require_gate(artifact, max_drop)


@app.command(
    epilog=_examples(
        "convert keras3.keras --to tf_keras",
        "convert pruned.keras --to keras3 --like keras3.keras --check data.npz -o model.keras",
    )
)
def convert(
    model: Annotated[Path, typer.Argument(help="A .keras or .h5 file or SavedModel folder.")],
    to: Annotated[Literal["tf_keras", "keras3"], typer.Option("--to", help="The other Keras.")],
    like: Annotated[
        Path | None,
        typer.Option(help="With --to keras3: the Keras 3 model that it came from."),
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="Rows to compare both models on, beside random ones.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file [default: MODEL-TO.keras].")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    trust: TrustOption = False,
) -> None:
    """Convert a model to the other Keras, and compare the two."""
    from tfopt.cli.arguments import data_section

    section = data_section(check, None)
    path = output or model.with_name(f"{model.stem}-{to}.keras")
    with quiet_tensorflow() as stream:
        from tfopt.api.convert import Request, conversion_lines, convert_file

        request = Request(to=to, like=like, check=section, trust=trust)
        for line in conversion_lines(convert_file(model, path, request, overwrite=overwrite)):
            print(line, file=stream)


@app.command(epilog=_examples("bench a.tflite b.tflite --threads 1 --runs 500"))
def bench(
    files: Annotated[list[Path], typer.Argument(help=".tflite files, timed in turns.")],
    threads: ThreadsOption = 1,
    runs: RunsOption = 200,
    warmup: WarmupOption = 20,
) -> None:
    """Time one inference of .tflite files, in turns."""
    from tfopt.evaluation.latency import interleaved_lines

    with quiet_tensorflow():
        lines = interleaved_lines(files, threads=threads, runs=runs, warmup=warmup)
    print("\n".join(lines))


@app.command(epilog=_examples("report runs/lenet5-mnist"))
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder with results.json.")],
) -> None:
    """Write report.html of a run folder again."""
    from tfopt.reporting.html.files import report_from_run_dir
    from tfopt.storage import write_whole

    page = report_from_run_dir(folder)
    write_whole(folder / "report.html", page.encode())
    print(folder / "report.html")


@app.command(epilog=_examples("plan configs/lenet5_mnist.yaml"))
def plan(
    recipe: RecipeArgument = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Say before training what a recipe will do to each layer."""
    from tfopt.cli.arguments import recipe_from

    chosen = recipe_from(recipe or config, overrides)
    with quiet_tensorflow():
        from tfopt.pipeline.plan import make_plan, print_plan

        print_plan(make_plan(chosen), stream=sys.stdout)


app.command(
    context_settings=PASS_ON,
    epilog=_examples("launch -np 8 -H node1:4,node2:4 -- run my.yaml -o out"),
)(launch)


@app.command(epilog=_examples("doctor"))
def doctor() -> None:
    """Print versions and what works on this machine."""
    with quiet_tensorflow():
        from tfopt.cli.doctor import examine, print_findings

        findings = examine()
        print_findings(findings, stream=sys.stdout)
    if not all(finding.is_ok for finding in findings if finding.is_required):
        raise typer.Exit(ExitCode.BACKEND_MISSING)


@app.command(epilog=_examples("schema > recipe.schema.json"))
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
    try:
        with terminable():
            return _run_command(words)
    except TfoptError as error:
        return _failed(str(error), error.exit_code, show_traceback=show_traceback)
    except (KeyboardInterrupt, typer.Abort, EOFError):
        return _failed("interrupted", ExitCode.INTERRUPTED, show_traceback=show_traceback)
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


def _run_command(words: list[str]) -> int:
    """Parse and run; unlike ``Command.main`` this leaves every error to the caller."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("tfopt", list(words), obj=words) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except _UsageProblem as error:
        error.show()  # type: ignore[attr-defined]  # every ClickException has it
        return int(ExitCode.BAD_INPUT)
    finally:
        sys.stdout.flush()
    return int(ExitCode.OK)


def _failed(message: str, code: ExitCode, *, show_traceback: bool) -> int:
    text = f"{rank_words(os.environ)}{message}"
    is_told = report_end(rank_of(os.environ), int(code), text)
    with suppress(BrokenPipeError):
        if show_traceback:
            traceback.print_exc()
        if not is_told:
            print(f"error: {text}", file=sys.stderr, flush=True)
    return int(code)


def _run_step(context: typer.Context, name: str, given: StepArguments, choice: RunChoice) -> None:
    from tfopt.cli.arguments import one_step
    from tfopt.cli.run import execute

    execute(context.obj, one_step(name, given), choice)


def _print_artifact(artifact: Any, stream: TextIO) -> None:
    from tfopt.api.files import artifact_lines

    stream.flush()
    for line in artifact_lines(artifact):
        print(line)
