"""One stage: trained, measured, saved, and not done twice without need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.load import parse_recipe
from tfopt.config.schema import PruneStep, Step
from tfopt.data.arrays import ArraySplit
from tfopt.data.load import DataBundle
from tfopt.errors import InputError, StorageError
from tfopt.keras2.core import Model, keras
from tfopt.models.transformers.initialization import Initialization, remember_initialization
from tfopt.pipeline.run_directory import open_run_dir
from tfopt.pipeline.stages import Run, step_stage, train_stage
from tfopt.results import to_json
from tfopt.training.task import read_task

CLASSES = 3


class Listener:
    """A reporter that remembers which stages ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.skipped: list[str] = []
        self.said: list[str] = []

    def stage_started(self, name: str, **options: Any) -> None:
        self.ran.append(name)

    def stage_skipped(self, name: str, reason: str) -> None:
        self.skipped.append(name)

    def warning(self, text: str) -> None:
        self.said.append(text)

    message = warning

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def split_of(rows: int) -> ArraySplit:
    draws = np.random.default_rng(rows)
    labels = draws.integers(0, CLASSES, rows)
    inputs = draws.normal(size=(rows, 10)) + labels[:, None]
    return ArraySplit(inputs.astype(np.float32), labels.astype(np.int64))


def model_of(*layers: Any, units: int = 32, activation: str = "relu") -> Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((10,))
    x = keras.layers.Dense(units, activation=activation, name="hidden")(inputs)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x), name="toy")


def run_of(root: Path, model: Model, **recipe: Any) -> Run:
    raw = {
        "name": "toy",
        "data": {"source": "digits", "batch_size": 16},
        "model": {"builder": "lenet5"},
        "train": {"epochs": 1, "learning_rate": 0.01},
        **recipe,
    }
    parsed = parse_recipe(raw, origin="test")
    train, evaluation = split_of(48), split_of(20)
    data = DataBundle("toy", train, evaluation, None, (10,), CLASSES, None, "toy data")
    task = read_task(model, train, classes=CLASSES, train=parsed.training, metric=parsed.metric)
    return Run(
        recipe=parsed,
        directory=open_run_dir(root, resume=True),
        reporter=Listener(),  # type: ignore[arg-type]
        data=data,
        task=task,
        total=2,
        data_key="data",
    )


def trained(root: Path, model: Model | None = None, **recipe: Any) -> tuple[Any, Listener]:
    model = model_of() if model is None else model
    run = run_of(root, model, **recipe)
    outcome = train_stage(run, model, run.recipe.training)
    return outcome, run.reporter  # type: ignore[return-value]


def test_a_stage_is_saved_measured_and_not_done_twice(tmp_path: Path) -> None:
    model = model_of()
    first, listener = trained(tmp_path, model)
    assert listener.ran == ["train"]
    assert model.optimizer is None
    assert first.result.metric == first.rows.mean()
    assert len(first.rows) == 20
    assert {entry.name for entry in (tmp_path / "00-train").iterdir()} == {
        "model.keras",
        "rows.npy",
        "stage.json",
    }
    second, listener = trained(tmp_path)
    assert (listener.ran, listener.skipped) == ([], ["train"])
    np.testing.assert_array_equal(first.rows, second.rows)
    assert to_json(first.result) == to_json(second.result)
    for one, two in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_transfer_learning_is_measured_and_leaves_the_model_as_it_was_built(
    tmp_path: Path,
) -> None:
    before = model_of().get_layer("hidden").get_weights()
    transfer = {"head": "logits", "lora": {"rank": 2}}
    outcome, _ = trained(tmp_path, train={"epochs": 2, "learning_rate": 0.01, "transfer": transfer})
    assert outcome.result.evidence["lora_trainable_fraction"] > 0
    assert set(outcome.result.evidence["distance_from_pretrained"]) == {"head", "block 1"}
    assert [(entry.layer, entry.done) for entry in outcome.result.layers] == [
        ("hidden", True),
        ("logits", True),
    ]
    hidden = outcome.model.get_layer("hidden")
    assert type(hidden) is keras.layers.Dense
    assert hidden.trainable
    assert np.linalg.matrix_rank(hidden.kernel.numpy() - before[0], tol=1e-5) == 2
    assert not any(weight.name.startswith("lora") for weight in outcome.model.weights)
    frozen = {"epochs": 1, "transfer": {"freeze": "hidden"}}
    outcome, listener = trained(tmp_path, train=frozen)
    assert listener.ran == ["train"]
    for one, two in zip(outcome.model.get_layer("hidden").get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_random_layers_of_a_pretrained_model_are_named(tmp_path: Path) -> None:
    model = model_of()
    record = Initialization("folder", loaded=("hidden",), new={"logits": "a new head"})
    remember_initialization(model, record)
    outcome, _ = trained(tmp_path, model)
    assert outcome.result.evidence["random_layers"] == 1
    assert list(outcome.result.notes) == record.notes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"train": {"epochs": 1, "learning_rate": 0.02}},
        {"metric": "top_5_accuracy", "units": 8},
        {"model": model_of(units=33)},
        {"model": model_of(activation="tanh")},
        {"model": model_of(keras.layers.Dropout(0.5))},
    ],
    ids=["seed", "rate", "metric", "units", "activation", "dropout"],
)
def test_another_input_means_another_run(change: dict[str, Any], tmp_path: Path) -> None:
    change = dict(change)
    before = after = None
    if change.pop("units", None):
        before = after = wide_model()
    after = change.pop("model", after)
    trained(tmp_path, before)
    _, listener = trained(tmp_path, wide_model() if before is not None else after, **change)
    assert listener.ran == ["train"]


def wide_model() -> Model:
    """Return a model with enough outputs for the top five to mean something."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((10,)), keras.layers.Dense(8, name="only")], name="wide")


@pytest.mark.parametrize("file", ["model.keras", "rows.npy", "stage.json"])
def test_a_damaged_file_means_another_run(file: str, tmp_path: Path) -> None:
    first, _ = trained(tmp_path)
    path = tmp_path / "00-train" / file
    path.write_bytes(path.read_bytes()[:-1])
    second, listener = trained(tmp_path)
    assert listener.ran == ["train"]
    np.testing.assert_array_equal(first.rows, second.rows)


def test_a_model_that_no_file_gives_back_is_made_again(tmp_path: Path) -> None:
    first, _ = trained(tmp_path, model_of(keras.layers.Lambda(lambda x: x * 2.0)))
    second, listener = trained(tmp_path, model_of(keras.layers.Lambda(lambda x: x * 2.0)))
    assert listener.ran == ["train"]
    assert "train is done again, for its model cannot be loaded" in listener.said[0]
    np.testing.assert_array_equal(first.rows, second.rows)


def test_nothing_to_train_is_scored_all_the_same(tmp_path: Path) -> None:
    model = model_of()
    before = model.get_weights()
    outcome, _ = trained(tmp_path, model, train={"epochs": 0})
    np.testing.assert_array_equal(outcome.model.get_weights()[0], before[0])
    assert outcome.result.history == {}


def test_half_precision_comes_back_as_float32(tmp_path: Path) -> None:
    train = {"epochs": 1, "learning_rate": 0.01, "precision": "mixed_float16"}
    model = model_of()
    before = model.get_weights()[0]
    outcome, _ = trained(tmp_path, model, train=train)
    assert outcome.model is model
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert not np.array_equal(model.get_weights()[0], before)


def test_zeros_of_a_pruned_model_are_kept(tmp_path: Path) -> None:
    model = model_of()
    kernel = model.get_layer("hidden").kernel
    mask = np.arange(kernel.shape.num_elements()).reshape(kernel.shape) % 3 > 0
    kernel.assign(kernel * mask)
    outcome, listener = trained(tmp_path, model, train={"epochs": 1, "optimizer": {"ema": 0.5}})
    assert np.array_equal(outcome.model.get_layer("hidden").kernel.numpy() != 0, mask)
    assert "the zeros of 1 pruned kernels are kept" in listener.said


def test_a_pruned_stage_is_at_target_in_its_file(tmp_path: Path) -> None:
    model = model_of()
    run = run_of(tmp_path, model)
    float_model = train_stage(run, model, run.recipe.training)
    run.baseline_rows = float_model.rows
    step = Step(prune=PruneStep(sparsity=0.75, epochs=2))
    made = step_stage(run, float_model.model, step)
    assert made.result.evidence["zero_fraction"] == pytest.approx(0.75, abs=0.01)
    again = run_of(tmp_path, model)
    again.last_key, again.number = _key_before(run, "prune"), 1
    loaded = step_stage(again, float_model.model, step)
    assert again.reporter.skipped == ["prune"]  # type: ignore[attr-defined]
    kernel = loaded.model.get_layer("hidden").kernel.numpy()
    np.testing.assert_array_equal(kernel, made.model.get_layer("hidden").kernel.numpy())
    assert np.mean(kernel == 0) == pytest.approx(0.75, abs=0.01)


def _key_before(run: Run, name: str) -> str:
    """Return the key of the stage before the named one."""
    keys = [record.input_sha256 for record in run.directory._stages]
    names = [record.name for record in run.directory._stages]
    return keys[names.index(name) - 1]


def test_training_a_clustered_model_is_refused(tmp_path: Path) -> None:
    model = model_of(units=64)
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.round(kernel.numpy(), 1))
    with pytest.raises(InputError, match="'hidden' is clustered"):
        trained(tmp_path, model)


def test_logs_of_another_input_are_removed(tmp_path: Path) -> None:
    trained(tmp_path)
    old = set((tmp_path / "logs" / "00-train").iterdir())
    trained(tmp_path, seed=1)
    new = set((tmp_path / "logs" / "00-train").iterdir())
    assert old
    assert new
    assert not old & new


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    model = model_of()
    run = run_of(tmp_path, model)
    key = _planted_key(run, model)
    folder = run.directory.start("train", "00-train", key)
    (folder / "checkpoint.npz").write_bytes(b"PK\x03\x04 half of it")
    with pytest.raises(StorageError, match="checkpoint.npz is damaged .* Delete it to train"):
        train_stage(run_of(tmp_path, model), model, run.recipe.training)


def _planted_key(run: Run, model: Model) -> str:
    """Return the key that training this model gets."""
    started: list[str] = []
    run.directory.is_done = lambda name, folder, key: bool(started.append(key))  # type: ignore[method-assign,func-returns-value]
    run.directory.start = _stop  # type: ignore[method-assign]
    with pytest.raises(InterruptedError):
        train_stage(run, model, run.recipe.training)
    del run.directory.is_done, run.directory.start
    return started[0]


def _stop(*_: Any, **__: Any) -> Path:
    raise InterruptedError
