"""Run one stage of a recipe: train, measure, save, and never twice without need."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.bridge.provenance import conversion_of, was_converted
from tfopt.compression.base import Measurement
from tfopt.compression.saved_objects import STEP_OBJECTS
from tfopt.config.load import settings_sha256
from tfopt.config.schema import DistillStep, Fit, Recipe, Step, Train
from tfopt.data.load import DataBundle
from tfopt.distillation.run import distill
from tfopt.distillation.step import beside_teacher, make_lesson, mask_of
from tfopt.distillation.student import Student
from tfopt.distributed.base import Spread, Strategy, agreed, is_chief
from tfopt.distributed.single import Single
from tfopt.errors import ModelError
from tfopt.keras2.core import Model
from tfopt.models.load import load_model, save_model
from tfopt.models.transformers.initialization import initialization_of
from tfopt.pipeline.fingerprints import model_sha256
from tfopt.pipeline.run_directory import RunDir, file_sha256
from tfopt.reporting.console import Reporter
from tfopt.reporting.text import spread_text
from tfopt.results import StageResult, stage_from_dict, to_json
from tfopt.storage import make_folder, named_errors, remove_folder, whole_file, write_whole
from tfopt.training.compression_step import (
    TrainedModel,
    compress,
    make_pass,
    step_context,
    target_text,
)
from tfopt.training.float_step import train_float
from tfopt.training.job import FitJob
from tfopt.training.predict import row_scores
from tfopt.training.task import Task
from tfopt.training.throughput import spread_evidence
from tfopt.training.transfer.masked_language import with_hidden_tokens
from tfopt.version import __version__

_CALIBRATION_BATCH = 64
_MODEL, _ROWS, _RESULT, _CHECKPOINT = "model.keras", "rows.npy", "stage.json", "checkpoint.npz"
_LOGS, _TEACHER = "logs", "teacher"


@dataclass(slots=True)
class Run:
    """What the stages of one run share.

    Attributes:
        recipe: The recipe.
        directory: The run's folder.
        reporter: Told of everything.
        data: The examples.
        task: Loss and metric, read off the float model.
        custom_objects: The user's own layer classes, by name.
        stages: Results so far.
        last_key: Hash of everything that led to the latest model.
        float_key: The same, of the trained float model.
        float_model: The trained float model.
        student: The untrained student of a ``distill`` step.
        number: Stages begun so far.
        total: Stages of the run, exports included.
        baseline_rows: What each row adds to the metric through the trained float model.
        strategy: How training is spread; every process of it runs every stage, and the
            chief alone keeps files.
    """

    recipe: Recipe
    directory: RunDir
    reporter: Reporter
    data: DataBundle
    task: Task
    total: int
    data_key: str
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    stages: list[StageResult] = field(default_factory=list)
    last_key: str = ""
    float_key: str = ""
    float_model: Model | None = None
    student: Student | None = None
    number: int = 0
    baseline_rows: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    strategy: Strategy = field(default_factory=Single)

    @property
    def gate_value(self) -> float | None:
        """Return the worst metric that the gate allows, or None."""
        if self.recipe.gate is None or not self.baseline_rows.size:
            return None
        metric = self.task.metric
        info = metric.info(len(self.baseline_rows))
        return info.worst_allowed(metric.value(self.baseline_rows), self.recipe.gate.max_drop)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A stage's model and result, with the row scores of the model."""

    model: Model
    result: StageResult
    rows: npt.NDArray[np.float64]


def train_stage(run: Run, model: Model, settings: Train | None) -> Outcome:
    """Train the float model, or only score it if there is nothing to train."""
    key = {
        "model": run.recipe.model.model_dump(mode="json"),
        "train": settings.model_dump(mode="json") if settings is not None else None,
        "built": model_sha256(model),
        "data": run.data_key,
        "task": run.task.fingerprint(),
        "seed": run.recipe.seed,
    }
    epochs = settings.epochs if settings is not None else 0

    def make(folder: Path) -> TrainedModel:
        origin = _together(_conversion(model), _initialization(model))
        if settings is None or epochs == 0:
            return TrainedModel(model, origin, {})
        job = replace(_job(run, model, settings, folder), jit_compile=settings.jit_compile)
        trained = train_float(
            job,
            run.reporter,
            transfer=settings.transfer
            and with_hidden_tokens(settings.transfer, run.recipe.data.text),
            dtype=settings.precision if settings.precision != "float32" else None,
        )
        return replace(trained, measured=_together(origin, trained.measured))

    return _stage(run, "train", key, make, epochs=epochs)


def _conversion(model: Model) -> Measurement | None:
    """Return what is to say of a model that was made from one of Keras 3."""
    if not was_converted(model):
        return None
    found = conversion_of(model)
    return Measurement(
        evidence={"converted_weights": found.weights, "conversion_error": found.relative_error},
        layers=[],
        notes=[f"converted from Keras 3: {found}", *found.notes],
    )


def _initialization(model: Model) -> Measurement | None:
    """Return what is to say of a transformer's weights, so that no random layer is silent."""
    found = initialization_of(model)
    if found is None:
        return None
    measure = {
        "loaded_layers": len(found.loaded),
        "derived_layers": len(found.derived),
        "random_layers": len(found.new),
    }
    return Measurement(evidence=measure, layers=[], notes=found.notes())


def _together(first: Measurement | None, second: Measurement | None) -> Measurement | None:
    """Return what both say."""
    if first is None or second is None:
        return first or second
    return Measurement(
        evidence={**second.evidence, **first.evidence},
        layers=[*first.layers, *second.layers],
        notes=[*first.notes, *second.notes],
    )


def step_stage(run: Run, model: Model, step: Step) -> Outcome:
    """Compress the model with one step, or teach a smaller one."""
    settings = step.settings
    if isinstance(settings, DistillStep):
        return _distill_stage(run, model, settings)
    compression = make_pass(step)
    key = {"step": step.name, "settings": settings.model_dump(mode="json")}
    context = step_context(
        run.data.train, settings, batch_size=run.recipe.data.batch_size, seed=run.recipe.seed
    )

    def make(folder: Path) -> TrainedModel:
        job = _job(run, model, settings, folder)
        return compress(
            compression,
            context,
            job,
            run.reporter,
            beside_teacher=beside_teacher(
                run.float_model,
                settings.teacher,
                total_steps=context.total_steps,
                mask=mask_of(run.data.train),
            ),
        )

    return _stage(run, step.name, key, make, epochs=settings.epochs, target=target_text(step))


def _distill_stage(run: Run, incoming: Model, settings: DistillStep) -> Outcome:
    """Teach the student what the model that comes in, or other teachers, know."""
    student = run.student
    if student is None:
        raise ModelError("A distill step needs the student that prepare() makes.")
    key = {
        "step": "distill",
        "settings": settings.model_dump(mode="json"),
        "student": model_sha256(student.model),
        "teachers": [file_sha256(entry.path) for entry in settings.teachers if entry.path],
        "preprocess": str(run.recipe.model.preprocess),
    }
    run.task = student.task

    def make(folder: Path) -> TrainedModel:
        data = run.data
        trained = distill(
            lambda: make_lesson(
                settings, student, incoming, data.train, custom_objects=run.custom_objects
            ),
            _job(run, student.model, settings, folder),
            data.evaluation,
            run.reporter,
            train=data.train,
            cache=run.directory.root / _TEACHER,
        )
        # What is copied from the teacher is in the evidence of the step.
        is_own = settings.initialize != "teacher"
        origin = _initialization(student.model) if is_own else None
        return replace(trained, measured=_together(trained.measured, origin))

    target = target_text(Step(distill=settings))
    return _stage(run, "distill", key, make, epochs=settings.epochs, target=target)


def load_step_model(path: Path, custom_objects: Mapping[str, Any]) -> Model:
    """Return a model that a stage saved, in the middle of a step or not."""
    return load_model(path, custom_objects={**STEP_OBJECTS, **custom_objects})


def _job(run: Run, model: Model, settings: Fit, folder: Path) -> FitJob:
    rate, factor = settings.learning_rate, run.recipe.strategy.rate_factor(run.strategy.replicas)
    if factor != 1:
        scaled = rate.model_copy(update={"peak": rate.peak * factor})
        settings = settings.model_copy(update={"learning_rate": scaled})
    keeps = is_chief(run.strategy)
    return FitJob(
        model=model,
        train=run.data.train,
        validation=run.data.validation,
        settings=settings,
        task=run.task,
        batch_size=run.recipe.data.batch_size,
        augment=run.recipe.data.augment,
        seed=run.recipe.seed * 100 + run.number,
        checkpoint=folder / _CHECKPOINT if keeps else None,
        log_dir=run.directory.folder(_LOGS) / folder.name if keeps else None,
        strategy=run.strategy,
    )


def _stage(
    run: Run,
    name: str,
    settings: Mapping[str, Any],
    make: Callable[[Path], TrainedModel],
    *,
    epochs: int,
    target: str = "",
) -> Outcome:
    """Make a stage's model, or load it if an earlier run made it from the same input."""
    folder = f"{run.number:02d}-{name}"
    key = settings_sha256({**settings, "before": run.last_key, "tfopt": __version__})
    run.number += 1
    outcome = _load_if_done(run, name, folder=folder, key=key)
    if outcome is None:
        if run.strategy.journey is not None:
            run.strategy.journey.stage = name
        run.reporter.stage_started(
            name,
            number=run.number,
            total=run.total,
            epochs=epochs,
            steps_per_epoch=run.data.train.steps_per_epoch(run.recipe.data.batch_size),
            target=target,
        )
        outcome = _make(run, name, make, folder=folder, key=key)
        baseline = run.task.metric.value(run.baseline_rows) if run.baseline_rows.size else None
        run.reporter.stage_done(outcome.result, baseline=baseline, gate=run.gate_value)
    run.last_key = key
    run.stages.append(outcome.result)
    return outcome


def _make(
    run: Run, name: str, make: Callable[[Path], TrainedModel], *, folder: str, key: str
) -> Outcome:
    started = time.monotonic()
    if not run.directory.was_started(name, folder, key):
        remove_folder(run.directory.root / _LOGS / folder)
    path = run.directory.start(name, folder, key)
    made = make(path)
    spread = spread_evidence(run.strategy, made.history)
    with agreed(run.strategy):
        rows = row_scores(made.model, run.data.evaluation, run.task.metric)
        measured = made.measured or Measurement(evidence={}, layers=())
        told = run.strategy.spread() if made.history else Spread()
        result = StageResult(
            name=name,
            metric=run.task.metric.value(rows),
            seconds=time.monotonic() - started,
            evidence={**measured.evidence, **told.evidence, **spread},
            layers=measured.layers,
            notes=[*measured.notes, *([told.note] if told.note else [])],
            history=made.history,
        )
        if is_chief(run.strategy):
            save_model(made.model, path / _MODEL)
            with whole_file(path / _ROWS) as partial:
                np.save(partial, rows)
            write_whole(path / _RESULT, to_json(result).encode())
            run.directory.finish(name, folder, key, [_MODEL, _ROWS, _RESULT])
            (path / _CHECKPOINT).unlink(missing_ok=True)
    # Processors differ in their last bits, and no two processes take as long.
    result, rows = run.strategy.from_chief((result, rows))
    if spread:
        run.reporter.message(f"{name}: {spread_text(result.evidence)}")
    return Outcome(made.model, result, rows)


def _share_files(run: Run, path: Path) -> None:
    """Give the other processes the files of a finished stage, which the chief has."""
    if run.strategy.size == 1:
        return
    files: dict[str, bytes] = {}
    with agreed(run.strategy), named_errors(f"The results in {path} cannot be read"):
        if is_chief(run.strategy):
            files = {name: (path / name).read_bytes() for name in (_MODEL, _ROWS, _RESULT)}
    files = run.strategy.from_chief(files)
    if not is_chief(run.strategy):
        make_folder(path)
        for name, content in files.items():
            write_whole(path / name, content)


def _load_if_done(run: Run, name: str, *, folder: str, key: str) -> Outcome | None:
    path = run.directory.root / folder
    with agreed(run.strategy):
        is_done = run.directory.is_done(name, folder, key)
    if not run.strategy.from_chief(is_done):
        return None
    _share_files(run, path)
    try:
        model = load_step_model(path / _MODEL, run.custom_objects)
    except ModelError as error:
        # Such as a Lambda layer, whose code is not loaded from any file.
        run.reporter.warning(f"{name} is done again, for its model cannot be loaded: {error}")
        return None
    with named_errors(f"The results in {path} cannot be read"):
        (path / _CHECKPOINT).unlink(missing_ok=True)
        result = stage_from_dict(json.loads((path / _RESULT).read_text(encoding="utf-8")))
        rows = np.load(path / _ROWS)
    run.reporter.stage_skipped(name, "finished by an earlier run from the same input")
    return Outcome(model, result, rows)
