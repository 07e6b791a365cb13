"""Make the student of a ``distill`` step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfopt.bridge.provenance import carry
from tfopt.compression.preserve import require_unwrapped
from tfopt.compression.pruning.zero_constraint import require_trainable
from tfopt.config.schema import DistillStep, Recipe
from tfopt.data.load import DataBundle
from tfopt.keras2 import graph
from tfopt.keras2.core import Layer, Model, is_graph, keras
from tfopt.models.build import build_model
from tfopt.training.task import Task, read_task, require_inputs

_STUDENT_DRAW = 1


@dataclass(frozen=True, slots=True)
class Student:
    """A model that is to be taught.

    Attributes:
        model: As its builder or file made it; training changes it in place.
        task: Its own loss and metric: it may give probabilities where the teacher gives logits.
        is_born_again: Whether it has the architecture of the model that comes in.
    """

    model: Model
    task: Task
    is_born_again: bool


def make_student(
    recipe: Recipe,
    settings: DistillStep,
    data: DataBundle,
    incoming: Model,
    *,
    custom_objects: Mapping[str, Any] | None = None,
) -> Student:
    """Return the student of a recipe, not yet trained.

    Its random weights depend on the recipe's seed only, and are not those that the teacher
    of the same recipe began with.

    Args:
        recipe: The recipe.
        settings: Its ``distill`` step.
        data: Examples that it must fit.
        incoming: The model that comes into the step.
        custom_objects: Classes that a student's file may need, by name.

    Raises:
        InputError: If the student cannot be built, or is in the middle of another step.
        DataError: If it does not fit the data.
    """
    drawn = np.random.SeedSequence([recipe.seed, _STUDENT_DRAW]).generate_state(1)[0]
    keras.utils.set_random_seed(int(drawn) % 2**31)
    if settings.student is None:
        require_unwrapped(incoming, step="distill")
        model = carry(incoming, born_again(incoming))
    else:
        section = settings.student
        if section.builder is not None and section.preprocess is None:
            section = section.model_copy(update={"preprocess": recipe.model.preprocess})
        model = build_model(
            section,
            input_shape=data.input_shape,
            classes=data.classes,
            seed=recipe.seed,
            custom_objects=custom_objects,
        )
        require_unwrapped(model, step="distill")
    require_trainable(model)
    require_inputs(model, data.train, what="training data")
    task = read_task(
        model, data.train, classes=data.classes, train=recipe.training, metric=recipe.metric
    )
    return Student(model, task, is_born_again=settings.student is None)


def born_again(model: Model) -> Model:
    """Return an untrained model of the same architecture (arXiv:1805.04770).

    Layers that cannot be trained, such as adapted normalization, keep their weights.

    Args:
        model: A Functional or Sequential model; it is not changed.
    """

    def keep_frozen(original: Layer, replacement: Any) -> None:
        if not original.trainable_weights:
            replacement.set_weights(original.get_weights())

    return graph.rebuild(model, lambda layer: layer, move_weights=keep_frozen)


def flat(model: Model) -> Model:
    """Return a model whose layers can all be named: itself, or a copy without nesting."""
    return graph.copy(model) if any(is_graph(layer) for layer in model.layers) else model
