"""``tfopt.distill``: a student and a teacher in, the taught student out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tfopt.api.run import NamedStep, Ready, Training, run_step
from tfopt.compression.pruning.zero_constraint import require_trainable
from tfopt.config.schema import DistillStep
from tfopt.distillation.initialization import fresh
from tfopt.distillation.run import distill as train_student
from tfopt.distillation.step import Lesson, mask_of
from tfopt.distillation.student import Student
from tfopt.distillation.teachers import KerasTeacher
from tfopt.distributed.base import is_chief
from tfopt.keras2 import graph
from tfopt.keras2.core import Model

_MEASURED_ROWS = 2000


def distill(
    student: Any,
    teacher: Any,
    train: Any,
    *,
    epochs: int = 10,
    alpha: float = 0.1,
    temperature: float = 4.0,
    losses: Any = None,
    mask: str | None = None,
    cache: Literal["float32", "float16"] | None = None,
    folder: str | Path | None = None,
    optimizer: str | Mapping[str, Any] = "adam",
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    strategy: Any = "auto",
    verbose: bool = False,
) -> Any:
    """Return a copy of a student that has learned from a teacher.

    ``Distiller`` does the same with your own optimizer, callbacks and ``fit``, and takes
    rows without labels.

    Args:
        student: A Functional or Sequential model of either Keras; it is not changed.
        teacher: One teacher or a list of them: a model of either Keras, a SavedModel folder, a
            ``.tflite`` or ``.onnx`` file, or a function of a batch of inputs.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        epochs: Epochs of training, ``>= 1``.
        alpha: Weight of the labels, in ``[0, 1]``; the teacher has the rest.
        temperature: Temperature of the teacher's soft targets, ``> 0``.
        losses: Distillation losses in place of soft targets; see ``Distiller``.
        mask: Name of the input that is 1 at real positions; ``attention_mask`` if there is one.
        cache: Run the teacher over the rows once and keep its outputs in this number format;
            None runs it on every batch.
        folder: Where to keep them; None forgets them afterwards. Of several processes the first
            one keeps them.
        optimizer: Name, or settings as in a recipe.
        learning_rate: Peak of a cosine schedule.
        batch_size: Examples in a step, of all replicas together.
        seed: Seed of the order of examples.
        strategy: How training is spread; see ``prune``.
        verbose: Show progress on standard error.

    Returns:
        The student, in the Keras that went in.

    Raises:
        InputError: If a setting is impossible, or data and models do not fit each other.
        VerificationError: If the student did not move, the teacher did, or the two agree on up to
            2,000 of the rows no more than chance would have it.
    """
    given: dict[str, Any] = {
        "epochs": epochs,
        "alpha": alpha,
        "losses": [{"soft_targets": {"temperature": temperature}}],
        "cache": {None: False, "float32": True}.get(cache, cache),
    }
    how = Training(
        optimizer=optimizer,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        strategy=strategy,
        verbose=verbose,
        teacher=teacher,
    )
    settings = how.settings("distill", DistillStep, given)

    def run(ready: Ready) -> Model:
        kept = folder if is_chief(ready.job.strategy) else None
        with tempfile.TemporaryDirectory() as temporary:
            made = train_student(
                lambda: _lesson(ready, settings, losses=losses, mask=mask),
                ready.job,
                ready.split.take(_MEASURED_ROWS),
                ready.reporter,
                train=ready.split,
                cache=Path(kept or temporary),
            )
        return made.model

    return run_step(NamedStep("distill", settings), student, train, how, run)


def _lesson(ready: Ready, settings: DistillStep, *, losses: Any, mask: str | None) -> Lesson:
    require_trainable(ready.job.model)
    models = [one.model for one in ready.teachers if isinstance(one, KerasTeacher)]
    copy = graph.copy(ready.job.model)
    return Lesson(
        settings=settings,
        student=Student(copy, ready.job.task, is_born_again=False),
        incoming=max(models, key=lambda model: model.count_params(), default=copy),
        twin=copy,
        bring_back=lambda: None,
        teachers=ready.teachers,
        decisions=fresh(copy),
        mask=mask or mask_of(ready.split),
        losses=losses,
    )
