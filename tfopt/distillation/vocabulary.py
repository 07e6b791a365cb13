"""Refuse a student and a teacher that read the same token numbers as different words."""

from __future__ import annotations

from collections.abc import Sequence

from tfopt.distillation.teachers import KerasTeacher, Teacher
from tfopt.errors import ModelError
from tfopt.keras2.core import Model, is_graph
from tfopt.keras2.embeddings import tables_of


def require_same_vocabulary(student: Model, teacher: Model) -> None:
    """Raise if both look up the same input in tables of different length.

    Token 7 of one tokenizer is not token 7 of another, so teacher and student would read
    different texts. Equal lengths prove nothing; unequal ones are a mistake.

    Args:
        student: A flat model.
        teacher: A flat model.

    Raises:
        ModelError: Naming the input and both tables.
    """
    theirs = tables_of(teacher)
    for name, (own, *_) in tables_of(student).items():
        other = theirs.get(name, [own])[0]
        if other.input_dim != own.input_dim:
            raise ModelError(
                f"Student and teacher both read {name!r}, but the student's table {own.name!r} has "
                f"{own.input_dim:,} tokens and the teacher's {other.name!r} {other.input_dim:,}. "
                "They come from different tokenizers, so the same numbers are different words to "
                "them. Give the student the teacher's tokenizer, or distil in Python from what the "
                "teacher says about its own tokens: tfopt.cache_teacher(..., teacher_inputs=...)."
            )


def require_one_vocabulary(student: Model, teachers: Sequence[Teacher]) -> None:
    """Raise as ``require_same_vocabulary``, where the inside of both can be seen.

    Args:
        student: A model.
        teachers: Its teachers, which read the same inputs.

    Raises:
        ModelError: If one has a table of another length.
    """
    for teacher in teachers:
        if isinstance(teacher, KerasTeacher) and is_graph(student) and is_graph(teacher.model):
            require_same_vocabulary(student, teacher.model)
