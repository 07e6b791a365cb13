from __future__ import annotations

import numpy as np
import pytest

from tfopt.compression.layers.quantized import RangeLayer
from tfopt.compression.quantization.ranges import (
    calibrate,
    layer_of,
    observe_ranges,
    open_empty_ranges,
    range_gaps,
    range_name,
)
from tfopt.errors import DataError, VerificationError
from tfopt.keras2.core import Model, keras

NAME = "hidden_range"


@pytest.fixture
def model() -> Model:
    """Return a model that puts its inputs through a ReLU and a range."""
    inputs = keras.Input((2,))
    return keras.Model(inputs, RangeLayer(name=NAME)(keras.layers.ReLU(name="hidden")(inputs)))


def set_range(model: Model, low: float, high: float) -> None:
    state = model.get_layer(NAME).quantizer_vars
    state["min_var"].assign(low)
    state["max_var"].assign(high)


def batches(*highs: float) -> list[np.ndarray]:
    return [np.array([[-1.0, high]], np.float32) for high in highs]


def test_names() -> None:
    assert layer_of(range_name("conv")) == layer_of("conv_range_12") == "conv"
    assert layer_of("my_range_finder_range") == "my_range_finder"


def test_ranges_are_the_mean_of_the_batches_extremes(model: Model) -> None:
    assert observe_ranges(model, batches(1.0, 3.0)) == {NAME: (0.0, 2.0)}
    calibrate(model, batches(1.0, 3.0))
    assert float(model.get_layer(NAME).quantizer_vars["max_var"]) == 2.0


def test_observing_leaves_no_trace(model: Model) -> None:
    calibrate(model, batches(1.0))
    observe_ranges(model, batches(9.0))
    assert float(np.max(model(np.array([[9.0, 0.0]])))) == 1.0


def test_without_examples_there_is_no_range(model: Model) -> None:
    with pytest.raises(DataError, match="no calibration examples"):
        calibrate(model, [])


def test_values_that_are_not_finite_name_the_layer(model: Model) -> None:
    with pytest.raises(DataError, match="not finite at 'hidden'"):
        calibrate(model, batches(np.inf))
    with pytest.raises(DataError, match="not finite at 'hidden'"):
        calibrate(model, batches(1.0, np.nan))


@pytest.mark.parametrize(("high", "gap"), [(2.0, 0.0), (1.2, 0.4), (2.8, 0.4), (6.0, 2.0)])
def test_gaps_are_shares_of_the_need(model: Model, high: float, gap: float) -> None:
    set_range(model, 0.0, high)
    assert range_gaps(model, batches(2.0))[NAME] == pytest.approx(gap)


@pytest.mark.parametrize("high", [0.9, 12.0])
def test_ranges_that_cut_off_or_waste_too_much_are_errors(model: Model, high: float) -> None:
    set_range(model, 0.0, high)
    with pytest.raises(VerificationError, match=r"'hidden' has not converged: .* needs \[0, 2\]"):
        range_gaps(model, batches(2.0))


@pytest.mark.parametrize("ends", [(0.0, 0.0), (np.nan, np.nan), (1.0, -1.0)])
def test_a_range_that_was_never_set_is_an_error(model: Model, ends: tuple[float, float]) -> None:
    set_range(model, *ends)
    with pytest.raises(VerificationError, match="'hidden' was never calibrated"):
        range_gaps(model, batches(2.0))


def test_a_dead_tensor_is_no_error(model: Model) -> None:
    calibrate(model, batches(-1.0))
    open_empty_ranges(model)
    assert range_gaps(model, batches(-1.0)) == {NAME: 0.0}
    assert float(model.get_layer(NAME).quantizer_vars["max_var"]) == 1.0


def test_opening_leaves_set_ranges_alone(model: Model) -> None:
    set_range(model, 0.0, 0.25)
    open_empty_ranges(model)
    assert float(model.get_layer(NAME).quantizer_vars["max_var"]) == 0.25
