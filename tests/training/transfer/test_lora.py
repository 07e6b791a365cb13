from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.data.arrays import ArraySplit
from tfopt.errors import VerificationError
from tfopt.keras2.core import Model, keras
from tfopt.training.job import FitJob
from tfopt.training.transfer import fine_tune
from tfopt.training.transfer.fine_tune import Trained, fit_transfer
from tfopt.training.transfer.lora import LowRankAdapter

Train = Callable[..., Trained]


def picture_model() -> Model:
    """Return convolutions with stride, dilation, and a window of one."""
    keras.utils.set_random_seed(5)
    layers = [
        keras.Input((6, 6, 1), name="image"),
        keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="strided"),
        keras.layers.Conv2D(5, 2, dilation_rate=2, use_bias=False, name="dilated"),
        keras.layers.Conv2D(6, 1, activation="tanh", name="pointwise"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(3, name="logits"),
    ]
    return keras.Sequential(layers, name="pictures")


def sentence_model() -> Model:
    keras.utils.set_random_seed(5)
    rows = keras.Input((4, 5), name="rows")
    x = keras.layers.Dense(6, activation="relu", name="position")(rows)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(rows, keras.layers.Dense(3, name="logits")(x), name="sentences")


@pytest.mark.parametrize("kind", ["pictures", "sentences"])
def test_adapters_are_merged_and_the_rest_is_untouched(
    kind: str, train: Train, make_conv: Callable[..., Model], sentences: ArraySplit
) -> None:
    from tfopt.keras2 import graph

    made, changes = picture_model(), {}
    if kind == "sentences":
        made, changes = sentence_model(), {"split": sentences}
    model = graph.copy(made)
    names = [layer.name for layer in model.layers]
    start = {layer.name: layer.get_weights() for layer in model.layers}
    lora = {"rank": 2, "alpha": 4, "dropout": 0.2}
    found = train(model, {"lora": lora}, **changes)
    assert [layer.name for layer in model.layers] == names
    assert not any(isinstance(layer, LowRankAdapter) for layer in model.layers)
    for layer in model.layers:
        if layer.name in ("logits", "pool") or not layer.weights:
            continue
        kernel, *rest = layer.get_weights()
        change = kernel - start[layer.name][0]
        assert 1 <= np.linalg.matrix_rank(change.reshape(-1, change.shape[-1]), tol=1e-5) <= 2
        assert all(np.array_equal(a, b) for a, b in zip(rest, start[layer.name][1:], strict=True))
    evidence = found.measured.evidence
    assert 0 < evidence["lora_trainable_fraction"] < 1
    rows = {entry.layer: entry for entry in found.measured.layers}
    assert all(rows[name].values["distance"] > 0 for name in rows)


def test_an_adapter_starts_as_the_layer(make_conv: Callable[..., Model]) -> None:
    from tfopt.config.transfer import Lora

    layer = keras.layers.Conv2D(3, 3, activation="relu", name="conv")
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    before = layer(images).numpy()
    adapter = LowRankAdapter(layer, Lora(rank=2), seed=1)
    np.testing.assert_array_equal(adapter(images).numpy(), before)
    assert [v.name for v in adapter.trainable_weights] == ["conv/lora_down:0", "conv/lora_up:0"]


def test_a_wrong_merge_is_found(
    train: Train, make_conv: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LowRankAdapter, "merged_kernel", lambda self: self.layer.kernel.numpy() * 2)
    with pytest.raises(VerificationError, match="merged adapters differs from the adapted one by"):
        train(make_conv(), {"lora": {}})


def test_an_adapter_that_no_gradient_reaches(
    train: Train, make_conv: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*given: Any, **named: Any) -> Model:
        adapted = original(*given, **named)
        adapted.get_layer("conv1").trainable = False
        return adapted

    original = fine_tune.with_adapters
    monkeypatch.setattr(fine_tune, "with_adapters", dead)
    with pytest.raises(VerificationError, match="adapter of layer 'conv1' is as it was made"):
        train(make_conv(), {"lora": {}})


def test_a_base_kernel_that_moves_is_found(train: Train, make_conv: Callable[..., Model]) -> None:
    class Meddle(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            layer = self.model.get_layer("conv1").layer
            layer.bias.assign(layer.bias + 1.0)

    with pytest.raises(VerificationError, match="'conv1' was to stay frozen.*'conv1/bias'"):
        train(make_conv(), {"lora": {}}, callbacks=[Meddle()])


def test_adapters_are_in_the_checkpoint(
    make_job: Callable[..., FitJob],
    make_conv: Callable[..., Model],
    listener: Any,
    tmp_path: Path,
) -> None:
    class StopInSecond(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    settings = {"epochs": 3, "transfer": {"lora": {"rank": 2, "dropout": 0.3}}}
    job = make_job(make_conv(), train=settings, checkpoint=tmp_path / "checkpoint.npz")
    transfer = job.settings.transfer
    whole = replace(job, model=make_conv(), checkpoint=None)
    fit_transfer(whole, transfer, listener)
    with pytest.raises(KeyboardInterrupt):
        fit_transfer(replace(job, callbacks=[StopInSecond()]), transfer, listener)
    resumed = replace(job, model=make_conv())
    fit_transfer(resumed, transfer, listener)
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_adapters_in_half_precision(train: Train, make_conv: Callable[..., Model]) -> None:
    from tfopt.keras2 import graph

    copied, _ = graph.twin(make_conv(), dtype="mixed_float16")
    settings = {"epochs": 1, "precision": "mixed_float16"}
    history = train(copied, {"lora": {"dropout": 0.1}}, train=settings).history
    assert np.isfinite(history["loss"]).all()
    keras.backend.clear_session()
