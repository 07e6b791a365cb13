from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfopt.config.load import load_recipe, parse_recipe
from tfopt.errors import InputError, RecipeError
from tfopt.pipeline.plan import make_plan, print_plan

Run = Callable[..., Any]
BASE: dict[str, Any] = {
    "name": "planned",
    "data": {"source": "digits", "limit": 640, "batch_size": 64},
    "model": {"builder": "lenet300"},
    "train": {"epochs": 2},
}
BUILDER = """
import tf_keras as keras


def odd(input_shape, classes):
    image = keras.Input(input_shape)
    x = keras.layers.Flatten(name="flat")(image)
    x = keras.layers.Dense(16, name="first")(x)
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Lambda(lambda t: t * 2, name="double")(x)
    x = keras.layers.Dense(16, activation="relu", name="second")(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="out")(x))
"""


def planned(**changed: Any) -> Any:
    return make_plan(parse_recipe({**BASE, **changed}, origin="here"))


def text_of(plan: Any) -> str:
    stream = io.StringIO()
    print_plan(plan, stream=stream)
    return stream.getvalue()


def test_stages_in_steps_and_masks_on_schedule() -> None:
    plan = planned(steps=[{"prune": {"sparsity": 0.9, "epochs": 10}}, {"quantize": {"epochs": 0}}])
    assert [(stage.name, stage.epochs, stage.steps) for stage in plan.stages] == [
        ("train", 2, 20),
        ("prune", 10, 100),
        ("quantize", 0, 0),
    ]
    text = text_of(plan)
    assert "640 to train on, 359 to evaluate, loss cross_entropy, metric accuracy" in text
    assert "masks change from step 1 to step 60, every 1 step; the target is held for 40" in text
    assert (
        "prune: 10 epochs, 100 steps, adam, cosine learning rate from 0.001, to 90% zeros" in text
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pattern": "2:4"}, "the 2:4 mask is set at the first step and held for 20 steps"),
        ({"schedule": "constant", "begin": 0.5}, "masks are set from step 10; the target is held"),
    ],
)
def test_masks_that_are_set_at_once(settings: Any, words: str) -> None:
    plan = planned(steps=[{"prune": {"epochs": 2, **settings}}])
    assert plan.stages[1].masks.startswith(words)


@pytest.mark.parametrize(
    ("steps", "scheme", "words"),
    [
        (["quantize"], "QAT: no zeros", "8-bit kernel, one range"),
        (["prune", "quantize"], "PQAT: zeros", "8-bit kernel, one range, zeros kept"),
        (["cluster", "quantize"], "CQAT: shared values", "16 shared values kept"),
        (
            ["prune", {"cluster": {"clusters": 8}}, "quantize"],
            "PCQAT: zeros and shared values",
            "zeros kept, 8 shared values kept",
        ),
        (["prune", {"quantize": {"preserve": "none"}}], "QAT: no zeros", "8-bit kernel, one range"),
    ],
)
def test_quantization_says_what_the_steps_before_it_make_it(
    steps: Any, scheme: str, words: str
) -> None:
    plan = planned(steps=steps)
    assert any(note.startswith(f"quantize: {scheme}") for note in plan.notes)
    first = next(entry for entry in plan.decisions["quantize"] if entry.kind == "Dense")
    assert first.reason.endswith(words)


def test_sizes_for_each_export() -> None:
    steps = [{"prune": {"sparsity": 0.9}}, "cluster"]
    exports = [{"litert": {"precision": name}} for name in ("float32", "float16", "int8")]
    plan = planned(steps=steps, export=exports)
    assert [size.precision for size in plan.sizes] == ["float32", "float16", "int8"]
    weights = [size.bytes for size in plan.sizes]
    assert weights[0] > 1.9 * weights[1] > 1.9 * 1.9 * weights[2]
    assert all(size.gzip_bytes < 0.5 * size.bytes for size in plan.sizes)
    assert f"weights as float32: {plan.float_bytes:,} bytes" in text_of(plan)


def test_layers_that_a_step_cannot_change_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan_test_builder.py").write_text(BUILDER)
    steps = ["prune", "cluster", {"quantize": {"skip": ["second"]}}]
    plan = planned(model={"builder": "plan_test_builder:odd"}, steps=steps, export=["litert"])
    reasons = {
        (name, entry.layer): entry.reason
        for name, entries in plan.decisions.items()
        for entry in entries
        if not entry.done
    }
    assert "biases and norms are never pruned" in reasons["prune", "norm"]
    assert "biases and norms are never clustered" in reasons["cluster", "norm"]
    assert "LayerNormalization has no 8-bit training rule" in reasons["quantize", "norm"]
    assert "Lambda has no 8-bit training rule" in reasons["quantize", "double"]
    assert reasons["quantize", "second"] == "left out by skip"
    text = text_of(plan)
    assert "prune: norm (LayerNormalization) is not pruned: " in text
    assert "quantize: double (Lambda) stays float: " in text


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "pattern": (
        {"steps": [{"prune": {"layers": {"conv*": 0.5}}}]},
        r"prune.layers: the pattern 'conv\*' matches no layer",
    ),
    "skip": (
        {"steps": [{"quantize": {"skip": ["dens1"]}}]},
        "quantize.skip: the pattern 'dens1' matches no layer.*Did you mean 'dense1'",
    ),
    "clusters": ({"steps": [{"cluster": {"layers": {"dense1": 1}}}]}, "needs at least 2 values"),
    "builder": (
        {"model": {"builder": "lenet5", "arguments": {"unit": 3}}},
        "does not take model.arg",
    ),
    "validation": (
        {"data": {"source": "nosuchmodule:load"}, "train": {"keep": "best"}},
        "data source 'nosuchmodule:load' cannot be imported",
    ),
    "metric": ({"metric": "mean_squared_error"}, "does not fit labels that are classes"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_settings_are_errors(name: str) -> None:
    changed, message = IMPOSSIBLE[name]
    with pytest.raises((InputError, RecipeError), match=message):
        planned(**changed)


def test_the_verb_prints_the_plan_and_writes_nothing(
    tfopt: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: {source: digits}\nmodel: {builder: lenet300}\nsteps: [prune]\n"
    )
    found = tfopt("plan", "r.yaml", "--set", "steps.prune.sparsity=0.5")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("plan of r\n")
    assert "to 50% zeros" in found.out
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]
    failed = tfopt("plan", "r.yaml", "--set", "steps.prune.layers={zz: 0.5}")
    assert failed.code == 2
    assert failed.err.startswith("error: prune.layers: the pattern 'zz' matches no layer")


def test_the_forecast_is_near_a_real_run(tfopt: Run, tmp_path: Path) -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "lenet5_mnist.yaml"
    words = [str(config), "--set", "data.limit=200", "--set", "train.epochs=1"]
    for step in ("prune", "cluster", "quantize"):
        words += ["--set", f"steps.{step}.epochs=1"]
    predicted = make_plan(load_recipe(config)).sizes[0]
    assert tfopt("run", *words, "-o", tmp_path / "run", "-q").code in (0, 3)
    (artifact,) = json.loads((tmp_path / "run" / "results.json").read_text())["artifacts"]
    assert artifact["precision"] == predicted.precision == "int8"
    assert 1 / 1.6 < predicted.gzip_bytes / artifact["gzip_bytes"] < 1.6
    assert 1 / 1.1 < predicted.bytes / artifact["bytes"] < 1.1


def test_what_is_frozen_and_at_which_rate_the_rest_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from configs import digits_backbone

    monkeypatch.setattr(digits_backbone, "EPOCHS", 1)
    plan = make_plan(load_recipe(Path("configs/digits_transfer.yaml")))
    text = text_of(plan)
    assert re.search(r"conv0 +Conv2D +do: frozen until epoch \d+, then trains \(rate 0.343\)", text)
    assert re.search(r"head +Dense +do: trains \(rate 1\)", text)
    assert not plan.notes


def test_random_weights_of_a_transformer_are_told(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (tmp_path / "rows.csv").write_text("text,label\n" + "good good,1\nbad,0\n" * 10)
    sizes = {"vocabulary": 7, "hidden": 8, "heads": 2, "layers": 1, "intermediate": 8}
    text = {"tokenizer": str(tmp_path), "max_tokens": 8, "columns": ["text"]}
    data = {"source": "csv", "path": str(tmp_path / "rows.csv"), "label": "label", "text": text}
    keep = {"keep_pretrained": {"masked_language_model": 0.5}}
    raw = {
        "name": "words",
        "data": data,
        "model": {"builder": "bert", "arguments": sizes},
        "train": {"epochs": 1, "transfer": keep},
    }
    plan = make_plan(parse_recipe(raw, origin="test"))
    assert plan.notes[-1] == "weights at the beginning: random in all 13 layers"


def test_a_wrong_pattern_stops_the_plan() -> None:
    with pytest.raises(InputError, match=r"transfer\.freeze: the pattern 'dense'.*'dense2'\?"):
        planned(train={"epochs": 2, "transfer": {"freeze": "dense"}})


def test_what_each_process_reads_is_said(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "piped.py").write_text(
        "import numpy as np, tensorflow as tf\n"
        "def rows():\n"
        "    x = np.random.default_rng(0).random((40, 8, 8, 1), np.float32)\n"
        "    return tf.data.Dataset.from_tensor_slices((x, np.arange(40) % 4)).batch(8)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    strategy = {"kind": "mirrored", "devices": 2}
    text = text_of(planned(strategy=strategy))
    assert "each batch of 64 rows is divided among 2 devices; each process reads and aug" in text
    piped = {"source": "piped:rows", "batch_size": 8, "cache": "never"}
    text = text_of(planned(strategy=strategy, data=piped))
    assert "each process runs the whole tf.data pipeline and keeps its own rows" in text
