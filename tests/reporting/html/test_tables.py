import math

from tfopt.evaluation.metrics import MeanAbsoluteError
from tfopt.reporting.html.tables import (
    SpreadRow,
    evidence_rows,
    file_rows,
    layer_table,
    remarks,
    spread_rows,
    stage_rows,
)
from tfopt.results import Baseline, LayerDecision, StageResult


def test_factors_compare_like_with_like(lenet):
    baseline, artifact = file_rows(lenet)
    assert baseline.size == ("1,727,588", "")
    assert artifact.size == ("441,912", "3.9×")
    assert artifact.gzip == ("17,800", "89×")
    assert artifact.smaller == "97×"


def test_drop_interval_and_gate(lenet_three):
    rows = {row.precision: row for row in file_rows(lenet_three)}
    assert rows["int8"].drop == ("0.2 points", "-0.3 to 0.7")
    assert [rows[name].gate for name in ("int8", "float16", "int16x8")] == ["met", "met", "missed"]


def test_without_gate_no_file_is_judged(make_run):
    assert [row.gate for row in file_rows(make_run(max_drop=None))] == ["", ""]


def test_types_of_many_inputs_are_listed_once(make_run, make_artifact):
    artifact = make_artifact(input_types=("float32",) * 3 + ("int32",), output_types=())
    assert file_rows(make_run(artifacts=[artifact]))[1].types == "float32, int32 → n/a"


def test_stage_change_keeps_the_metrics_sign(make_run):
    changes = [row.change for row in stage_rows(make_run())]
    assert changes == ["0.0 points", "-0.1 points", "-0.3 points", "-0.2 points"]
    better = make_run(
        metric=MeanAbsoluteError().info(5),
        baseline=Baseline(0.5, 1),
        stages=[StageResult("prune", 0.6, 1.0), StageResult("cluster", math.nan, math.nan)],
    )
    assert [row.change for row in stage_rows(better)] == ["+0.1", ""]
    assert stage_rows(better)[1].seconds == "n/a"


def test_layers_that_a_step_does_not_know_stay_empty():
    dense = LayerDecision("dense", "Dense", True, "80% zeros")
    norm = LayerDecision("norm", "BatchNormalization", False, "has no kernel")
    stages = [
        StageResult("train", 0.9, 1.0),
        StageResult("prune", 0.9, 1.0, layers=[dense]),
        StageResult("quantize", 0.9, 1.0, layers=[dense, norm]),
    ]
    steps, rows = layer_table(stages)
    assert steps == ["prune", "quantize"]
    assert [(row.layer, row.kind, row.cells) for row in rows] == [
        ("dense", "Dense", (dense, dense)),
        ("norm", "BatchNormalization", (None, norm)),
    ]


def test_left_float_comes_before_notes_and_nothing_twice(lenet_three):
    found = remarks(lenet_three)
    assert "operator left in floating point" in found[0].text
    assert found[1].places == ("export/lenet5-mnist_int16x8.tflite",)
    assert len(found) == 2


def test_a_layer_skipped_by_pruning_is_no_remark(make_run):
    layers = [LayerDecision("norm", "BatchNormalization", False, "has no kernel")]
    assert remarks(make_run(stages=[StageResult("prune", 0.9, 1.0, layers=layers)])) == []


def test_nested_evidence_is_set_apart():
    numbers, nested = evidence_rows({"zero_fraction": 0.5, "ranges": {"a": [1, 2]}})
    assert numbers == [("zero fraction", "50.0%")]
    assert nested == [("ranges", '{"a": [1, 2]}')]


def test_stages_that_replicas_trained_together(make_run):
    spread = {"replicas": 2, "ranks_agree": True, "rows_per_second": 9150.4}
    waits = {"exchange_fraction": 0.3, "exchange_fraction_by_rank": [0.5, 0.1]}
    stages = [
        StageResult("train", 0.9, 1.0, {**spread, **waits, "scaling_efficiency": 0.643}),
        StageResult("prune", 0.9, 1.0, {"zero_fraction": 0.5, **spread}),
        StageResult("cluster", 0.9, 1.0),
    ]
    run = make_run(stages=stages)
    assert spread_rows(run) == [
        SpreadRow("train", "2", "9,150", "30.0%", "50.0%, 10.0%", "64.3%"),
        SpreadRow("prune", "2", "9,150", "n/a", "", "n/a"),
    ]
    assert [row.evidence for row in stage_rows(run)] == [
        (("ranks agree", "yes"),),
        (("zero fraction", "50.0%"), ("ranks agree", "yes")),
        (),
    ]
