import warnings

import pytest
import tensorflow as tf

from tfopt.errors import InputError
from tfopt.evaluation.latency import measure_interleaved, measure_latency
from tfopt.keras2.core import keras


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small and a much larger model."""
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for width in (8, 2000):
        stack = [keras.layers.Dense(width) for _ in range(2)]
        model = keras.Sequential([keras.Input((width,)), *stack])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converter announces tf.lite's deprecation
            content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        paths.append(folder / f"{width}.tflite")
        paths[-1].write_bytes(content)
    return paths


def test_numbers_state_how_they_were_taken(files):
    latency = measure_latency(files[0], runs=30, warmup=3)
    assert 0 < latency.p50 <= latency.p90
    assert (latency.threads, latency.runs, latency.warmup) == (1, 30, 3)


def test_interleaved_files_get_the_same_runs_and_keep_their_order(files):
    small, large = measure_interleaved(files, runs=33, warmup=0, probe=False)
    assert small.runs == large.runs == 33
    # 8 million multiplications against 128.
    assert small.p50 < large.p50
    assert measure_interleaved([], runs=1) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads must be at least 1. Received: 0"),
        ({"runs": 0}, "runs must be at least 1"),
        ({"warmup": -1}, "warmup must be at least 0"),
    ],
)
def test_numbers_out_of_range(files, options, message):
    with pytest.raises(InputError, match=message):
        measure_latency(files[0], **options)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + b"\x00" * 100)
    with pytest.raises(InputError, match="truncated or damaged"):
        measure_latency(path)
