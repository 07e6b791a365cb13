"""Data from the user's own function, named in a recipe as ``package.module:function``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfopt.config.schema import Data
from tfopt.data.source import SourceData
from tfopt.data.split import ArraySplit, Split, StreamSplit, split_from
from tfopt.data.text.load import splits_of_texts
from tfopt.errors import DataError, TfoptError
from tfopt.registry import did_you_mean, import_dotted

_KEYS = ("train", "evaluation", "validation", "classes")


def load_dotted(settings: Data) -> SourceData:
    """Call the user's function and return its data.

    The function is called with ``settings.arguments`` and may return one data set (an
    array pair, a ``tf.data.Dataset``; with ``data.text`` a pair of texts and labels), a
    pair ``(train, evaluation)`` of them, or a dict with ``train`` and optionally
    ``evaluation``, ``validation`` and ``classes`` (a number or the names in label order).

    Args:
        settings: The recipe's data section: source, arguments.

    Returns:
        What the function returned, checked.

    Raises:
        InputError: If the function cannot be imported.
        DataError: If it does not take the arguments, raises, or returns something else.
    """
    function = import_dotted(settings.source, "data source")
    parts = _parts(_call(function, settings), settings.source)
    given = {
        name: parts[name]
        for name in ("train", "evaluation", "validation")
        if parts.get(name) is not None
    }
    splits, notes = _splits(given, settings)
    train = splits.get("train")
    if train is None:
        raise DataError(f"Data source {settings.source!r} returned no training data (None).")
    classes, names = _classes(parts.get("classes"), settings.source)
    return SourceData(
        train=train,
        evaluation=splits.get("evaluation"),
        validation=splits.get("validation"),
        classes=classes,
        class_names=names,
        description=f"{settings.source} (the user's function)",
        notes=notes,
    )


def _splits(
    given: Mapping[str, Any], settings: Data
) -> tuple[Mapping[str, Split], tuple[str, ...]]:
    """Return what the function gave as splits, of token ids if ``data.text`` is set."""
    named = {name: (f"{settings.source} {name}", data) for name, data in given.items()}
    if settings.text is None:
        return {name: split_from(data, what=what) for name, (what, data) in named.items()}, ()
    return splits_of_texts(named, settings.text)


def _call(function: Any, settings: Data) -> Any:
    if not callable(function):
        raise DataError(
            f"Data source {settings.source!r} is not a function. Received: "
            f"{type(function).__name__}."
        )
    signature = inspect.signature(function)
    try:
        signature.bind(**settings.arguments)
    except TypeError as error:
        given = ", ".join(sorted(settings.arguments)) or "none"
        raise DataError(
            f"Data source {settings.source!r} cannot be called with data.arguments ({given}): "
            f"{error}. It accepts {signature}."
        ) from error
    try:
        return function(**settings.arguments)
    except TfoptError:
        raise
    except Exception as error:
        raise DataError(
            f"Data source {settings.source!r} failed: {type(error).__name__}: {error}"
        ) from error


def _parts(returned: Any, source: str) -> Mapping[str, Any]:
    if isinstance(returned, Mapping) and "train" in returned:
        unknown = [str(key) for key in returned if key not in _KEYS]
        if unknown:
            raise DataError(
                f"Data source {source!r} returned the key {unknown[0]!r}."
                f"{did_you_mean(unknown[0], _KEYS)} Known: {', '.join(_KEYS)}."
            )
        return returned
    if isinstance(returned, tuple) and len(returned) == 2 and all(map(_is_data_set, returned)):
        return {"train": returned[0], "evaluation": returned[1]}
    return {"train": returned}


def _is_data_set(value: Any) -> bool:
    """Return whether a value is data by itself, and not the x or y of a pair."""
    return isinstance(value, tf.data.Dataset | ArraySplit | StreamSplit | tuple)


def _classes(value: Any, source: str) -> tuple[int | None, tuple[str, ...] | None]:
    if value is None:
        return None, None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value, None
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return len(value), tuple(value)
    raise DataError(
        f"Data source {source!r}: 'classes' must be a number or a list of names. Received: "
        f"{value!r}."
    )
