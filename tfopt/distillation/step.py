"""One student, its teachers, and how they are brought together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfopt.compression.pruning.zero_constraint import held
from tfopt.config.distill import DEFAULT_VIEWS, DistillStep, Teach, TeacherSource
from tfopt.config.schema import Augment
from tfopt.data.split import Split
from tfopt.distillation import Distiller, SoftTargets
from tfopt.distillation.cached_dataset import cached_rows, rows_in_memory
from tfopt.distillation.initialization import fresh, like_teacher
from tfopt.distillation.recipe_losses import losses_of, schedule_of
from tfopt.distillation.student import Student, flat
from tfopt.distillation.teachers import KerasTeacher, Teacher, as_teacher
from tfopt.errors import RecipeError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.models.load import load_model
from tfopt.reporting.console import Reporter
from tfopt.results import LayerDecision
from tfopt.training.job import FitJob
from tfopt.training.loop import fit
from tfopt.training.token_checks import require_free_length

_CHECK_ROWS = 32
_MASK_INPUT = "attention_mask"
_KERAS_FILES = (".keras", ".h5")


@dataclass(frozen=True, slots=True)
class Lesson:
    """A student and its teachers.

    Attributes:
        settings: The step's settings.
        student: Who is taught.
        incoming: The model that came into the step, flat.
        twin: A flat copy of the student, which is trained.
        bring_back: Puts the twin's weights into the student.
        teachers: The teachers, not bound to features.
        decisions: How each layer of the student starts.
        mask: Name of the input that is 1 at real positions, or None.
        losses: Distillation losses in place of those of the settings.
    """

    settings: DistillStep
    student: Student
    incoming: Model
    twin: Model
    bring_back: Callable[[], None]
    teachers: Sequence[Teacher]
    decisions: Sequence[LayerDecision]
    mask: str | None
    losses: Any = None

    def distiller(self, total_steps: int) -> Distiller:
        """Return the distiller of the twin.

        Args:
            total_steps: Training steps of the stage, ``>= 1``.

        Raises:
            InputError: If the losses do not fit together.
            ModelError: If a layer that a loss names is not there.
        """
        return Distiller(
            self.twin,
            list(self.teachers),
            losses=self.losses or losses_of(self.settings, total_steps=total_steps),
            alpha=schedule_of(self.settings.alpha, total_steps=total_steps),
            teacher_weights=[source.weight for source in self.settings.teacher] or None,
            mask=self.mask,
        )


def make_lesson(
    settings: DistillStep,
    student: Student,
    incoming: Model,
    split: Split,
    *,
    custom_objects: Mapping[str, Any] | None = None,
) -> Lesson:
    """Return a student and its teachers, the student's twin as it will start.

    Args:
        settings: The step's settings.
        student: The student, untrained.
        incoming: The model that comes into the step.
        split: Training rows, for the names of the inputs.
        custom_objects: Classes that a teacher's file may need, by name.

    Raises:
        InputError: If a teacher cannot be loaded, or no layer of it can be copied.
        DataError: If a teacher that runs on every batch takes texts of one length only.
    """
    incoming = flat(incoming)
    teachers = [
        _teacher(source, incoming, custom_objects=custom_objects) for source in settings.teachers
    ]
    twin, bring_back = graph.twin(student.model)
    for teacher in teachers:
        if isinstance(teacher, KerasTeacher) and settings.cache is False:
            require_free_length(teacher.model, split, what="training data")
    decisions = fresh(twin)
    if settings.initialize == "teacher":
        decisions = like_teacher(twin, incoming, blocks=_blocks(settings))
    return Lesson(
        settings=settings,
        student=student,
        incoming=incoming,
        twin=twin,
        bring_back=bring_back,
        teachers=teachers,
        decisions=decisions,
        mask=settings.mask or mask_of(split),
    )


def mask_of(split: Split) -> str | None:
    """Return the name of the input that says which positions are real, if there is one."""
    names = split.input_spec if isinstance(split.input_spec, dict) else {}
    return _MASK_INPUT if _MASK_INPUT in names else None


def check_lesson(lesson: Lesson, split: Split, augment: Augment) -> None:
    """Run student and teachers on a few rows, and raise if anything does not fit.

    Raises:
        InputError: If losses, outputs or layers do not fit together.
        ModelError: If shapes differ.
        DataError: If rows cannot be cached, or there is no input that is the mask.
    """
    settings = lesson.settings
    if settings.augment_views is not None and augment == Augment():
        raise RecipeError(
            "distill.augment_views are versions of augmented rows, and there is no data.augment. "
            "Remove one, or add the other."
        )
    if settings.cache is not False:
        rows_in_memory(split.take(1) if split.is_stable else split)
    distiller = lesson.distiller(total_steps=1)
    distiller.compile(loss=lesson.student.task.keras_loss())
    distiller.look_at(split.sample_inputs(_CHECK_ROWS, seed=0))


def teach(
    lesson: Lesson, job: FitJob, split: Split, reporter: Reporter, cache: Path
) -> Mapping[str, list[float]]:
    """Train the student, from the checkpoint if there is one, and return the epoch logs.

    Args:
        lesson: Student and teachers. The student holds the trained weights afterwards.
        job: How to train; its model and rows are replaced.
        split: Training rows.
        reporter: Told of every epoch.
        cache: Folder of what the teachers say, if the settings want it kept.

    Raises:
        TfoptError: As ``check_lesson`` and ``fit``.
    """
    settings = lesson.settings
    # Projections are drawn before a checkpoint is loaded, and must not depend on what ran before.
    keras.utils.set_random_seed(job.seed)
    distiller = lesson.distiller(job.steps_per_epoch * settings.epochs)
    distiller.compile(loss=job.task.keras_loss())
    distiller.look_at(split.sample_inputs(_CHECK_ROWS, seed=0))
    if settings.cache is not False:
        rows = cached_rows(
            split,
            list(distiller.teachers),
            cache,
            dtype="float16" if settings.cache == "float16" else "float32",
            views=views_of(settings, job.augment),
            augment=job.augment,
            seed=job.seed,
        )
        job = replace(job, train=rows)
    with held(lesson.twin) as kernels:
        if kernels:
            reporter.message(f"the zeros of {kernels} pruned kernels are kept")
        history = fit(replace(job, model=distiller), reporter)
    lesson.bring_back()
    return history


def views_of(settings: DistillStep, augment: Augment) -> int:
    """Return how many versions of each row the cache holds; 0 without a cache."""
    if settings.cache is False:
        return 0
    return 1 if augment == Augment() else settings.augment_views or DEFAULT_VIEWS


def beside_teacher(
    teacher: Any, settings: Teach | None, *, total_steps: int, mask: str | None
) -> Callable[[Model], Distiller] | None:
    """Return what makes a distiller of a model in the middle of a compression step.

    Args:
        teacher: What ``Distiller`` takes, such as the trained float model; or None.
        settings: How much the teacher teaches; None: there is no teacher.
        total_steps: Training steps of the step, ``>= 1``.
        mask: Name of the input that is 1 at real positions, or None.

    Returns:
        A function from the student to a distiller around it; None without a teacher.
    """
    if teacher is None or settings is None:
        return None
    return lambda student: Distiller(
        student,
        teacher,
        losses=SoftTargets(schedule_of(settings.temperature, total_steps=total_steps)),
        alpha=schedule_of(settings.alpha, total_steps=total_steps),
        mask=mask,
    )


def _teacher(
    source: TeacherSource, incoming: Model, *, custom_objects: Mapping[str, Any] | None
) -> Teacher:
    path = source.path
    if path is None:
        return as_teacher(incoming)
    is_keras = path.suffix in _KERAS_FILES or (path / "keras_metadata.pb").is_file()
    if not is_keras:
        return as_teacher(path)
    return as_teacher(flat(load_model(path, custom_objects=custom_objects, trust=source.trust)))


def _blocks(settings: DistillStep) -> Sequence[int]:
    """Return the teacher's blocks that the student's take after, if its builder lists them."""
    layers = settings.student.arguments.get("layers") if settings.student is not None else None
    return layers if isinstance(layers, list | tuple) else ()
