from __future__ import annotations

from collections.abc import Callable

import pytest

from tfopt.config.training import Train

Problems = Callable[..., list[str]]

WRONG = {
    "nothing asked": ("{}", "train.transfer: set at least one of freeze, unfreeze,"),
    "unknown key": ("{freze: backbone}", "train.transfer.freze is not a setting; did you mean"),
    "two clocks": (
        "{unfreeze: {every_epochs: 1, at_epochs: [1]}}",
        "train.transfer.unfreeze: set exactly one of every_epochs and at_epochs",
    ),
    "descending": (
        "{unfreeze: {at_epochs: [2, 1]}}",
        "train.transfer.unfreeze: at_epochs must ascend. Received: [2, 1]",
    ),
    "other number of groups": (
        "{unfreeze: {at_epochs: [1, 2], groups: [a]}}",
        "train.transfer.unfreeze: there are 1 groups, but 2 epochs",
    ),
    "too late": (
        "{unfreeze: {at_epochs: [10]}}",
        "train: transfer.unfreeze begins to train the last group after 10 epochs, but there are 10",
    ),
    "too many": (
        "{unfreeze: {every_epochs: 3, groups: 4}}",
        "train: transfer.unfreeze begins to train the last group after 12 epochs",
    ),
    "lora and unfreeze": (
        "{lora: {}, unfreeze: {every_epochs: 1}}",
        "train.transfer: lora keeps every weight below the head frozen",
    ),
    "lora and freeze": ("{lora: {}, freeze: conv*}", "train.transfer: lora freezes every layer"),
    "lora and l2_sp": (
        "{lora:, keep_pretrained: {l2_sp: 0.1}}",
        "train.transfer: lora leaves the pretrained weights as they are",
    ),
    "negative rate": ("{learning_rates: {a: 0}}", "train.transfer.learning_rates.a: must be"),
    "boolean": ("{layer_decay: yes}", "train.transfer.layer_decay: true and false"),
    "pull to nothing": ("{keep_pretrained: {head_l2: 1}}", "train.transfer.keep_pretrained: set"),
    "no mask token": (
        "{keep_pretrained: {masked_language_model: 1}}",
        "train.transfer.keep_pretrained: masked_language_model needs mask_token",
    ),
    "tokens without their model": (
        "{keep_pretrained: {l2_sp: 1, mask_token: 103}}",
        "train.transfer.keep_pretrained: mask_token and special_tokens belong to",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str, problems: Problems) -> None:
    transfer, message = WRONG[name]
    (problem,) = problems(f"train: {{epochs: 10, transfer: {transfer}}}\n")
    assert problem.startswith(message)


def test_other_settings_that_do_not_fit(problems: Problems) -> None:
    base = "train: {epochs: 4, optimizer: nadam, transfer: {unfreeze: {every_epochs: 1}}}\n"
    (problem,) = problems(base)
    assert problem.startswith("train: optimizer 'nadam' counts its steps for all weights together")
    (problem,) = problems("train: {epochs: 0, transfer: {freeze: backbone}}\n")
    assert problem == "train: transfer needs epochs of at least 1"


def test_short_forms() -> None:
    transfer = Train(transfer={"freeze": "conv*", "unfreeze": {"every_epochs": 2}}).transfer
    assert transfer is not None
    assert transfer.freeze == ("conv*",)
    assert transfer.unfreeze.group_count is None
    lora = Train(transfer={"lora": None}).transfer
    assert lora is not None
    assert lora.lora.rank == 8
