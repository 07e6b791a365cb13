import math

from tfopt.reporting.html.curves import stage_curves
from tfopt.results import StageResult


def curves_of(history):
    return stage_curves(StageResult("prune", 0.9, 1.0, history=history), plot_id="c")


def test_validation_joins_its_training_curve():
    found = curves_of({"loss": [2, 1], "val_accuracy": [0.1, 0.2], "accuracy": [0, 1]})
    assert [(curve.title, curve.has_validation) for curve in found] == [
        ("loss", False),
        ("accuracy", True),
    ]
    assert found[1].svg.count('class="line') == 2


def test_validation_alone_is_drawn():
    (curve,) = curves_of({"val_loss": [1.0, 0.5]})
    assert curve.title == "loss"
    assert 'class="line validation"' in curve.svg
    assert "train" not in curve.svg.replace("training", "")


def test_a_missing_epoch_breaks_the_line():
    (curve,) = curves_of({"loss": [1.0, 0.9, None, 0.7, math.nan, 0.5, 0.4]})
    assert curve.svg.count('class="line train"') == 2
    assert curve.svg.count('class="dot train"') == 1


def test_ids_differ_between_the_plots_of_a_stage():
    first, second = curves_of({"loss": [1, 2], "learning_rate": [1, 2]})
    assert 'id="c-0-title"' in first.svg
    assert 'id="c-1-title"' in second.svg


def test_epoch_ticks_are_whole_and_inside():
    import re

    (curve,) = curves_of({"loss": [1.0, 0.5]})
    ticks = re.findall(r'class="tick middle"[^>]*>(\d+)<', curve.svg)
    assert ticks == ["1", "2"]


def test_diverged_loss_is_drawn_up_to_the_end():
    (curve,) = curves_of({"loss": [1.0, 1e30, math.inf]})
    assert "inf" not in curve.svg
    assert curve.svg.count('class="line train"') == 1
