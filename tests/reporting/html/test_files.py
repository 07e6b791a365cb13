import json

import pytest

from tfopt.errors import InputError
from tfopt.reporting.html.files import report_from_run_dir
from tfopt.results import to_json, weight_histograms_from_json


@pytest.fixture
def run_dir(tmp_path, lenet, histograms):
    (tmp_path / "results.json").write_text(lenet.to_json())
    (tmp_path / "weights.json").write_text(to_json(histograms))
    (tmp_path / "recipe.yaml").write_text("name: lenet5-mnist\n")
    return tmp_path


def test_a_run_folder_becomes_the_same_page(run_dir, lenet, histograms):
    from tfopt.reporting.html.page import render_report

    expected = render_report(lenet, histograms=histograms, recipe_yaml="name: lenet5-mnist\n")
    assert report_from_run_dir(run_dir) == expected


def test_weights_and_recipe_are_optional(run_dir):
    (run_dir / "weights.json").unlink()
    (run_dir / "recipe.yaml").unlink()
    page = report_from_run_dir(run_dir)
    assert "PASS" in page
    assert "Weights by layer" not in page
    assert "The resolved recipe" not in page


def test_histograms_survive_json(histograms):
    assert weight_histograms_from_json(to_json(histograms)) == histograms


def test_a_missing_folder_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match=r"'.*nowhere' does not exist. Give the folder that"):
        report_from_run_dir(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder(run_dir):
    with pytest.raises(InputError, match=r"results.json' is a file. Give the folder"):
        report_from_run_dir(run_dir / "results.json")


def test_an_unfinished_run_names_resume(tmp_path):
    with pytest.raises(InputError, match=r"no results.json.*--resume"):
        report_from_run_dir(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": 2}',
        '{"schema": 1}',
        '{"schema": 1, "stages": 3}',
        '{"schema": 1, "stages": ["x"]}',
        '{"schema": 1, "artifacts": [{"path": "x"}]}',
        "\x00\x01",
    ],
)
def test_damaged_results_are_named(run_dir, text):
    (run_dir / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"results.json' is damaged, or of another version"):
        report_from_run_dir(run_dir)


def test_results_that_are_not_text(run_dir):
    (run_dir / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"results.json' cannot be read"):
        report_from_run_dir(run_dir)


def test_a_number_of_the_wrong_kind_is_named(run_dir):
    raw = json.loads((run_dir / "results.json").read_text())
    raw["artifacts"][0]["bytes"] = "many"
    (run_dir / "results.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"holds a value of the wrong kind"):
        report_from_run_dir(run_dir)


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"layer": "a"}]', "not json"])
def test_damaged_weights_are_named(run_dir, text):
    (run_dir / "weights.json").write_text(text)
    with pytest.raises(InputError, match=r"weights.json' is damaged"):
        report_from_run_dir(run_dir)
