"""Evidence is data: frozen, and one line for a person."""

import dataclasses

import pytest

from tfopt.bridge.report import Conversion, LayerReport, Parity


def parity(relative):
    return Parity(
        rows=2,
        max_abs_error=relative * 3,
        relative_error=relative,
        tolerance=1e-5,
        sensitivity=1.0,
        calibrated=True,
        on_user_data=False,
    )


def conversion(*errors):
    layers = (
        LayerReport("a", "Dense", "native"),
        LayerReport("b", "Own", "fallback", "no such class"),
        LayerReport("c", "Dense", "native"),
    )
    return Conversion(
        to="tf_keras",
        layers=layers,
        weights=4,
        parameters=1234,
        parity=tuple(map(parity, errors)),
    )


def test_the_largest_error_counts():
    assert conversion(1e-7, 3e-6, 0.0).relative_error == 3e-6
    assert conversion().relative_error == 0.0


def test_one_line():
    assert str(conversion(3e-6)) == (
        "4 weights, 1,234 parameters; 2 native, 1 fallback; outputs differ by 3e-06 at most "
        "(relative)"
    )


@pytest.mark.parametrize("made", [parity(0.0), conversion(), conversion().layers[0]])
def test_frozen(made):
    for field in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)
    assert not hasattr(made, "__dict__")
