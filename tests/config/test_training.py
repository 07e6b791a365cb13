from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tfopt.config.training import OPTIMIZER_SETTINGS, GradientClip, Optimizer, OptimizerName, Train

VALUES = {"momentum": 0.9, "nesterov": True, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}


def test_every_optimizer_says_what_it_takes() -> None:
    assert set(OPTIMIZER_SETTINGS) == set(get_args(OptimizerName))
    assert set().union(*OPTIMIZER_SETTINGS.values()) == set(VALUES)


@pytest.mark.parametrize("setting", VALUES)
@pytest.mark.parametrize("name", OPTIMIZER_SETTINGS)
def test_an_optimizer_takes_its_settings_and_no_others(name: Any, setting: str) -> None:
    given: dict[str, Any] = {"name": name, setting: VALUES[setting]}
    if setting == "nesterov":
        given["momentum"] = 0.9
    if setting in OPTIMIZER_SETTINGS[name]:
        assert getattr(Optimizer(**given), setting) == VALUES[setting]
        return
    with pytest.raises(ValidationError, match=f"optimizer '{name}' has no .*it takes .*, ema"):
        Optimizer(**given)


def test_nesterov_without_momentum_would_do_nothing() -> None:
    with pytest.raises(ValidationError, match="nesterov needs momentum"):
        Optimizer(name="sgd", nesterov=True)


@pytest.mark.parametrize("raw", [{}, {"norm": 1, "value": 1}, {"norm": 1, "global_norm": 2}])
def test_one_clipping_limit(raw: Any) -> None:
    with pytest.raises(ValidationError, match="set exactly one of norm, global_norm and value"):
        GradientClip.model_validate(raw)


@pytest.mark.parametrize("peak", [1e-3, "1e-3", 1, "2"])
def test_a_bare_number_is_a_constant_rate(peak: Any) -> None:
    rate = Train.model_validate({"learning_rate": peak}).learning_rate
    assert (rate.schedule, rate.peak) == ("constant", float(peak))
