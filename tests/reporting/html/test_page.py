import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from tfopt.evaluation.metrics import MeanSquaredError
from tfopt.reporting.html.page import render_report
from tfopt.results import (
    Artifact,
    Baseline,
    LayerDecision,
    RankChange,
    RunResult,
    StageResult,
    WeightHistogram,
    run_result_from_json,
)

VOID = {"meta", "wbr", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Collects text, ids and attributes, and checks that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            self.attributes.append((tag, key, value or ""))
            if key == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def checked(html: str) -> Page:
    """Return the parsed page after checking what must hold for every report."""
    page = Page(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), "ids must be unique in the page"
    assert "script" not in page.tags
    for _, key, value in page.attributes:
        assert key not in {"src", "href"}, "the page must need no network"
        assert "url(" not in value
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        root = ElementTree.fromstring(svg)
        label = root.get("aria-labelledby")
        assert root[0].tag == "title"
        assert root[0].get("id") == label
        assert root[0].text
        assert not re.search(r"\b(nan|inf|None)\b", svg)
    for tag, key, value in page.attributes:
        if tag == "th":
            assert (key, value) in {("scope", "col"), ("scope", "row")} or key == "class"
    return page


def rendered(result: RunResult, **options) -> Page:
    return checked(render_report(result, **options))


def test_a_full_report_says_what_was_reached_first(lenet, histograms):
    page = rendered(lenet, histograms=histograms, recipe_yaml="name: lenet5-mnist\n")
    first = page.text.index("PASS")
    assert page.text.index("97× smaller after gzip (1,727,588 → 17,800 bytes)") > first
    assert "accuracy 98.9% → 98.7% (drop 0.2 points, 95% interval −0.3 to 0.7)" in page.text
    assert "gate 0.5 points" in page.text
    assert "tfopt run configs/lenet5_mnist.yaml --set seed=7" in page.text
    assert "name: lenet5-mnist" in page.text
    assert "x86_64, AVX512-VNNI" in page.text
    assert "0.0613 / 0.0688 ms" in page.text
    assert "1 thread, 200 runs, 20 warm-up" in page.text


def test_a_full_report_has_every_plot(lenet, histograms):
    html = render_report(lenet, histograms=histograms)
    # Two trade-off panels, four histograms; loss, accuracy and rate of four stages.
    assert html.count("<svg") == 2 + 4 + 3 * 4
    assert html.count('class="line validation"') == 2 * 4
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_every_artifact_and_the_baseline_are_labelled_in_the_plots(lenet_three):
    html = render_report(lenet_three)
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)[:2]:
        labels = re.findall(r'<text class="label[^"]*"[^>]*>([^<]+)', svg)
        assert sorted(labels) == ["float16", "float32 (before)", "int16x8", "int8"]
        assert svg.count('class="gate"') == 1
        # A whisker is a stem and two ends; the baseline has none.
        assert svg.count('class="whisker"') == 3 * 3


def test_a_missed_gate_names_the_file_and_what_stayed_float(lenet_three):
    page = rendered(lenet_three)
    assert "GATE MISSED: export/lenet5-mnist_int16x8.tflite 90× smaller" in page.text
    assert "met by 2 of 3 files" in page.text
    assert "gate missed" in page.text
    worth_knowing = page.text[page.text.index("Worth knowing") : page.text.index("Before and")]
    assert "operator left in floating point: SOFTMAX (StatefulPartitionedCall:0)" in worth_knowing
    assert "int16x8 runs on reference kernels here" in worth_knowing


def test_float_operators_of_a_float_file_are_no_news(make_run, make_artifact):
    artifact = make_artifact(precision="float16", float_ops=("CONV_2D (a:0)",))
    assert "Worth knowing" not in rendered(make_run(artifacts=[artifact])).text


def test_layers_left_in_float_share_a_line_by_reason(make_run):
    layers = [
        LayerDecision(f"prelu_{index}", "PReLU", False, "tfmot does not take PReLU")
        for index in range(9)
    ]
    page = rendered(make_run(stages=[StageResult("quantize", 0.9, 1.0, layers=layers)]))
    worth_knowing = page.text[page.text.index("Worth knowing") : page.text.index("Before and")]
    assert worth_knowing.count("left in floating point: tfmot does not take PReLU") == 1
    assert "prelu_5 (PReLU) and 3 more" in worth_knowing
    assert page.text.count("skipped tfmot does not take PReLU") == 9


def test_an_error_metric_reads_in_its_own_direction(make_run, make_artifact):
    result = make_run(
        metric=MeanSquaredError().info(77),
        baseline=Baseline(0.0123, 1000, 40_000, 30_000),
        stages=[StageResult("train", 0.0123, 3.0)],
        artifacts=[make_artifact(metric=0.0131, drop=0.0008, drop_ci95=(0.0001, 0.0015))],
        max_drop=0.001,
    )
    page = rendered(result)
    assert "mean squared error 0.0123 → 0.0131 (worse by 0.0008" in page.text
    assert "gate 0.001" in page.text
    assert "lower is better" in page.text
    assert "points" not in page.text
    # The gate line lies above the baseline: the larger error is the limit.
    svg = re.search(r"<svg.*?</svg>", render_report(result), flags=re.DOTALL)[0]
    gate_y = float(re.search(r'class="gate"[^>]*y1="([\d.]+)"', svg)[1])
    square_y = float(re.search(r'class="mark baseline"[^>]* y="([\d.]+)"', svg)[1])
    assert gate_y < square_y


def test_a_failed_run_names_stage_and_error(make_run, make_artifact):
    result = make_run(
        status="failed", artifacts=(), error="dense1 has 12% zeros\nsecond", failed_stage="prune"
    )
    page = rendered(result)
    assert "FAILED at stage prune" in page.text
    assert "dense1 has 12% zeros" in page.text
    assert "second" in page.text
    assert "No file was exported" not in page.text


def test_changes_of_an_elastic_run_are_told(make_run):
    changes = [
        RankChange("lost", "prune", 110, 92, 1, 0.54),
        RankChange("hosts changed", "prune", 120, 120, 3, 8.0),
    ]
    text = " ".join(rendered(make_run(rank_changes=changes)).text.split())
    assert "lost in prune after step 110; 1 process went on from step 92 after 0.5 s." in text
    assert "hosts changed in prune after step 120; 3 processes went on from step 120" in text


@pytest.mark.parametrize("status", ["ok", "gate_missed", "failed"])
def test_a_run_with_nothing_in_it_renders(status):
    page = rendered(RunResult("bare", status, {}, {}, ""))
    assert "No stage finished." in page.text
    assert "No file was exported" in page.text
    assert "The command was not recorded." in page.text


def test_everything_from_the_run_is_escaped(make_run, make_artifact, make_histogram):
    planted = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    histogram = make_histogram("x", 50, 0.5)
    result = make_run(
        name=planted,
        status="failed",
        error=planted + "\n" + planted,
        command=planted,
        machine={planted: {planted: planted}},
        versions={planted: planted},
        artifacts=[
            make_artifact(path=planted, precision=planted, notes=(planted,), input_types=(planted,))
        ],
        stages=[
            StageResult(
                planted,
                0.9,
                1.0,
                {planted: planted, "nested": {planted: [planted]}},
                [LayerDecision(planted, planted, True, planted, {planted: 1.0})],
                (planted,),
                {planted: [0.1, 0.2]},
            )
        ],
    )
    named = WeightHistogram(planted, histogram.edges, histogram.before, histogram.after)
    page = rendered(result, histograms=[named], recipe_yaml=planted)
    assert "{{ 7*7 }}" in page.text
    assert page.text.count("alert(1)") > 15


def test_nan_and_null_read_as_not_available(make_run, make_artifact):
    nan = math.nan
    result = make_run(
        baseline=Baseline(nan, 10),
        stages=[
            StageResult(
                "train",
                nan,
                nan,
                {"zero_fraction": nan, "worst": None},
                [LayerDecision("a", "Dense", True, "done", {"zero_fraction": nan})],
                (),
                {"loss": [nan, nan], "accuracy": [None, 0.5, nan, 0.6, 0.7], "val_accuracy": []},
            )
        ],
        artifacts=[
            make_artifact(
                metric=nan, drop=nan, drop_ci95=(nan, nan), max_abs_error=nan, int8_op_fraction=nan
            )
        ],
    )
    for version in (result, run_result_from_json(result.to_json())):
        page = rendered(version)
        assert "accuracy not measured" in page.text
        assert "No value was finite." in page.text
        assert "nan" not in page.text.lower().split()
        assert "Not measured: float32 (before), int8." in page.text


def test_one_epoch_is_a_dot(make_run):
    result = make_run(stages=[StageResult("train", 0.9, 1.0, history={"loss": [0.3]})])
    html = render_report(result)
    checked(html)
    assert 'class="dot train"' in html
    assert 'class="line train"' not in html
    assert "1 epoch<" in html


def test_no_epochs_have_no_curves(make_run):
    stage = StageResult("quantize", 0.9, 1.0, history={"loss": [], "accuracy": []})
    assert "Training" not in rendered(make_run(stages=[stage])).text


def test_two_hundred_layers_with_long_names_render_small(make_run, make_histogram):
    names = [f"block_{index}_" + "expand_relu_" * 12 for index in range(200)]
    layers = [LayerDecision(name, "Conv2D", True, "int8 weights") for name in names]
    histograms = [make_histogram(name, 3000, 0.5) for name in names[:60]]
    html = render_report(
        make_run(stages=[StageResult("quantize", 0.9, 9.0, layers=layers)]), histograms=histograms
    )
    checked(html)
    assert html.count("int8 weights") >= 200
    assert len(html) < 1_500_000


@pytest.mark.parametrize(
    "changes",
    [
        {"edges": [], "before": [], "after": []},
        {"edges": [0.0], "before": [], "after": []},
        {"edges": [0.0, math.nan], "before": [1], "after": [1]},
        {"edges": [0.0, 1.0], "before": [1, 2], "after": [1]},
        {"edges": [1.0, 0.0], "before": [1], "after": [1]},
        {"edges": [0.0, 0.0, 0.0], "before": [1, 1], "after": [1, 1]},
    ],
)
def test_counts_that_cannot_be_drawn_say_so(lenet, changes):
    page = rendered(lenet, histograms=[WeightHistogram(layer="a", **changes)])
    assert "The counts cannot be drawn" in page.text


def test_a_layer_of_zeros_only_has_its_bar(lenet):
    histogram = WeightHistogram("dead", [-1.0, 1.0], [10], [10], 0.0, 1.0, 9, 1)
    html = render_report(lenet, histograms=[histogram])
    page = checked(html)
    assert "0.0% → 100.0%" in page.text
    assert html.count('class="bar after"') == 1


def test_five_hundred_bins_are_merged(lenet, make_histogram):
    edges = np.linspace(-1, 1, 501).tolist()
    histogram = WeightHistogram("wide", edges, [1] * 500, [2] * 500)
    html = render_report(lenet, histograms=[histogram])
    bars = re.search(r'class="bar before" d="([^"]+)"', html)[1]
    assert 50 <= bars.count("M") <= 64


def test_identical_points_get_labels_of_their_own(make_run, make_artifact):
    artifacts = [make_artifact(path=f"export/{index}.tflite") for index in range(12)]
    svg = re.search(r"<svg.*?</svg>", render_report(make_run(artifacts=artifacts)), re.DOTALL)[0]
    places = re.findall(r'<text class="label[^"]*" x="([\d.]+)" y="([\d.]+)"', svg)
    assert len(places) == 13
    assert len(set(places)) == 13


def test_a_path_that_is_not_utf8_can_be_written(make_run, tmp_path):
    html = render_report(make_run(command="tfopt run caf\udce9.yaml"))
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    assert "caf?.yaml" in html


def test_numpy_numbers_render(make_run):
    evidence = {"zero_fraction": np.float32(0.5), "count": np.int64(12), "flag": True}
    page = rendered(make_run(stages=[StageResult("prune", np.float64(0.5), 1.0, evidence)]))
    assert "zero fraction 50.0%" in page.text
    assert "count 12" in page.text
    assert "flag yes" in page.text


def test_a_file_larger_than_the_float_model_says_larger(make_run, make_artifact):
    artifact = make_artifact(bytes=4_000_000, gzip_bytes=3_600_000)
    page = rendered(make_run(artifacts=[artifact]))
    assert "2.0× larger after gzip" in page.text
    assert "smaller after gzip" not in page.text


def test_an_empty_file_renders(make_run):
    page = rendered(make_run(artifacts=[Artifact("a.tflite", "litert", "int8", 0, 0)]))
    assert "n/a after gzip (1,727,588 → 0 bytes)" in page.text
