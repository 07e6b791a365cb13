"""What all Python functions that train have in common: data, strategy, and the kind of model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfopt.api.strategy import strategy_of
from tfopt.bridge.provenance import carry
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression.keras3 import like_source
from tfopt.compression.preserve import require_unwrapped
from tfopt.config.load import parse_section, settings_sha256
from tfopt.config.schema import Augment, Fit, Section
from tfopt.data.split import Split
from tfopt.distillation.teachers import Teacher, as_teacher, digest_of
from tfopt.distributed.base import agreed, is_chief
from tfopt.distributed.versions import SAME_VERSIONS, versions_here
from tfopt.errors import DataError, InputError
from tfopt.keras2.core import Model, is_keras3
from tfopt.pipeline.consistency import require_same
from tfopt.pipeline.fingerprints import model_sha256, rows_sha256
from tfopt.reporting.console import Reporter, make_reporter
from tfopt.training.job import FitJob
from tfopt.training.labelled import labelled_split

_LARGEST_SEED = 2**31 - 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Training:
    """How a Python function trains, beside the settings of its step.

    Attributes:
        optimizer: Name of an optimizer, or its settings as in a recipe.
        learning_rate: Peak of a cosine schedule.
        batch_size: Examples in a step, of all replicas together.
        seed: Seed of the order of examples.
        strategy: How training is spread; see ``strategy_of``.
        verbose: Show progress on standard error.
        teacher: What ``tfopt.distill`` takes as teachers, or None.
    """

    optimizer: str | Mapping[str, Any]
    learning_rate: float
    batch_size: int
    seed: int
    strategy: Any
    verbose: bool
    teacher: Any = None

    def settings(self, function: str, section: type[Section], given: Mapping[str, Any]) -> Any:
        """Return the validated settings of a step, with errors in our own words.

        Args:
            function: Name of the function, for messages.
            section: Class of the settings.
            given: Settings of the step alone.

        Raises:
            RecipeError: With every setting that cannot be.
        """
        rate = {"schedule": "cosine", "peak": self.learning_rate}
        every = {**given, "optimizer": self.optimizer, "learning_rate": rate}
        return parse_section(section, every, origin=f"tfopt.{function}")


@dataclass(frozen=True, slots=True)
class NamedStep:
    """A step of a Python function.

    Attributes:
        name: Its name, which is the function's.
        settings: Its settings.
        target: What it aims at, in a few words; empty if there is nothing to say.
    """

    name: str
    settings: Fit
    target: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a function starts from, checked, and the same in all processes.

    Attributes:
        job: How to train the model, which is a tf_keras one.
        split: The training rows.
        teachers: The teachers.
        reporter: Shows the progress.
    """

    job: FitJob
    split: Split
    teachers: Sequence[Teacher]
    reporter: Reporter


def run_step(
    step: NamedStep, model: Any, train: Any, how: Training, run: Callable[[Ready], Model]
) -> Any:
    """Return what a step makes of a model: in its Keras, and the same in all processes.

    Args:
        step: The step.
        model: A model of either Keras.
        train: ``(x, y)`` arrays or a batched ``tf.data.Dataset``.
        how: How to train.
        run: Returns the finished tf_keras model.

    Raises:
        InputError: If model, data, teachers or strategy cannot be used, or the processes do not
            have the same ones.
        TfoptError: Whatever ``run`` raises.
    """
    if not 0 <= how.seed <= _LARGEST_SEED:
        raise InputError(f"seed must be from 0 to {_LARGEST_SEED}. Received: {how.seed}.")
    ready = _prepare(step, model, train, how)
    strategy, twin = ready.job.strategy, ready.job.model
    try:
        _announce(step, ready)
        finished = run(ready)
    finally:
        ready.reporter.close()
    if strategy.size > 1:  # processors differ in their last bits
        finished.set_weights(strategy.from_chief(finished.get_weights()))
    finished = carry(twin, finished)
    return like_source(twin, finished) if is_keras3(model) else finished


def _prepare(step: NamedStep, model: Any, train: Any, how: Training) -> Ready:
    strategy = strategy_of(how.strategy)
    with agreed(strategy):
        twin = to_tf_keras(model)
        require_unwrapped(twin, step=step.name)
        split, task = labelled_split(twin, train)
        teachers = [as_teacher(one) for one in _listed(how.teacher)]
    job = FitJob(
        model=twin,
        train=split,
        validation=None,
        settings=step.settings,
        task=task,
        batch_size=how.batch_size,
        augment=Augment(),
        seed=how.seed,
        strategy=strategy,
    )
    reporter = make_reporter(quiet=not (how.verbose and is_chief(strategy)))
    ready = Ready(job, split, teachers, reporter)
    if strategy.size > 1:
        _require_same(step, ready)
    return ready


def _listed(teacher: Any) -> Sequence[Any]:
    if teacher is None:
        return ()
    return teacher if isinstance(teacher, list | tuple) else [teacher]


def _require_same(step: NamedStep, ready: Ready) -> None:
    """Raise unless all processes do the same step on the same rows, models and software."""
    job, split = ready.job, ready.split
    require_same(job.strategy, versions_here(), SAME_VERSIONS)
    with agreed(job.strategy):
        if not split.is_stable:
            raise DataError(
                "training data: the dataset gives its rows in another order each time, so the "
                f"{job.strategy.size} processes would not divide the same batches. Remove "
                ".shuffle(): tfopt shuffles the rows itself."
            )
        beside = {"batch_size": job.batch_size, "seed": job.seed}
        facts = {
            "step": step.name,
            "settings": settings_sha256({**beside, **step.settings.model_dump(mode="json")}),
            "training data": rows_sha256(split),
            "model": model_sha256(job.model),
            "teacher": " ".join(digest_of(one.weights()) for one in ready.teachers),
        }
    advice = (
        f"Every process calls tfopt.{step.name} with the same arguments and with all rows, which "
        "tfopt divides among them."
    )
    require_same(job.strategy, facts, advice)


def _announce(step: NamedStep, ready: Ready) -> None:
    """Say what is trained, and with which strategy."""
    job, strategy = ready.job, ready.job.strategy
    spread = f"strategy {strategy.name}"
    if strategy.replicas > 1:
        spread += f", {strategy.replicas} replicas in {strategy.size} process"
        spread += "" if strategy.size == 1 else "es"
    _log.info("tfopt.%s trains with %s", step.name, spread)
    ready.reporter.stage_started(
        step.name,
        number=1,
        total=1,
        epochs=job.settings.epochs,
        steps_per_epoch=job.steps_per_epoch,
        target=step.target,
    )
    ready.reporter.message(spread)
