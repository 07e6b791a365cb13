import pytest

from tfopt.errors import ExportError
from tfopt.runtimes import open_litert
from tfopt.runtimes.litert.flatbuffer import order_interface


def _operators(path):
    return {op.name: op for op in open_litert(path, probe=False).operators()}


def test_float_file_has_no_integer_compute(file_of):
    operators = _operators(file_of("convolution"))
    assert operators["CONV_2D"].is_compute
    assert not operators["CONV_2D"].is_integer
    assert not operators["RESHAPE"].is_compute
    assert "DELEGATE" not in operators


def test_static_file_computes_on_integers(file_of):
    operators = _operators(file_of("convolution", "int8"))
    assert operators["CONV_2D"].is_integer
    assert operators["CONV_2D"].input_types == ("int8", "int8", "int32")
    assert operators["FULLY_CONNECTED"].is_integer
    assert not operators["QUANTIZE"].is_compute
    assert not operators["DEQUANTIZE"].is_compute


def test_int8_weights_on_float_activations_are_not_integer(file_of):
    # Only the first dense layer of lenet-like size is above the converter's threshold.
    model = open_litert(file_of("convolution", "dynamic"), probe=False)
    assert not any(op.is_integer for op in model.operators() if op.is_compute)


def test_constants_are_counted_by_type(file_of):
    counts = open_litert(file_of("dense", "float16"), probe=False).constant_elements()
    # The kernels; biases that are all zero are left out by the converter.
    assert counts["float16"] == 6 * 32 + 32 * 4
    assert counts.get("float32", 0) == 0


def test_interface_order_can_be_changed(file_of):
    content = file_of("several").read_bytes()
    swapped = order_interface(content, ("alpha_1", "zeta"), ("first", "second"))
    assert len(swapped) == len(content)
    back = order_interface(swapped, ("zeta", "alpha_1"), ("second", "first"))
    assert back == content


def test_unknown_interface_names_are_refused(file_of):
    with pytest.raises(ExportError, match="changed the model's interface"):
        order_interface(file_of("dense").read_bytes(), ("other",), ("y",))
