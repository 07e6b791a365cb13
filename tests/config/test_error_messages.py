from __future__ import annotations

import re
from collections.abc import Callable

import pytest

Problems = Callable[..., list[str]]

ONE = {
    "unknown section": ("trian: {}", "trian is not a setting; did you mean 'train'?"),
    "unknown deep": (
        "steps: [{prune: {sparsty: 0.9}}]",
        "steps[0].prune.sparsty is not a setting; did you mean 'sparsity'?",
    ),
    "unknown in a schedule": (
        "train: {learning_rate: {schedule: cosine, peak: 1.0e-3, warmup: 3}}",
        "train.learning_rate.warmup is not a setting; did you mean 'warmup_fraction'?",
    ),
    "unknown without a near one": (
        "gate: {zzz: 1, max_drop: 0.1}\nexport: [litert]",
        "gate.zzz is not a setting; known: max_drop",
    ),
    "number as a key": (
        "3: 4",
        "3 is not a setting; known: name, seed, metric, data, model, train",
    ),
    "unknown step": ("steps: [{cluser: {}}]", "steps[0]: 'cluser' is not a step; did you mean"),
    "bare unknown step": ("steps: [quant]", "steps[0]: 'quant' is not a step; did you mean 'quant"),
    "unknown export": (
        "export: [onnx]",
        "export[0]: 'onnx' is not an export format; known: litert",
    ),
    "two steps in one": ("steps: [{prune: {}, cluster: {}}]", "steps[0]: write exactly one of"),
    "empty step": (
        "steps: [{}]",
        "steps[0]: write exactly one of distill, prune, cluster, quantize",
    ),
    "number as a step": ("steps: [3]", "steps[0]: must be a mapping of settings. Received: 3."),
    "text for a number": ("seed: abc", "seed: must be a whole number. Received: 'abc'."),
    "fraction": ("train: {epochs: 2.5}", "train.epochs: must be a whole number. Received: 2.5."),
    "boolean for a number": ("train: {epochs: yes}", "train.epochs: true and false (also written"),
    "boolean in a mapping": (
        "steps: [{prune: {layers: {conv1: on}}}]",
        "steps[0].prune.layers: true and false",
    ),
    "boolean for a rate": (
        "train: {learning_rate: {schedule: constant, peak: yes}}",
        "train.learning_rate.peak: true and false",
    ),
    "text for a rate": (
        "train: {learning_rate: fast}",
        "train.learning_rate: must be a number. Received: 'fast'.",
    ),
    "zero rate": (
        "train: {learning_rate: 0}",
        "train.learning_rate: must be greater than 0. Received: 0.",
    ),
    "list as rate": (
        "train: {learning_rate: [1]}",
        "train.learning_rate: must be a number, or a mapping with schedule",
    ),
    "rate without schedule": (
        "train: {learning_rate: {peak: 1}}",
        "train.learning_rate.schedule is required",
    ),
    "unknown schedule": (
        "train: {learning_rate: {schedule: cosin, peak: 1}}",
        "train.learning_rate.schedule: must be one of constant, cosine, exponential, step, "
        "plateau. Received: 'cosin'. Did you mean 'cosine'?",
    ),
    "out of range": (
        "train: {label_smoothing: 1}",
        "train.label_smoothing: must be less than 1. Received: 1.",
    ),
    "infinite": ("gate: {max_drop: .inf}\nexport: [litert]", "gate.max_drop: must be a finite num"),
    "not a list": ("steps: prune", "steps: must be a list. Received: 'prune'."),
    "not a section": ("train: fast", "train: must be a mapping of settings. Received: 'fast'."),
    "unknown choice": (
        "train: {keep: bst}",
        "train.keep: must be one of last, best. Received: 'bst'. Did you mean 'best'?",
    ),
    "unknown optimizer": (
        "train: {optimizer: adamm}",
        "train.optimizer: must be one of sgd, adam, adamw, rmsprop, adagrad, nadam, adamax, lion. "
        "Received: 'adamm'. Did you mean 'adam'?",
    ),
    "either of two kinds": (
        "steps: [{cluster: {preserve_sparsity: maybe}}]",
        "steps[0].cluster.preserve_sparsity: must be auto or true or false. Received: 'maybe'.",
    ),
    "missing": ("gate: {}\nexport: [litert]", "gate.max_drop is required"),
    "too many": (
        "train: {learning_rate: {schedule: step, peak: 1.0, at_epochs: []}}",
        "train.learning_rate.at_epochs: must have at least 1 entries",
    ),
    "long text": (f"seed: {'x' * 500}", f"seed: must be a whole number. Received: '{'x' * 99}..."),
}


@pytest.mark.parametrize("name", ONE)
def test_each_problem_is_said_in_words_of_the_recipe(name: str, problems: Problems) -> None:
    added, message = ONE[name]
    (problem,) = problems(added)
    assert problem.startswith(message)
    assert not re.search(r"pydantic|valid (dictionary|tuple)|input should|instance of", problem)


def test_all_problems_are_listed_at_once(problems: Problems) -> None:
    found = problems(
        "trian: {}\nseed: -1\n"
        "steps: [{quantize: {epochs: two, skp: 1}}, {prune: {sparsity: 2}}, prun]\n"
        "export: [{litert: {precision: int4}}]\ngate: 3\n",
        "data.source=mnst5k",
        "x",
        base="name: 'a b'\ndata: {source: digits, batch_size: 0}\nmodel: {builder: lnet5}\n",
    )
    assert len(found) == 14
    for start in (
        "name: must be letters, digits",
        "seed: must be greater than or equal to 0",
        "data.batch_size: must be",
        "data.source 'mnst5k' is not known. Did you mean 'mnist5k'?",
        "model.builder 'lnet5' is not known. Did you mean 'lenet5'?",
        "steps[0].quantize.epochs: must be a whole number",
        "steps[0].quantize.skp is not a setting",
        "steps[1].prune.sparsity: must be less than 1",
        "steps[1].prune comes after 'quantize'",
        "steps[2]: 'prun' is not a step",
        "export[0].litert.precision: must be one of",
        "gate: must be a mapping",
        "trian is not a setting",
        "--set 'x' is not of the form",
    ):
        assert any(line.startswith(start) for line in found), (start, found)


def test_a_list_that_is_wrong_in_one_place_is_not_called_wrong_as_a_whole(
    problems: Problems,
) -> None:
    base = (
        "name: a\ndata: {source: digits}\n"
        "model: {builder: lenet5, preprocess: {mean: [1, a], crop: [1, 2, 3]}}\n"
    )
    assert sorted(problems(base=base)) == [
        "model.preprocess.crop: must have at most 2 entries",
        "model.preprocess.mean[1]: must be a number. Received: 'a'.",
    ]
