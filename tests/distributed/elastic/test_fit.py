"""The loop in one process: what it promises, and the failures it must not swallow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras2

import tfopt
from tfopt.distributed.elastic import fit
from tfopt.errors import InputError, TrainingError

pytestmark = pytest.mark.horovod

random = np.random.default_rng(2)
X = random.normal(size=(50, 6)).astype(np.float32)
Y = (X.sum(axis=1, keepdims=True) > 0).astype(np.float32)


@pytest.fixture(params=[keras2, keras3], ids=["tf_keras", "keras3"])
def model(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


def made(keras: Any = keras2, rate: Any = 0.02) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse", jit_compile=False)
    return model


def settings(**changed: Any) -> tfopt.Elastic:
    return tfopt.Elastic(**{"steps": 12, "batch_size": 16, "commit_every_steps": 5, **changed})


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_every_step_is_taken_on_the_rows_that_follow_from_it(model: Any) -> None:
    seen: list[np.ndarray] = []

    def batch(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(rows)
        return X[rows], Y[rows]

    losses: dict[int, float] = {}
    result = tfopt.fit_elastic(
        model,
        batch,
        settings(),
        examples=50,
        on_step=lambda step, logs: losses.update({step: float(logs["loss"])}),
    )
    assert (result.steps, result.size, result.rank, result.changes) == (12, 1, 0, ())
    assert list(losses) == list(range(1, 13))
    assert result.loss == losses[12] < losses[1]
    rows = np.concatenate(seen)
    assert len(rows) == 12 * 16
    for epoch in range(3):
        assert sorted(rows[50 * epoch : 50 * epoch + 50]) == list(range(50))


def test_a_new_job_goes_on_from_the_checkpoint(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "last.npz"
    keras = keras3 if isinstance(model, keras3.Model) else keras2
    tfopt.fit_elastic(model, (X, Y), settings())
    first = made(keras)
    tfopt.fit_elastic(first, (X, Y), settings(steps=7, checkpoint=file))
    second, steps = made(keras), []
    result = tfopt.fit_elastic(
        second,
        (X, Y),
        settings(checkpoint=file),
        on_step=lambda step, logs: steps.append(step),
    )
    assert steps == [8, 9, 10, 11, 12]
    assert result.steps == 12
    assert same(second, model)
    assert not same(first, model)


def failing(model: Any, at: list[int], error: Exception) -> None:
    """Let the updates of these numbers fail, counted over all tries."""
    calls, train = [0], model.train_on_batch

    def train_on_batch(*rows: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] in at:
            raise error
        return train(*rows, **options)

    model.train_on_batch = train_on_batch


@pytest.fixture
def elastic_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop believe that a launcher would give it other ranks; it stays alone."""
    monkeypatch.setattr(fit, "leave", lambda *, lost: None)
    monkeypatch.setattr(fit, "is_elastic", lambda: True)


# Not one of the texts that Horovod's own loop knows.
LOST = tf.errors.UnknownError(None, None, "Collective 17 was told that the other side has gone")


@pytest.mark.usefixtures("elastic_job")
def test_a_lost_peer_costs_the_steps_since_the_last_commit_and_nothing_else(model: Any) -> None:
    undisturbed = made(keras3 if isinstance(model, keras3.Model) else keras2)
    tfopt.fit_elastic(undisturbed, (X, Y), settings())
    failing(model, [8], LOST)
    result = tfopt.fit_elastic(model, (X, Y), settings())
    assert [(one.cause, one.reached, one.resumed) for one in result.changes] == [("lost", 7, 5)]
    assert result.steps == 12
    assert same(model, undisturbed)


@pytest.mark.usefixtures("elastic_job")
def test_losses_without_progress_end_the_run() -> None:
    model = made()
    failing(model, list(range(6, 100)), LOST)
    with pytest.raises(TrainingError, match=r"for the 4th time without a commit.*the other side"):
        tfopt.fit_elastic(model, (X, Y), settings())


@pytest.mark.usefixtures("elastic_job")
def test_new_hosts_are_let_in_at_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    news = iter([True, False])
    monkeypatch.setattr(fit, "hosts_changed", lambda: next(news))
    model, undisturbed = made(), made()
    result = tfopt.fit_elastic(model, (X, Y), settings())
    assert [(one.cause, one.reached, one.resumed) for one in result.changes] == [
        ("hosts changed", 5, 5)
    ]
    monkeypatch.setattr(fit, "hosts_changed", lambda: False)
    tfopt.fit_elastic(undisturbed, (X, Y), settings())
    assert same(model, undisturbed)


def test_a_static_job_names_the_loss(tmp_path: Path) -> None:
    model = made()
    failing(model, [8], LOST)
    file = tmp_path / "last.npz"
    with pytest.raises(TrainingError, match=rf"after step 7, and the job is not elastic.*{file}"):
        tfopt.fit_elastic(model, (X, Y), settings(checkpoint=file))


@pytest.mark.usefixtures("elastic_job")
def test_other_errors_are_not_taken_for_a_lost_peer() -> None:
    model = made()
    failing(model, [3], tf.errors.InvalidArgumentError(None, None, "a label of 11"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a label of 11"):
        tfopt.fit_elastic(model, (X, Y), settings())


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    wrong = Y.copy()
    wrong[3] = np.nan
    with pytest.raises(TrainingError, match="loss is nan after step 5"):
        tfopt.fit_elastic(made(), (X, wrong), settings(batch_size=50))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1. Received: 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"commit_every_steps": True}, "commit_every_steps must be"),
        ({"learning_rate_scaling": "root"}, "must be one of none, linear, sqrt. Received: 'root'"),
        ({"lost_seconds": 2}, "lost_seconds must be > 2"),
    ],
)
def test_impossible_settings_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tfopt.fit_elastic(made(), (X, Y), settings(**changed))


def test_impossible_data_is_named() -> None:
    with pytest.raises(InputError, match="x has 50 rows and y has 40"):
        tfopt.fit_elastic(made(), (X, Y[:40]), settings())
    with pytest.raises(InputError, match="needs examples"):
        tfopt.fit_elastic(made(), lambda rows: (X[rows], Y[rows]), settings())


def test_scaling_needs_a_fixed_rate(model: Any) -> None:
    keras = keras3 if isinstance(model, keras3.Model) else keras2
    scaled = settings(learning_rate_scaling="linear")
    tfopt.fit_elastic(model, (X, Y), scaled)
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.02)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(InputError, match="needs a fixed learning rate"):
        tfopt.fit_elastic(made(keras, schedule), (X, Y), scaled)
