"""Numeric or text columns and a label from a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfopt.config.schema import Data, TextSettings
from tfopt.data.checks import Array
from tfopt.data.source import SourceData
from tfopt.data.sources.paths import existing_file
from tfopt.data.split import split_from
from tfopt.data.text.load import splits_of_texts
from tfopt.errors import DataError
from tfopt.registry import did_you_mean

_WHOLE_NUMBER = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True, slots=True)
class _Table:
    """The text of a CSV file.

    Attributes:
        name: File name, for messages.
        header: Column names.
        columns: Cells of each column, stripped.
        lines: Line of the file in which each row ends, counted from 1.
    """

    name: str
    header: Sequence[str]
    columns: Sequence[Sequence[str]]
    lines: Sequence[int]


def load_csv(settings: Data) -> SourceData:
    """Return numeric columns as one float32 input of shape ``(columns,)``, and the label.

    With ``data.text``, one or two columns of text become token ids instead. The first
    line names the columns. Labels that are whole numbers stay so, other
    numbers become floats, and text becomes class numbers.

    Args:
        settings: The recipe's data section: path, label, features.

    Returns:
        All rows; the source has no evaluation rows of its own.

    Raises:
        DataError: If the file is missing or not a table, a column is not there, or a
            cell is not a number; rows and columns are named.
    """
    path = existing_file(settings.path, what="data.path of source 'csv'")
    table = _read(path)
    label = settings.label or ""
    if settings.text is not None:
        return _texts(table, settings.text, label)
    features = settings.features
    if features is None:
        features = tuple(name for name in table.header if name != label)
    _require_columns(table, (label, *features))
    if label in features:
        raise DataError(f"data.features contains the label {label!r}. Remove it from there.")
    if not features:
        raise DataError(f"{table.name} has no column besides the label {label!r}.")
    inputs = np.stack([_numbers(table, name) for name in features], axis=1)
    return SourceData(
        train=split_from((inputs, _labels(table, label)), what=table.name),
        description=f"{len(features)} columns of {table.name}",
    )


def _texts(table: _Table, settings: TextSettings, label: str) -> SourceData:
    """Return the token ids of text columns, and the label."""
    columns = settings.columns or ()
    _require_columns(table, (label, *columns))
    if label in columns:
        raise DataError(f"data.text.columns contains the label {label!r}. Remove it from there.")
    for name in columns:
        cells = table.columns[table.header.index(name)]
        empty = [row for row, cell in enumerate(cells) if not cell]
        if empty:
            raise DataError(
                f"{table.name} line {table.lines[empty[0]]}, column {name!r}: the text is empty "
                f"({len(empty)} such rows). Remove these rows."
            )
    texts = [table.columns[table.header.index(name)] for name in columns]
    rows = texts[0] if len(texts) == 1 else {"text": texts[0], "text_pair": texts[1]}
    splits, notes = splits_of_texts(
        {"train": (table.name, (rows, _labels(table, label)))}, settings
    )
    return SourceData(
        train=splits["train"],
        description=f"Text of {table.name} ({', '.join(columns)})",
        notes=notes,
    )


def _require_columns(table: _Table, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.header:
            raise DataError(
                f"{table.name} has no column {name!r}.{did_you_mean(name, table.header)} Columns: "
                f"{', '.join(table.header)}."
            )


def _read(path: Path) -> _Table:
    rows, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{str(path)!r} cannot be read as CSV (UTF-8): {error}.") from error
    _check_header(header, path.name)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise DataError(
                f"{path.name} line {line}: {len(row)} cells, but the header names {len(header)} "
                "columns. Quote cells that contain commas."
            )
    if not rows:
        raise DataError(f"{path.name} has a header but no rows.")
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    return _Table(path.name, header, columns, lines)


def _check_header(header: Sequence[str], name: str) -> None:
    for mark, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise DataError(f"{name} is separated by {word}. Save it with commas.")
    twice = [entry for entry in header if header.count(entry) > 1]
    if twice:
        raise DataError(f"{name} has two columns named {twice[0]!r}. Rename one.")


def _numbers(table: _Table, column: str) -> Array:
    """Return a column as float32 of shape ``(rows,)``."""
    cells = table.columns[table.header.index(column)]
    try:
        numbers: Array = np.array([_number(cell) for cell in cells], np.float64)
    except ValueError:
        bad = next(index for index, cell in enumerate(cells) if not _is_number(cell))
        shown = repr(cells[bad]) if cells[bad] else "empty"
        raise DataError(
            f"{table.name} line {table.lines[bad]}, column {column!r}: the cell is {shown}, not a "
            "number. Repair the file, or leave the column out of data.features."
        ) from None
    bad_rows = np.flatnonzero(~(np.abs(numbers) <= np.finfo(np.float32).max))
    if bad_rows.size:
        raise DataError(
            f"{table.name} line {table.lines[bad_rows[0]]}, column {column!r}: the cell is "
            f"{cells[bad_rows[0]]!r}; NaN, infinity and numbers beyond float32 cannot be trained "
            f"on ({bad_rows.size} such cells in this column). Remove or repair these rows."
        )
    return numbers.astype(np.float32)


def _labels(table: _Table, column: str) -> Any:
    cells = table.columns[table.header.index(column)]
    empty = [index for index, cell in enumerate(cells) if not cell]
    if empty:
        raise DataError(
            f"{table.name} line {table.lines[empty[0]]}, column {column!r}: the label is empty "
            f"({len(empty)} such rows). Remove these rows."
        )
    if all(_WHOLE_NUMBER.fullmatch(cell) for cell in cells):
        return np.array([int(cell) for cell in cells], np.int64)
    if all(map(_is_number, cells)):
        return _numbers(table, column)
    return np.array(cells, dtype=str)


def _number(cell: str) -> float:
    if "_" in cell:  # float() takes 1_000, which no CSV writer means
        raise ValueError(cell)
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True
