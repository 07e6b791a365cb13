"""Run a whole recipe: the only file that knows the order of everything."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfopt.bridge.provenance import was_converted
from tfopt.compression.keras3 import SAVED_OBJECTS, like_source
from tfopt.compression.layers.quantized import SchemedLayer
from tfopt.compression.weight_statistics import model_kernels, weight_histograms
from tfopt.config.load import recipe_sha256, recipe_to_yaml
from tfopt.config.schema import DistillStep, Recipe
from tfopt.data.load import DataBundle, load_data
from tfopt.data.text.vocabulary import require_same_vocabulary
from tfopt.distillation.step import check_lesson, make_lesson
from tfopt.distillation.student import Student, make_student
from tfopt.distributed.base import Strategy, agreed, is_chief, open_strategy
from tfopt.distributed.elastic.run_state import Journey
from tfopt.distributed.environment import Place, find_place
from tfopt.distributed.limits import require_possible
from tfopt.errors import GateMissed, Interrupted, PeersLost, TfoptError
from tfopt.evaluation.machine import describe_machine, package_versions
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.models.build import build_model
from tfopt.models.load import save_model
from tfopt.models.transformers.initialization import initialization_of
from tfopt.pipeline.consistency import (
    keep_log,
    require_elastic,
    require_one_recipe,
    require_one_start,
    require_shared,
    run_folder,
)
from tfopt.pipeline.exports import baseline_file, export_all
from tfopt.pipeline.fingerprints import data_key, model_sha256
from tfopt.pipeline.run_directory import RunDir, check_run_dir
from tfopt.pipeline.stages import Run, step_stage, train_stage
from tfopt.reporting.console import Reporter
from tfopt.reporting.html.page import render_report
from tfopt.reporting.verdict import meets_gate
from tfopt.results import (
    Artifact,
    Baseline,
    MetricInfo,
    RankChange,
    RunResult,
    Status,
    WeightHistogram,
    to_json,
)
from tfopt.training.compression_step import make_pass
from tfopt.training.loop import require_validation
from tfopt.training.task import Task, read_task, require_inputs
from tfopt.training.transfer.layer_choice import decide
from tfopt.training.transfer.masked_language import with_hidden_tokens

_TIMELINE = "timeline.json"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a recipe is run, as against what it says.

    Attributes:
        output: The run folder.
        resume: Take up the run in the folder.
        command: The command that started the run, for the report.
        keeps_rank_logs: Whether standard error is a log by now, which each process but the
            chief keeps in the run folder.
        on_place: Told whether this process is the chief, each time that an elastic run
            begins or goes on.
    """

    output: Path
    resume: bool = False
    command: str = ""
    keeps_rank_logs: bool = False
    on_place: Callable[[bool], None] = lambda is_chief: None


@dataclass(slots=True)
class _Findings:
    """What is known so far; written whatever happens next."""

    metric: MetricInfo | None = None
    baseline: Baseline | None = None
    artifacts: Sequence[Artifact] = ()
    histograms: Sequence[WeightHistogram] = ()
    stages: list[Any] = field(default_factory=list)


def run_recipe(recipe: Recipe, options: RunOptions, reporter: Reporter) -> RunResult:
    """Train, compress, export and prove one recipe.

    Of several processes of a run, each calls this; each returns or raises the same, and
    the chief alone writes the folder.

    Args:
        recipe: A validated recipe.
        options: Where to, and whether to resume.
        reporter: Told of every event.

    Returns:
        Everything that was found, as written to ``results.json``.

    Raises:
        InputError: If recipe, data, model and output folder do not fit each other;
            nothing is written then.
        TfoptError: Whatever stopped the run later; ``results.json`` and the report are
            written first, with all that was found until then.
    """
    place = find_place(os.environ)
    if place.is_elastic:
        journey = Journey(recipe.strategy.elastic.commit_every_steps)
        return journey.until_done(lambda: _take_part(recipe, options, reporter, place, journey))
    if place.rank == 0:
        check_run_dir(options.output, resume=options.resume)
    return _take_part(recipe, options, reporter, place, None)


def _take_part(
    recipe: Recipe, options: RunOptions, reporter: Reporter, place: Place, journey: Journey | None
) -> RunResult:
    """Run a recipe among the processes of the moment, from where its folder says."""
    strategy = open_strategy(recipe.strategy, place)
    strategy.journey = journey
    tf.config.experimental.enable_op_determinism()
    with ExitStack() as stack:
        stack.callback(strategy.close)
        require_one_recipe(strategy, recipe)
        require_possible(strategy.name, recipe)
        require_elastic(strategy, recipe)
        with agreed(strategy):
            prepared = prepare(recipe)
        key = data_key(recipe, prepared.data)
        require_one_start(strategy, data=key, model=model_sha256(prepared.model))
        if journey is None:
            options = replace(options, output=strategy.from_chief(options.output))
        else:
            folder, is_begun = journey.meet(strategy.gather, options.output)
            options = replace(options, output=folder, resume=options.resume or is_begun)
            options.on_place(is_chief(strategy))
        with agreed(strategy):
            directory = stack.enter_context(
                run_folder(strategy, options.output, resume=options.resume, reporter=reporter)
            )
        with agreed(strategy):  # the chief has made the folder by now
            if options.keeps_rank_logs and not is_chief(strategy):
                keep_log(options.output / "ranks", strategy)
        if journey is not None:
            require_shared(strategy, options.output)
            journey.output = options.output
        return _run_in(directory, recipe, options, reporter, prepared, strategy)


def _run_in(
    directory: RunDir,
    recipe: Recipe,
    options: RunOptions,
    reporter: Reporter,
    prepared: Prepared,
    strategy: Strategy,
) -> RunResult:
    """Run all stages, and write what was found, whatever stopped them."""
    with agreed(strategy):
        directory.write("recipe.yaml", recipe_to_yaml(recipe))
    task = prepared.task
    findings = _Findings(metric=task.metric.info(prepared.data.evaluation.examples))
    changes = () if strategy.journey is None else strategy.journey.changes
    reporter.run_started(recipe.name, _stage_names(recipe), options.output, metric=findings.metric)
    try:
        with strategy.recorded(directory.root / _TIMELINE):
            error = _run(recipe, directory, reporter, prepared, strategy, findings)
        result = _result(recipe, options, findings, error, changes)
        if error is None and result.status == "gate_missed":
            error = GateMissed(_gate_text(result))
    except (TfoptError, KeyboardInterrupt) as stopped:
        if isinstance(stopped, PeersLost) and strategy.journey is not None:
            raise  # the run goes on with those who are left
        error = stopped if isinstance(stopped, TfoptError) else _interrupted(options)
        result = _result(recipe, options, findings, error, changes)
    # The others may be gone if something stopped the run, and are not waited for then.
    is_whole = error is None or isinstance(error, GateMissed)
    with agreed(strategy) if is_whole else nullcontext():
        report = _write(directory, result, findings) if is_chief(strategy) else None
    reporter.run_done(result, report)
    if error is not None:
        raise error
    return result


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data, models and task of a recipe, checked against each other.

    Attributes:
        data: The examples.
        model: The float model, untrained.
        task: Its loss and metric.
        student: The untrained student of a ``distill`` step.
    """

    data: DataBundle
    model: Model
    task: Task
    student: Student | None = None

    @property
    def source(self) -> Model:
        """Return the model, as built, whose architecture the final one has."""
        if self.student is None or self.student.is_born_again:
            return self.model
        return self.student.model


def prepare(recipe: Recipe) -> Prepared:
    """Load the data, build the float model, and check that everything fits.

    Every step decides on the untrained model too, so that a pattern that matches
    nothing stops the run before training and not after.

    Raises:
        InputError: If anything in the recipe does not fit data or model.
    """
    keras.utils.set_random_seed(recipe.seed)
    data = load_data(recipe.data, seed=recipe.seed)
    model = build_model(
        recipe.model,
        input_shape=data.input_shape,
        classes=data.classes,
        seed=recipe.seed,
        custom_objects=SAVED_OBJECTS,
    )
    _require_vocabulary(recipe, model)
    require_inputs(model, data.train, what="training data")
    require_inputs(model, data.evaluation, what="evaluation data")
    if data.validation is not None:
        require_inputs(model, data.validation, what="validation data")
    task = read_task(
        model, data.train, classes=data.classes, train=recipe.training, metric=recipe.metric
    )
    fits = [recipe.training] if recipe.training is not None else []
    for settings in (*fits, *(step.settings for step in recipe.steps)):
        require_validation(settings, data.validation)
    if recipe.training is not None and recipe.training.transfer is not None:
        transfer = with_hidden_tokens(recipe.training.transfer, recipe.data.text)
        decide(model, transfer, epochs=recipe.training.epochs)
    student = None
    for step in recipe.steps:
        if step.distill is not None:
            student = _student(recipe, step.distill, data, model)
        else:
            make_pass(step).decide(model if student is None else student.model)
    return Prepared(data, model, task, student)


def _student(recipe: Recipe, settings: DistillStep, data: DataBundle, model: Model) -> Student:
    """Return the student of a recipe, after a look at it beside its teachers."""
    student = make_student(recipe, settings, data, model, custom_objects=SAVED_OBJECTS)
    _require_vocabulary(recipe, student.model)
    lesson = make_lesson(settings, student, model, data.train, custom_objects=SAVED_OBJECTS)
    check_lesson(lesson, data.train, recipe.data.augment)
    return student


def _require_vocabulary(recipe: Recipe, model: Model) -> None:
    """Raise if texts are read with another vocabulary than that of the model's checkpoint."""
    origin = initialization_of(model)
    if recipe.data.text is not None and origin is not None and origin.checkpoint is not None:
        require_same_vocabulary(recipe.data.text, origin.checkpoint)


def _run(
    recipe: Recipe,
    directory: RunDir,
    reporter: Reporter,
    prepared: Prepared,
    strategy: Strategy,
    findings: _Findings,
) -> TfoptError | None:
    """Run all stages; return the error of an export that failed, if any."""
    model = prepared.model
    run = Run(
        recipe=recipe,
        directory=directory,
        reporter=reporter,
        data=prepared.data,
        task=prepared.task,
        total=1 + len(recipe.steps) + len(recipe.export),
        data_key=data_key(recipe, prepared.data),
        custom_objects={
            **_custom_objects(model),
            **(_custom_objects(prepared.student.model) if prepared.student else {}),
        },
        student=prepared.student,
        stages=findings.stages,
        strategy=strategy,
    )
    for note in prepared.data.notes:
        reporter.message(note)
    trained = train_stage(run, model, recipe.training)
    run.baseline_rows = trained.rows
    findings.baseline = Baseline(metric=trained.result.metric, parameters=model.count_params())
    before = _kernels(trained.model)
    run.float_key, run.float_model = run.last_key, trained.model
    final = trained
    for step in recipe.steps:
        final = step_stage(run, final.model, step)
        if step.distill is not None:
            before = _kernels(final.model)
    error = None
    with agreed(strategy):
        if is_chief(strategy):
            save_model(_in_first_kind(prepared.source, final.model), directory.root / "model.keras")
            findings.histograms = weight_histograms(before, _kernels(final.model))
            if recipe.export:
                findings.baseline = _with_file(run, trained.model, findings.baseline)
                findings.artifacts, error = export_all(run, final.model)
    found = strategy.from_chief((findings.baseline, findings.artifacts, error))
    findings.baseline, findings.artifacts, error = found
    return error


def _in_first_kind(model: Model, final: Model) -> Any:
    """Return the final model in the Keras of the model that it was made from."""
    return like_source(model, final) if was_converted(model) else final


def _with_file(run: Run, model: Model, baseline: Baseline) -> Baseline:
    sizes = baseline_file(run, model)
    if sizes is None:
        return baseline
    return replace(
        baseline, litert_float_bytes=sizes[0], litert_float_gzip_bytes=sizes[1], latency_ms=sizes[2]
    )


def _kernels(model: Model) -> Mapping[str, Any]:
    """Return the kernels as the model computes with them, by the plain layers' names."""
    if not any(isinstance(layer, SchemedLayer) for layer in model.layers):
        return model_kernels(graph.copy(model))
    kernels = model_kernels(model)
    for layer in model.layers:
        if isinstance(layer, SchemedLayer):
            settled = layer.settled_kernels()
            kernels.update({f"{layer.layer.name}/{name}": v for name, v in settled.items()})
    return kernels


def _interrupted(options: RunOptions) -> Interrupted:
    return Interrupted(
        f"Interrupted. Go on with the same command, --resume and --output {options.output}"
    )


def _stage_names(recipe: Recipe) -> list[str]:
    exports = [f"export litert {entry.litert.precision}" for entry in recipe.export if entry.litert]
    return ["train", *(step.name for step in recipe.steps), *exports]


def _custom_objects(model: Model) -> dict[str, Any]:
    """Return the user's own layer classes in a model, by name."""
    return {
        type(layer).__name__: type(layer)
        for layer in model._flatten_layers()
        if not type(layer).__module__.startswith("tf_keras.")
    }


def _result(
    recipe: Recipe,
    options: RunOptions,
    findings: _Findings,
    error: TfoptError | None,
    changes: Sequence[RankChange],
) -> RunResult:
    limit = recipe.gate.max_drop if recipe.gate else None
    status: Status = "ok"
    if error is not None:
        status = "failed"
    elif any(meets_gate(artifact, limit) is False for artifact in findings.artifacts):
        status = "gate_missed"
    return RunResult(
        name=recipe.name,
        status=status,
        machine=describe_machine(),
        versions=package_versions(),
        recipe_sha256=recipe_sha256(recipe),
        metric=findings.metric,
        baseline=findings.baseline,
        stages=findings.stages,
        artifacts=findings.artifacts,
        error=str(error) if error is not None else None,
        failed_stage=_failed_stage(recipe, findings) if error is not None else None,
        rank_changes=changes,
        command=options.command,
        max_drop=limit,
        timeline=_TIMELINE if (options.output / _TIMELINE).is_file() else None,
    )


def _failed_stage(recipe: Recipe, findings: _Findings) -> str | None:
    """Return the stage that was running; the error of an export names its file itself."""
    names = ["train", *(step.name for step in recipe.steps)]
    done = len(findings.stages)
    return names[done] if done < len(names) else None


def _gate_text(result: RunResult) -> str:
    missed = [
        f"{artifact.path} drops {artifact.drop:.4f}"
        for artifact in result.artifacts
        if meets_gate(artifact, result.max_drop) is False
    ]
    return (
        f"The gate allows a drop of {result.max_drop:.4f}: {'; '.join(missed)}. The files are "
        "written all the same."
    )


def _write(directory: RunDir, result: RunResult, findings: _Findings) -> Path:
    directory.write("weights.json", to_json(list(findings.histograms)))
    directory.write("results.json", result.to_json())
    recipe_yaml = (directory.root / "recipe.yaml").read_text(encoding="utf-8")
    page = render_report(result, histograms=findings.histograms, recipe_yaml=recipe_yaml)
    return directory.write("report.html", page)
