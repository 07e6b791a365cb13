from tfopt.export.litert.failures import explain, missing_operators

# As tensorflow 2.21 prints it, shortened.
ERF = """Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(callsite(fused["Erf:", \
"model_1/tf.math.erf/Erf@__inference_serve_1790"] at fused["StatefulPartitionedCall:", "S"])): \
'tf.Erf' op is neither a custom op nor a flex op
<unknown>:0: error: failed while converting: 'main':
TF Select ops: Erf, Betainc
"""
RESERVE = """<unknown>:0: error: loc(callsite(fused["TensorListReserve:", \
"TensorArrayV2_1@__inference_standard_lstm_6866"] at callsite(fused["PartitionedCall:", \
"model_3/lstm/PartitionedCall@__inference_serve_7151"]))): 'tf.TensorListReserve' op requires \
element_shape to be static during TF Lite transformation pass
"""


def test_missing_operators_and_their_layers():
    text = explain(ERF, layers={"tf.math.erf", "dense", "model_1"})
    assert text.startswith("It needs the TensorFlow op(s) Betainc, Erf (layer 'tf.math.erf')")
    assert "select_tf_ops: true" in text
    assert missing_operators(ERF) == ["Betainc", "Erf"]


def test_another_op_that_the_converter_refuses():
    text = explain(RESERVE, layers=set())
    assert text == (
        "Its op TensorListReserve requires element_shape to be static during TF Lite "
        "transformation pass."
    )


def test_calibration_through_tensorflow_ops():
    text = explain("RuntimeError: Select TensorFlow op(s), included in ...", layers=set())
    assert "Use precision float32, float16 or dynamic" in text


def test_anything_else_gives_its_telling_line_in_bounds():
    noise = "I0000 reading\nWARNING: something\n"
    assert explain(noise + "ValueError: bad shape", layers=set()).endswith("ValueError: bad shape.")
    located = 'loc(callsite(fused["A:", "b@c"] at "d")): error: no luck'
    assert explain(located, layers=set()) == "The converter says: no luck."
    assert explain("", layers=set()) == "The converter says: nothing."
    assert len(explain("Error: " + "x" * 5000, layers=set())) < 400
