import pytest

from tfopt.errors import VerificationError
from tfopt.runtimes import open_litert
from tfopt.runtimes.litert.precision import (
    float_operators,
    integer_operator_fraction,
    precision_of,
    require_precision,
)


@pytest.fixture
def opened(exported):
    return lambda name, precision: open_litert(exported(name, precision).path, probe=False)


@pytest.mark.parametrize(
    "precision", ["float32", "float16", "dynamic", "int8", "int8_io", "int16x8"]
)
def test_a_files_precision_is_read_off_it(opened, precision):
    model = opened("convolution", precision)
    assert precision_of(model) == precision
    assert require_precision(model, precision) == ()


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        ("float32", "int8", "none of its 2 compute operators works on int8: constants .* float32"),
        ("float32", "int16x8", "works on int16"),
        ("float32", "float16", "was to hold float16 weights, but holds none"),
        ("float32", "dynamic", "fewer than 1,024 elements"),
        ("dynamic", "int8", "works on int8"),
        ("int8", "int16x8", "works on int16"),
        ("int8", "int8_io", "image, logits stayed in floating point. Use precision int8"),
    ],
)
def test_a_promise_that_was_not_kept(opened, made, asked, message):
    with pytest.raises(VerificationError, match=message):
        require_precision(opened("convolution", made), asked)


def test_float_operators_are_counted_and_named(opened):
    model = opened("sine", "int8")
    (left,) = float_operators(model)
    assert left.startswith("SIN (")
    assert integer_operator_fraction(model) == pytest.approx(2 / 3)
    assert integer_operator_fraction(opened("convolution", "float32")) == 0.0
