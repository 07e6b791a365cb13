"""Load the data of a recipe: a named source, or the user's own function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.config.components import SOURCES
from tfopt.config.schema import Data
from tfopt.data.augment import make_augment
from tfopt.data.holdout import hold_out, limited
from tfopt.data.labels import as_class_numbers, same_names
from tfopt.data.source import SourceData
from tfopt.data.sources.python_function import load_dotted
from tfopt.data.split import Split, StreamSplit, in_memory, memory_bytes
from tfopt.errors import DataError
from tfopt.registry import resolve

CACHE_LIMIT_BYTES = 2 * 1024**3

# Each draw has a seed of its own, so that changing one leaves the others as they were.
_EVALUATION_DRAW, _LIMIT_DRAW, _VALIDATION_DRAW = 1, 2, 3


@dataclass(frozen=True, slots=True)
class DataBundle:
    """The examples of a run.

    Attributes:
        name: The source as the recipe names it.
        train: Rows to train on.
        evaluation: Rows for the reported metric; always in the same order.
        validation: Rows to choose epochs by, or None.
        input_shape: Shape of one example's input; a tuple or dict of shapes for models
            with several inputs.
        classes: Number of classes (labels are int64 class numbers); None for regression
            (labels are float32).
        class_names: Names in label order, if known.
        description: What the data is; one line for people.
        notes: What a user should know of the rows, such as how many were cut.
    """

    name: str
    train: Split
    evaluation: Split
    validation: Split | None
    input_shape: Any
    classes: int | None
    class_names: tuple[str, ...] | None
    description: str
    notes: tuple[str, ...] = ()


def load_data(settings: Data, *, seed: int) -> DataBundle:
    """Return the examples of a recipe's ``data`` section.

    Args:
        settings: The section.
        seed: The recipe's seed; it draws held-out and limited rows.

    Returns:
        Training, evaluation and, if asked for, validation rows.

    Raises:
        InputError: If the source is unknown.
        DataError: If the data is missing, broken, unlabelled, or its parts do not fit
            each other.
        BackendMissing: If the source needs a package that is not installed.
    """
    if ":" in settings.source:
        source = load_dotted(settings)
    else:
        _refuse_unused_arguments(settings)
        source = resolve(SOURCES, "data source", settings.source)(settings)
    source, classes = _with_one_kind_of_label(source, settings)
    stratify = classes is not None
    train, evaluation = source.train, source.evaluation
    if evaluation is None:
        train, evaluation = hold_out(
            _divisible(train, settings),
            fraction=settings.evaluation_fraction,
            seed=_seed(seed, _EVALUATION_DRAW),
            stratify=stratify,
        )
    if settings.limit is not None or settings.validation_fraction:
        train = _divisible(train, settings)
    train = limited(train, settings.limit, seed=_seed(seed, _LIMIT_DRAW), stratify=stratify)
    validation = source.validation
    if settings.validation_fraction:
        train, validation = hold_out(
            train,
            fraction=settings.validation_fraction,
            seed=_seed(seed, _VALIDATION_DRAW),
            stratify=stratify,
        )
    make_augment(settings.augment, train.input_spec)  # raises now rather than in training
    return DataBundle(
        name=settings.source,
        train=_cached(train, settings.cache),
        evaluation=_in_fixed_order(_cached(evaluation, settings.cache)),
        validation=validation and _in_fixed_order(_cached(validation, settings.cache)),
        input_shape=_shapes(train.input_spec),
        classes=classes,
        class_names=source.class_names,
        description=source.description,
        notes=source.notes,
    )


def _refuse_unused_arguments(settings: Data) -> None:
    if settings.arguments:
        raise DataError(
            f"data.arguments are for a source written as 'package.module:function'; source "
            f"{settings.source!r} takes none. Remove: {', '.join(sorted(settings.arguments))}."
        )


def _with_one_kind_of_label(source: SourceData, settings: Data) -> tuple[SourceData, int | None]:
    """Return the source with class numbers (or floats) in every split, and the classes."""
    if settings.task == "regression" and source.classes is not None:
        raise DataError(f"data.task is regression, but {settings.source!r} has classes.")
    named = {
        name: split
        for name in ("train", "evaluation", "validation")
        if (split := getattr(source, name)) is not None
    }
    _check_fit(named)
    named = same_names(named, order=source.class_names)
    task = "classification" if source.classes is not None else settings.task
    counts: dict[str, int | None] = {}
    for name, split in named.items():
        what = f"{settings.source} {name}"
        named[name], counts[name] = as_class_numbers(split, task=task, what=what)
    names = source.class_names or named["train"].class_names
    classes = _classes(source, counts, names)
    return replace(source, **named, class_names=names), classes  # type: ignore[arg-type]  # fields of these names


def _classes(
    source: SourceData, counts: Mapping[str, int | None], names: tuple[str, ...] | None
) -> int | None:
    found = [count for count in counts.values() if count is not None]
    if len(found) not in (0, len(counts)):
        kinds = ", ".join(
            f"{name}: {'numbers' if count is None else f'{count} classes'}"
            for name, count in counts.items()
        )
        raise DataError(
            f"The labels look like classes in one split and like numbers in another ({kinds}). Set "
            "data.task: classification or regression."
        )
    if not found:
        return None
    known = source.classes if source.classes is not None else len(names or ())
    if known and max(found) > known:
        raise DataError(f"A label is {max(found) - 1}, but there are {known} classes (from 0).")
    return known or max(found)


def _check_fit(named: Mapping[str, Split]) -> None:
    """Raise unless all splits have labels and inputs of the same kind."""
    train = named["train"]
    for name, split in named.items():
        if not split.has_labels:
            raise DataError(f"The {name} data has no labels. Give (x, y).")
        first, second = _shapes(train.input_spec), _shapes(split.input_spec)
        if not _shapes_fit(first, second):
            raise DataError(
                f"The inputs differ: one training example has shape {first}, one {name} example "
                f"{second}."
            )


def _shapes_fit(first: Any, second: Any) -> bool:
    if isinstance(first, dict) or isinstance(second, dict):
        same_keys = isinstance(first, dict) and isinstance(second, dict) and {*first} == {*second}
        return same_keys and all(_shapes_fit(first[key], second[key]) for key in first)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_shapes_fit, first, second))
    return first is None or second is None or first == second


def _shapes(spec: Any) -> Any:
    return tf.nest.map_structure(lambda leaf: tuple(leaf.shape.as_list()), spec)


def _cached(split: Split, policy: str) -> Split:
    """Return the split in memory if the policy says so.

    A pipeline that augments by itself is not cached by ``auto``: that would freeze its
    draws.
    """
    if not isinstance(split, StreamSplit) or policy == "never":
        return split
    if policy == "always" or (split.is_stable and memory_bytes(split) <= CACHE_LIMIT_BYTES):
        return in_memory(split)
    return split


def _divisible(split: Split, settings: Data) -> Split:
    """Return a split whose row numbers mean the same rows each time.

    Without this, rows held out of a pipeline that shuffles would be trained on too.
    """
    if not isinstance(split, StreamSplit) or split.is_stable:
        return split
    if settings.cache != "never" and memory_bytes(split) <= CACHE_LIMIT_BYTES:
        return in_memory(split)
    raise DataError(
        f"{split.what} gives other rows, or another order, each time it is read, so rows cannot be "
        "held out of it. Return the evaluation data separately, or remove shuffle() and random "
        "maps and use data.augment."
    )


def _in_fixed_order(split: Split) -> Split:
    """Return a split that gives the same rows each time, so that models compare in pairs."""
    if not isinstance(split, StreamSplit) or split.is_stable:
        return split
    if memory_bytes(split) <= CACHE_LIMIT_BYTES:
        return in_memory(split)
    raise DataError(
        f"{split.what} gives other rows, or another order, each time it is read, and is too large "
        "to keep in memory. Remove shuffle() and random maps from evaluation data."
    )


def _seed(seed: int, draw: int) -> int:
    return int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])
