"""A large causal teacher and a small encoder that cut the same texts into other tokens."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tfopt
from tfopt.distillation import CallableTeacher, CosineLoss, SoftTargets
from tfopt.errors import DataError, InputError, ModelError
from tfopt.keras2.core import Model, keras
from tfopt.models.transformers.build import bert, gpt2

TOKENS = 24
GOOD, BAD = ("fine", "happy", "great"), ("awful", "sad", "grim")
SUBJECTS = ("the film", "my day", "this song", "the weather here", "our long trip")


class Lesson(NamedTuple):
    """The same texts for both, the labels, and the teacher."""

    for_student: dict[str, np.ndarray]
    for_teacher: dict[str, np.ndarray]
    labels: np.ndarray
    teacher: Model


def word_pieces(folder: Path, texts: list[str]) -> str:
    words = sorted({word for text in texts for word in text.split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    return str(folder / "vocab.txt")


def byte_pairs(folder: Path) -> str:
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return str(folder / "vocab.json")


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("tokenizers")
    pairs = list(itertools.product(SUBJECTS, (*GOOD, *BAD)))
    texts = [f"{subject} was {word}" for subject, word in pairs]
    labels = np.array([int(word in GOOD) for _, word in pairs])
    encoded = [
        tfopt.tokenize(texts, tokenizer=name, max_tokens=TOKENS)
        for name in (word_pieces(folder, texts), byte_pairs(folder))
    ]
    keras.utils.set_random_seed(0)
    shapes = {"input_ids": (TOKENS,), "attention_mask": (TOKENS,)}
    small = {"layers": 1, "hidden": 32, "heads": 2, "dropout": 0.0}
    teacher = gpt2(shapes, 2, vocabulary=257, **small)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(keras.optimizers.Adam(5e-3), loss, metrics=["accuracy"])
    history = teacher.fit(encoded[1], labels, epochs=20, batch_size=10, verbose=0)
    assert history.history["accuracy"][-1] == 1.0
    return Lesson(*encoded, labels, teacher)


def student(lesson: Lesson, classes: int | None = 2) -> Model:
    keras.utils.set_random_seed(1)
    shapes = {"input_ids": (TOKENS,), "attention_mask": (TOKENS,)}
    size = int(lesson.for_student["input_ids"].max()) + 1
    return bert(shapes, classes, vocabulary=size, layers=1, hidden=16, heads=2, dropout=0.0)


def test_the_student_learns_from_logits_and_features(lesson: Lesson, tmp_path: Path) -> None:
    """No label is used: what the encoder knows, the decoder told it."""
    assert not np.array_equal(lesson.for_student["input_ids"], lesson.for_teacher["input_ids"])
    cache = tfopt.cache_teacher(
        lesson.teacher,
        lesson.for_student,
        tmp_path,
        teacher_inputs=lesson.for_teacher,
        features=["pooled"],
    )
    losses = [SoftTargets(temperature=2.0), CosineLoss("pooled", "pooled", projection=True)]
    model = student(lesson)
    distiller = tfopt.Distiller(student=model, losses=losses)
    distiller.compile(keras.optimizers.Adam(5e-3))
    distiller.fit(cache.dataset(10), epochs=25, verbose=0)
    said = model.predict(lesson.for_student, verbose=0).argmax(axis=1)
    assert (said == lesson.labels).mean() == 1.0
    again = tfopt.cache_teacher(
        lesson.teacher,
        lesson.for_student,
        tmp_path,
        teacher_inputs=lesson.for_teacher,
        features=["pooled"],
    )
    assert (cache.computed_rows, again.computed_rows) == (len(lesson.labels), 0)


def test_the_student_learns_how_likely_texts_are(lesson: Lesson, tmp_path: Path) -> None:
    shapes = {"input_ids": (TOKENS,), "attention_mask": (TOKENS,)}
    keras.utils.set_random_seed(2)
    decoder = gpt2(
        shapes, None, vocabulary=257, head="language_model", layers=1, hidden=32, heads=2
    )

    def likelihood(texts: Any) -> np.ndarray:
        found = tfopt.sequence_log_likelihood(decoder, **texts)
        return (found / texts["attention_mask"].sum(axis=1))[:, None]

    teacher = CallableTeacher(likelihood, key="untrained, nats a token")
    cache = tfopt.cache_teacher(
        teacher, lesson.for_student, tmp_path, teacher_inputs=lesson.for_teacher
    )
    model = student(lesson, classes=None)
    distiller = tfopt.Distiller(student=model, losses=SoftTargets(kind="numbers"))
    distiller.compile(keras.optimizers.Adam(1e-2))
    history = distiller.fit(cache.dataset(10), epochs=30, verbose=0).history["loss"]
    _, _, ((taught, _),) = next(iter(cache))
    (values,) = taught.values()
    assert -6.5 < values.min() < values.max() < -4.5  # ln 257 is 5.55
    assert history[-1] < 0.01 * history[0]


def test_rows_must_be_the_same_examples(lesson: Lesson, tmp_path: Path) -> None:
    fewer = {name: array[:-1] for name, array in lesson.for_teacher.items()}
    with pytest.raises(DataError, match="teacher_inputs has 29 rows, and the data 30"):
        tfopt.cache_teacher(lesson.teacher, lesson.for_student, tmp_path, teacher_inputs=fewer)


def test_views_would_change_one_side_alone(lesson: Lesson, tmp_path: Path) -> None:
    from tfopt.distillation import Views

    with pytest.raises(InputError, match="views change what the student reads"):
        tfopt.cache_teacher(
            lesson.teacher,
            lesson.for_student,
            tmp_path,
            teacher_inputs=lesson.for_teacher,
            views=Views(lambda row, seed: row),
        )


def test_tables_of_different_length_are_refused_from_python_too(lesson: Lesson) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = tfopt.Distiller(student=student(lesson), teacher=lesson.teacher)
    distiller.compile("adam", loss)
    with pytest.raises(ModelError, match=r"Student and teacher both read 'input_ids'.*257"):
        distiller.fit(lesson.for_teacher, lesson.labels, verbose=0)
