"""What a data source returns, before limits, held-out rows and caching are applied."""

from __future__ import annotations

from dataclasses import dataclass

from tfopt.data.split import Split


@dataclass(frozen=True, slots=True)
class SourceData:
    """The splits that a source has of its own.

    Attributes:
        train: Rows to train on.
        description: What the data is and where it is from; one line for people.
        evaluation: Rows for the reported metric; None if the source has none.
        validation: Rows to choose epochs by; None if the source has none.
        classes: Number of classes, if the source knows it.
        class_names: Their names in label order, if the source knows them.
        notes: What a user should know of the rows, such as how many were cut.
    """

    train: Split
    description: str
    evaluation: Split | None = None
    validation: Split | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
