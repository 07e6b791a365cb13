from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfopt.config.schema import Model as ModelSection
from tfopt.config.schema import TextSettings
from tfopt.config.transfer import KeepPretrained, Transfer
from tfopt.data.arrays import ArraySplit
from tfopt.errors import InputError
from tfopt.keras2 import graph
from tfopt.keras2.core import Model, keras
from tfopt.models.build import build_model
from tfopt.training.job import FitJob
from tfopt.training.transfer.fine_tune import Trained, fit_transfer
from tfopt.training.transfer.masked_language import METRIC, MaskedLanguage, with_hidden_tokens

Train = Callable[..., Trained]
TOKENS, VOCABULARY, MASK = 8, 30, 3
KEEP = {"masked_language_model": 0.5, "mask_token": MASK, "special_tokens": [1, 2]}


def bert(**arguments: Any) -> Model:
    keras.utils.set_random_seed(4)
    sizes = {"hidden": 16, "heads": 2, "layers": 1, "intermediate": 32, "vocabulary": VOCABULARY}
    section = ModelSection(builder="bert", arguments={**sizes, **arguments})
    shape = {"input_ids": (TOKENS,), "attention_mask": (TOKENS,)}
    return graph.copy(build_model(section, input_shape=shape, classes=3, seed=1))


@pytest.fixture(scope="module")
def texts() -> ArraySplit:
    draws = np.random.default_rng(0)
    ids = draws.integers(4, VOCABULARY, (24, TOKENS)).astype(np.int32)
    ids[:, 0] = 1
    mask = (np.arange(TOKENS) < draws.integers(4, TOKENS + 1, (24, 1))).astype(np.int32)
    rows = {"input_ids": ids * mask, "attention_mask": mask}
    return ArraySplit(rows, draws.integers(0, 3, 24))


def test_the_two_losses_add_up_and_the_head_is_dropped(train: Train, texts: ArraySplit) -> None:
    model = bert()
    names = [weight.name for weight in model.weights]
    keep = {**KEEP, "l2_sp": 0.1}
    found = train(model, {"keep_pretrained": keep}, split=texts)
    history = {name: np.array(values) for name, values in found.history.items()}
    parts = history["fine_tune_loss"] + history[METRIC] + history["l2_sp_loss"]
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-5)
    assert (history[METRIC] > 0.5).all()
    assert [weight.name for weight in model.weights] == names


def test_the_pretraining_loss_falls_and_moves_the_encoder(train: Train, texts: ArraySplit) -> None:
    model = bert()
    transfer = {"keep_pretrained": {**KEEP, "masked_language_model": 1.0}}
    history = train(model, transfer, split=texts, train={"epochs": 6}).history
    assert history[METRIC][-1] < history[METRIC][0]


def test_which_tokens_are_hidden() -> None:
    masked = MaskedLanguage(bert(), KeepPretrained(**KEEP), seed=1)
    ids = np.random.default_rng(1).integers(1, VOCABULARY, (200, 40)).astype(np.int32)
    mask = np.repeat(np.arange(40) < 30, 200).reshape(40, 200).T.astype(np.int32)
    hidden, labels = masked.hide({"input_ids": ids, "attention_mask": mask})
    chosen = labels.numpy() >= 0
    able = (mask == 1) & ~np.isin(ids, [1, 2, MASK])
    assert not chosen[~able].any()
    assert abs(chosen[able].mean() - 0.15) < 0.02
    assert not np.isin(hidden["input_ids"].numpy()[chosen], [1, 2]).any()
    again, _ = masked.hide({"input_ids": ids, "attention_mask": mask})
    assert not np.array_equal(hidden["input_ids"], again["input_ids"])


def test_a_resumed_run_hides_the_same_tokens(
    make_job: Callable[..., FitJob], listener: Any, texts: ArraySplit, tmp_path: Path
) -> None:
    class StopInSecond(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    settings = {"epochs": 2, "transfer": {"keep_pretrained": KEEP}}
    job = make_job(bert(), train=settings, split=texts, checkpoint=tmp_path / "checkpoint.npz")
    whole = replace(job, model=bert(), checkpoint=None)
    fit_transfer(whole, job.settings.transfer, listener)
    with pytest.raises(KeyboardInterrupt):
        fit_transfer(replace(job, callbacks=[StopInSecond()]), job.settings.transfer, listener)
    resumed = replace(job, model=bert())
    fit_transfer(resumed, job.settings.transfer, listener)
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_models_and_settings_that_do_not_fit(
    train: Train, make_conv: Callable[..., Model], texts: ArraySplit
) -> None:
    with pytest.raises(InputError, match="needs a BERT-family encoder.*has inputs"):
        train(make_conv(), {"keep_pretrained": KEEP})
    with pytest.raises(InputError, match="needs mask_token, the id of the mask token"):
        train(bert(), {"keep_pretrained": {"masked_language_model": 0.5}}, split=texts)
    with pytest.raises(InputError, match="mask_token is 99, and the table of tokens has 30 rows"):
        train(bert(), {"keep_pretrained": {**KEEP, "mask_token": 99}}, split=texts)
    with pytest.raises(InputError, match="table of tokens, which is 4 wide"):
        train(bert(embedding_rank=4), {"keep_pretrained": KEEP}, split=texts)


def test_the_tokenizer_tells_what_is_not_set(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    text = TextSettings(tokenizer=str(tmp_path))
    asked = Transfer(keep_pretrained={"masked_language_model": 0.5})
    told = with_hidden_tokens(asked, text).keep_pretrained
    assert told is not None
    assert (told.mask_token, told.special_tokens) == (4, (0, 1, 2, 3, 4))
    for settings, source in (
        (asked, None),
        (Transfer(keep_pretrained=KEEP), text),
        (Transfer(layer_decay=0.5), text),
    ):
        assert with_hidden_tokens(settings, source) is settings
