import re

from tfopt.reporting.html.tradeoff import tradeoff_panels
from tfopt.results import Baseline


def test_no_files_no_panels(make_run):
    assert tradeoff_panels(make_run(artifacts=())) == []


def test_files_without_latency_are_named(make_run, make_artifact):
    size, latency = tradeoff_panels(
        make_run(artifacts=[make_artifact(latency_ms=None)], baseline=Baseline(0.9, 1, 10, 9))
    )
    assert size.missing == ()
    assert latency.svg is None
    assert latency.missing == ("float32 (before)", "int8")


def test_two_files_of_one_precision_are_told_apart(make_run, make_artifact):
    artifacts = [make_artifact(path="a.tflite"), make_artifact(path="b.tflite")]
    panel = tradeoff_panels(make_run(artifacts=artifacts))[0]
    assert ">a.tflite<" in panel.svg
    assert ">b.tflite<" in panel.svg


def test_a_long_path_keeps_its_end(make_run, make_artifact):
    artifacts = [make_artifact(path="x" * 90 + name) for name in ("_1.tflite", "_2.tflite")]
    panel = tradeoff_panels(make_run(artifacts=artifacts))[0]
    assert re.search(r">\.\.\.x+_1\.tflite<", panel.svg)


def test_marks_and_labels_stay_inside(lenet_three):
    for panel in tradeoff_panels(lenet_three):
        for x in re.findall(r'(?:cx|x|x1|x2)="(-?[\d.]+)"', panel.svg):
            assert 0 <= float(x) <= 400
        for y in re.findall(r'(?:cy|y|y1|y2)="(-?[\d.]+)"', panel.svg):
            assert 0 <= float(y) <= 280


def test_no_baseline_no_gate_no_whisker(make_run):
    panel = tradeoff_panels(make_run(baseline=None))[0]
    assert "whisker" not in panel.svg
    assert 'class="gate"' not in panel.svg
    assert panel.svg.count("mark artifact") == 1


def test_the_title_speaks_the_numbers(lenet):
    panel = tradeoff_panels(lenet)[0]
    assert "accuracy by size. float32 (before): 0.989 at 1.6M; int8: 0.987 at 17.8k" in panel.svg
