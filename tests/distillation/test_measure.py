"""What a lesson must show at its end, and the failures that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Recipe
from tfopt.distillation import measure
from tfopt.distillation.agreement import Beside
from tfopt.distillation.step import make_lesson
from tfopt.errors import VerificationError
from tfopt.keras2.core import keras
from tfopt.pipeline.runner import RunOptions, prepare, run_recipe
from tfopt.reporting.console import make_reporter
from tfopt.results import RunResult, StageResult

MakeRecipe = Callable[..., Recipe]


def run(recipe: Recipe, folder: Path) -> RunResult:
    return run_recipe(recipe, RunOptions(folder), make_reporter(quiet=True))


def taught(recipe: Recipe, folder: Path) -> StageResult:
    return next(stage for stage in run(recipe, folder).stages if stage.name == "distill")


def test_a_lesson_leaves_its_evidence(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe({"initialize": "teacher"})
    found = run(recipe, tmp_path / "run")
    train, distill = found.stages
    facts = distill.evidence
    assert facts["parameters_before"] == found.baseline.parameters == 50_610  # type: ignore[union-attr]
    assert facts["parameters"] == 3_090
    assert facts["parameter_ratio"] == pytest.approx(50_610 / 3_090, abs=1e-3)
    assert facts["teacher_metric"] == pytest.approx(train.metric)
    assert 0.3 < facts["agreement_fraction"] <= 1
    assert facts["chance_fraction"] < 0.2
    assert (facts["teacher_rows"], facts["teacher_rows_saved"]) == (2 * 256, 0)
    assert (facts["copied_layers"], facts["copied_fraction"]) == (1, pytest.approx(1010 / 3090))
    layers = {entry.layer: entry for entry in distill.layers}
    assert list(layers) == ["dense1", "dense2", "output"]
    assert layers["output"].reason == "starts as in the teacher"
    assert layers["dense1"].values["relative_change"] > 0
    assert any(
        note.startswith("dense1 starts fresh: its weights are 64x12") for note in distill.notes
    )
    assert {"loss", "student_loss", "soft_targets", "accuracy"} <= set(distill.history)
    assert list((tmp_path / "run" / "logs" / "01-distill").iterdir())
    saved = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert saved.count_params() == 3_090


def test_the_cache_spares_the_teacher_and_changes_nothing(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    live = taught(make_recipe(), tmp_path / "live")
    cached = taught(make_recipe({"cache": True}), tmp_path / "cached")
    assert cached.evidence["teacher_rows"] == cached.evidence["teacher_rows_saved"] == 256
    assert cached.history["soft_targets"] == pytest.approx(live.history["soft_targets"], rel=1e-4)
    assert cached.metric == pytest.approx(live.metric, abs=0.01)
    assert list((tmp_path / "cached" / "teacher").rglob("*.shard"))


def test_versions_of_augmented_rows(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    data = {"source": "digits", "limit": 256, "batch_size": 16, "augment": {"shift": 0.05}}
    settings = {"cache": "float16", "augment_views": 3}
    stage = taught(make_recipe(settings, data=data), tmp_path / "run")
    assert stage.evidence["teacher_rows"] == 3 * 256
    assert stage.evidence["teacher_rows_saved"] == -256
    assert any("on 256 rows more than training without" in note for note in stage.notes)


def test_probabilities_are_taught_by_logits(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    student = {"builder": "builders_of_students:small", "arguments": {"ending": "softmax"}}
    recipe = make_recipe({"student": student})
    assert taught(recipe, tmp_path / "run").evidence["agreement_fraction"] > 0.3


def test_several_teachers_and_a_larger_student(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    prepared = prepare(make_recipe())
    bias = prepared.model.get_layer("output").bias
    bias.assign(np.eye(10)[3] * 1e3)  # always the same class, which proves nothing
    prepared.model.save(tmp_path / "second.keras")
    student = {"builder": "builders_of_students:small", "arguments": {"width": 600}}
    teachers = [{"weight": 30}, {"path": "second.keras"}]
    recipe = make_recipe({"student": student, "teacher": teachers}, train={"epochs": 3})
    stage = taught(recipe, tmp_path / "run")
    assert {"teacher_0_metric", "teacher_1_metric", "agreement_fraction_1"} <= set(stage.evidence)
    assert any("so nothing became smaller" in note for note in stage.notes)


@pytest.fixture
def lesson(make_recipe: MakeRecipe) -> Any:
    recipe = make_recipe()
    prepared = prepare(recipe)
    assert prepared.student is not None
    settings = recipe.steps[0].distill
    assert settings is not None
    made = make_lesson(settings, prepared.student, prepared.model, prepared.data.train)
    return made, prepared.data, recipe.data.augment


def measured(lesson: Any, change: Callable[[Any], None]) -> Any:
    made, data, augment = lesson
    start = measure.start_of(made)
    change(made)
    return measure.measure(
        made, start, train=data.train, evaluation=data.evaluation, augment=augment
    )


def test_a_student_that_did_not_move_is_a_failure(lesson: Any) -> None:
    with pytest.raises(VerificationError, match="No weight of the student 'small' changed"):
        measured(lesson, lambda made: None)


def test_a_teacher_that_moved_is_a_failure(lesson: Any) -> None:
    def move(made: Any) -> None:
        made.incoming.get_layer("output").bias.assign_add(tf.ones(10))

    with pytest.raises(VerificationError, match="weights of the teacher 'lenet300' changed"):
        measured(lesson, move)


def test_a_collapsed_student_is_a_failure(lesson: Any) -> None:
    def collapse(made: Any) -> None:
        made.twin.get_layer("output").bias.assign(np.eye(10)[3] * 1e4)

    with pytest.raises(VerificationError, match="agrees with the teacher .* chance alone"):
        measured(lesson, collapse)


def test_the_teachers_metric_is_that_of_the_recipe(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(metric="macro_f1")
    found = run_recipe(recipe, RunOptions(tmp_path / "run"), make_reporter(quiet=True))
    train, distill = found.stages
    assert distill.evidence["teacher_metric"] == pytest.approx(train.metric)


def test_weights_that_are_lost_are_a_failure(lesson: Any) -> None:
    def lose(made: Any) -> None:
        made.twin.get_layer("dense2").bias.assign(np.full(100, np.nan))

    with pytest.raises(VerificationError, match="Layer 'dense2' .* not finite"):
        measured(lesson, lose)


def test_a_layer_that_stays_is_noted(lesson: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def move_two(made: Any) -> None:
        for name in ("dense2", "output"):
            bias = made.twin.get_layer(name).bias
            bias.assign_add(np.full(bias.shape, 1e-6))

    monkeypatch.setattr(measure, "_require_agreement", lambda found: [])
    found = measured(lesson, move_two)
    assert "did not move while it was taught: dense1" in found.notes


@pytest.mark.parametrize(("agreement", "fails"), [(0.12, True), (0.3, False)])
def test_chance_is_told_from_agreement(agreement: float, fails: bool) -> None:
    one = Beside(0, "teacher", 0.9, agreement=agreement, chance=0.1, choices=100)
    if not fails:
        assert measure._require_agreement([one]) == []
        return
    with pytest.raises(VerificationError, match="12.0% of 100 choices, and chance .* 10.0%"):
        measure._require_agreement([one])


def test_one_of_several_teachers_may_be_outvoted() -> None:
    lost = Beside(1, "teacher 'weak'", 0.1, agreement=0.1, chance=0.1, choices=100)
    heard = Beside(0, "teacher", 0.9, agreement=0.8, chance=0.1, choices=100)
    notes = measure._require_agreement([heard, lost])
    assert notes == [
        "the student agrees with the teacher 'weak' (number 1) on 10.0% of 100 choices, and "
        "chance alone would give 10.0%"
    ]
    constant = Beside(2, "t", 0.1, agreement=0.5, chance=0.5, choices=9, is_constant=True)
    with pytest.raises(VerificationError, match="'weak' on 10.0% of 100 choices"):
        measure._require_agreement([constant, lost])


def test_a_constant_teacher_proves_nothing() -> None:
    constant = Beside(0, "t", 0.1, agreement=0.5, chance=0.5, choices=9, is_constant=True)
    [note] = measure._require_agreement([constant])
    assert note.startswith("the t says the same class on every row")
