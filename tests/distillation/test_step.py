"""Whether student and teachers fit, and what is refused before anything trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.config.distill import Teach
from tfopt.config.schema import Recipe
from tfopt.data.arrays import ArraySplit
from tfopt.data.text.batches import TokenSplit
from tfopt.distillation.cached_dataset import rows_in_memory
from tfopt.distillation.step import beside_teacher, make_lesson
from tfopt.distillation.student import Student
from tfopt.distillation.vocabulary import require_same_vocabulary
from tfopt.errors import DataError, InputError, ModelError, TfoptError
from tfopt.keras2.core import Model, keras
from tfopt.pipeline.runner import RunOptions, prepare, run_recipe
from tfopt.reporting.console import make_reporter

L = keras.layers
MakeRecipe = Callable[..., Recipe]
HIDDEN = {"student": "dense1", "teacher": "dense1"}


def of_units(units: int) -> dict[str, Any]:
    return {"builder": "builders_of_students:of_units", "arguments": {"units": units}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "layer of the student": (
        {"losses": [{"hidden": {"student": "dens1", "teacher": "dense1"}}]},
        "The student .* has no layer 'dens1'. Did you mean 'dense1'",
    ),
    "layer of the teacher": (
        {"losses": [{"hidden": {"student": "dense1", "teacher": "convolution"}}]},
        "The teacher 'lenet300' has no layer 'convolution'.*It has: image, flatten",
    ),
    "widths": ({"losses": [{"hidden": HIDDEN}]}, r"has shape \(rows, 12\).*\(rows, 300\).*project"),
    "attention of rows": ({"losses": [{"attention": HIDDEN}]}, "need the same positions"),
    "teacher number": (
        {"losses": [{"hidden": {**HIDDEN, "of_teacher": 1}}]},
        "asks for teacher 1, but there are 1",
    ),
    "two of one name": (
        {"losses": ["soft_targets", {"soft_targets": {"temperature": 2}}]},
        "The name 'soft_targets' of a distillation loss is taken",
    ),
    "class count": (
        {"student": of_units(9)},
        "9 outputs, but the labels have 10 classes",
    ),
    "more classes": (
        {"student": of_units(12)},
        r"has shape \(rows, 12\), but output .* has \(rows, 10\)",
    ),
    "no layer alike": (
        {"student": of_units(10), "initialize": "teacher"},
        "shares no layer with the teacher 'lenet300'",
    ),
    "views without augmentation": (
        {"cache": True, "augment_views": 3},
        "augment_views are versions of augmented rows",
    ),
    "mask": ({"mask": "attention_mask"}, "There is no input 'attention_mask'"),
    "argument": (
        {"student": {"builder": "lenet300", "arguments": {"width": 3}}},
        "does not take model.arguments.width",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_training(name: str, make_recipe: MakeRecipe) -> None:
    changed, message = REFUSED[name]
    with pytest.raises(TfoptError, match=message):
        prepare(make_recipe(changed))


def test_a_teacher_file_of_other_classes_is_refused(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(3)]).save(tmp_path / "t.keras")
    with pytest.raises(ModelError, match=r"\(rows, 10\), but output .* has \(rows, 3\)"):
        prepare(make_recipe({"teacher": {"path": "t.keras"}}))


def text_model(words: int, width: int = 4, name: str = "words") -> Model:
    tokens = keras.Input((6,), dtype="int32", name="input_ids")
    mask = keras.Input((6,), dtype="int32", name="attention_mask")
    x = L.Embedding(words, width, name="word_embeddings")(tokens)
    x = L.Dense(width, name="mixed")(x * L.Reshape((6, 1))(tf_float(mask)))
    x = L.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model([tokens, mask], L.Dense(3, name="classifier")(x), name=name)


def tf_float(tensor: Any) -> Any:
    return L.Rescaling(1.0, dtype="float32")(tensor)


def test_tables_of_words_must_have_one_length() -> None:
    require_same_vocabulary(text_model(50), text_model(50, 8))
    with pytest.raises(ModelError, match="'input_ids', but .* has 50 tokens and .* 60.*tokenizers"):
        require_same_vocabulary(text_model(50), text_model(60))


def test_a_random_students_weights_do_not_depend_on_what_ran_before(
    make_recipe: MakeRecipe,
) -> None:
    one = prepare(make_recipe({"student": None}))
    keras.utils.set_random_seed(99)
    two = prepare(make_recipe({"student": None}))
    assert one.student is not None
    assert two.student is not None
    assert one.student.is_born_again
    first, second = one.student.model.get_weights(), two.student.model.get_weights()
    for ours, theirs, teacher in zip(first, second, one.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.ndim == 1 or not np.array_equal(ours, teacher)


def test_rows_that_change_are_not_cached() -> None:
    import tensorflow as tf

    from tfopt.data.split import split_from

    rows = tf.data.Dataset.from_tensor_slices(np.arange(64, dtype=np.float32)[:, None])
    shuffled = split_from(rows.shuffle(64).batch(8), what="my data")
    with pytest.raises(DataError, match="my data: the pipeline gives other rows each time"):
        rows_in_memory(shuffled)
    stable = split_from(rows.batch(8), what="my data")
    assert rows_in_memory(stable).examples == 64
    arrays = ArraySplit(np.zeros((4, 2**20), np.float32))
    assert rows_in_memory(arrays) is arrays
    with pytest.raises(DataError, match="200 version.* take 3.1 GB .* 2 GB are the limit"):
        rows_in_memory(arrays, views=200)


def test_a_mask_of_the_data_is_used(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    prepared = prepare(recipe)
    settings = recipe.steps[0].distill
    assert settings is not None
    assert prepared.student is not None
    text = {name: np.ones((4, 6), np.int32) for name in ("input_ids", "attention_mask")}
    lesson = make_lesson(settings, prepared.student, prepared.model, ArraySplit(text))
    assert lesson.mask == "attention_mask"
    pictures = make_lesson(settings, prepared.student, prepared.model, prepared.data.train)
    assert pictures.mask is None


def test_errors_of_files_come_from_the_recipe(make_recipe: MakeRecipe) -> None:
    with pytest.raises(InputError) as caught:
        make_recipe(
            {
                "student": {"builder": "lenet6"},
                "teacher": [{"path": "nosuch.keras"}, {"path": "builders_of_students.py"}],
            }
        )
    text = str(caught.value)
    assert "steps[0].distill.student.builder 'lenet6' is not known. Did you mean 'lenet5'?" in text
    assert "steps[0].distill.teacher[0].path 'nosuch.keras' does not exist" in text


def test_the_float_model_teaches_pruned_and_clustered_ones(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    steps = [
        {"prune": {"sparsity": 0.5, "epochs": 1, "teacher": {"alpha": 0}}},
        {"cluster": {"clusters": 8, "epochs": 1, "teacher": {"temperature": 2}}},
    ]
    changed = {
        "data": {"source": "digits", "limit": 64, "batch_size": 16},
        "model": {"builder": "builders_of_students:small"},
        "train": {"epochs": 1},
    }
    recipe = make_recipe(steps=steps, **changed)
    found = run_recipe(recipe, RunOptions(tmp_path / "run"), make_reporter(quiet=True))
    _, prune, cluster = found.stages
    for stage in (prune, cluster):
        assert {"student_loss", "soft_targets"} <= set(stage.history)
    # Labels have no part in the loss where alpha is 0.
    assert prune.history["loss"] == pytest.approx(prune.history["soft_targets"], rel=1e-5)
    assert prune.evidence["zero_fraction"] >= 0.499
    assert cluster.evidence["unique_values_max"] <= 8


def test_padding_teaches_a_compressed_model_nothing() -> None:
    def tagger(name: str) -> Model:
        model = text_model(50, name=name)
        return keras.Model(model.inputs, L.Dense(3)(model.get_layer("mixed").output), name=name)

    teacher, student = tagger("teacher"), tagger("student")
    mask = np.array([[1, 1, 0, 0, 0, 0]], np.int32)
    losses = []
    for padding in (0, 49):
        ids = np.array([[3, 4, *[padding] * 4]], np.int32)
        make = beside_teacher(teacher, Teach(alpha=0), total_steps=1, mask="attention_mask")
        assert make is not None
        lesson = make(student)
        lesson.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x = {"input_ids": ids, "attention_mask": mask}
        losses.append(lesson.evaluate(x, np.zeros((1, 6)), verbose=0, return_dict=True))
    assert losses[0]["soft_targets"] == pytest.approx(losses[1]["soft_targets"], rel=1e-6)


def test_a_teacher_of_one_length_is_refused_for_batches_of_several(make_recipe: MakeRecipe) -> None:
    inputs = {name: np.ones((4, 6), np.int32) for name in ("input_ids", "attention_mask")}
    split = TokenSplit(inputs, np.zeros(4, np.int64), lengths=(3, 6))
    student = Student(text_model(50), Any, is_born_again=False)  # type: ignore[arg-type]  # not looked at
    settings = make_recipe().steps[0].distill
    assert settings is not None
    with pytest.raises(DataError, match="'input_ids' of model 'words' takes rows of 6 alone"):
        make_lesson(settings, student, text_model(50), split)
    cached = settings.model_copy(update={"cache": True})
    assert make_lesson(cached, student, text_model(50), split).mask == "attention_mask"
