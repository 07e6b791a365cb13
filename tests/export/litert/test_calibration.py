import numpy as np
import pytest

from tfopt.data.statistics import InputStatistics, input_statistics
from tfopt.errors import DataError
from tfopt.export.litert.calibration import InputSpec, calibration_arrays, check_calibration

IMAGE = InputSpec("image", (4, 4, 1), "float32")
BYTES = InputSpec("image", (4, 4, 1), "uint8")
IDS = InputSpec("ids", (6,), "int32")


@pytest.fixture
def images():
    return np.random.default_rng(0).random((64, 4, 4, 1), dtype=np.float32)


def test_a_fair_sample_passes_without_notes(images):
    statistics = input_statistics(images)
    assert check_calibration(images[:40], expected=[IMAGE], statistics=statistics) == ()
    assert check_calibration({"image": images}, expected=[IMAGE]) == ()
    assert check_calibration([images], expected=[IMAGE], statistics=[statistics]) == ()


def test_few_rows_are_noted(images):
    (note,) = check_calibration(images[:3], expected=[IMAGE])
    assert "only 3 calibration row" in note


@pytest.mark.parametrize("rows", [None, [], (), np.zeros((0, 4, 4, 1)), {"image": np.zeros(0)}])
def test_no_rows_would_leave_the_model_in_float(rows):
    with pytest.raises(DataError, match="received none; .* silently stay in floating point"):
        check_calibration(rows, expected=[IMAGE])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.ones((4, 4, 4)),
            r"float32 of shape \(rows, 4, 4, 1\). Received: float64 .*\(4, 4, 4\)",
        ),
        (np.ones((4, 5, 4, 1)), r"\(4, 5, 4, 1\)"),
        (np.full((4, 4, 4, 1), "a"), "Received: <U1"),
        (np.full((4, 4, 4, 1), np.nan), "NaN or infinity in 4 of 4 rows, the first being row 0"),
        ([[1.0], [1.0, 2.0]], "not a regular array"),
        ({"picture": np.ones((4, 4, 4, 1))}, r"inputs \['image'\].*\['picture'\]"),
        (np.float32(3), "received none"),
    ],
)
def test_rows_that_do_not_fit(rows, message):
    with pytest.raises(DataError, match=message):
        check_calibration(rows, expected=[IMAGE])


def test_one_infinite_entry_is_found(images):
    images[17, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="1 of 64 rows, the first being row 17"):
        check_calibration(images, expected=[IMAGE])


def test_integers_out_of_range_and_floats_for_bytes(images):
    with pytest.raises(DataError, match="outside the range of uint8: 0 to 300"):
        check_calibration((images > 0.5) * 300, expected=[BYTES])
    with pytest.raises(DataError, match="must be uint8.*Received: float32"):
        check_calibration(images, expected=[BYTES])


def test_rows_without_spread(images):
    with pytest.raises(DataError, match="All 64 calibration rows are equal"):
        check_calibration(np.repeat(images[:1], 64, axis=0), expected=[IMAGE])
    with pytest.raises(DataError, match="All 64 calibration rows are equal"):
        check_calibration(np.zeros_like(images), expected=[IMAGE])
    with pytest.raises(DataError, match="'image' is 0 everywhere"):
        check_calibration(np.zeros((1, 4, 4, 1)), expected=[IMAGE])


def test_one_constant_input_among_several(images):
    pair = [IMAGE, InputSpec("mask", (2,), "float32")]
    with pytest.raises(DataError, match="'mask' is 1 everywhere"):
        check_calibration((images, np.ones((64, 2))), expected=pair)
    # In training it was constant as well, so this is what the model knows.
    statistics = [input_statistics(images), InputStatistics(1.0, 0.0, 1.0, 1.0, 100)]
    assert check_calibration((images, np.ones((64, 2))), expected=pair, statistics=statistics) == ()


def test_several_inputs_are_named(images):
    pair = [IMAGE, IDS]
    ids = np.arange(64 * 6).reshape(64, 6)
    assert check_calibration((images, ids), expected=pair) == ()
    with pytest.raises(DataError, match="2 inputs.* are one array"):
        check_calibration(images, expected=pair)
    with pytest.raises(DataError, match="The calibration rows have: 3 arrays"):
        check_calibration([images, ids, ids], expected=pair)
    with pytest.raises(DataError, match="differ in their number of rows"):
        check_calibration((images, ids[:5]), expected=pair)
    with pytest.raises(DataError, match="training statistics were given for 1"):
        check_calibration((images, ids), expected=pair, statistics=input_statistics(images))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * 255,  # bytes for fractions
        lambda x: x * 2 - 1,  # centred
        lambda x: (x - x.mean()) / x.std(),  # standardized
        lambda x: x / 255,  # scaled twice
        lambda x: x + 5,
    ],
)
def test_another_scale_than_in_training(images, change):
    with pytest.raises(
        DataError, match="far from the training data: mean .* against .*wrong scale"
    ):
        check_calibration(change(images), expected=[IMAGE], statistics=input_statistics(images))


def test_numbers_of_both_sides_are_named(images):
    with pytest.raises(DataError, match=r"range 0\.\d+ to 25\d.* against 0\.00\d+ to 0\.99"):
        check_calibration(images * 255, expected=[IMAGE], statistics=input_statistics(images))


def test_bytes_given_as_fractions():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (64, 4, 4, 1)).astype("uint8")
    with pytest.raises(DataError, match="wrong scale"):
        check_calibration(pixels // 255, expected=[BYTES], statistics=input_statistics(pixels))


@pytest.mark.parametrize("seed", range(20))
def test_fair_samples_of_odd_data_pass(seed):
    """Heavy tails, rare outliers, one feature, few rows: none is a wrong scale."""
    generator = np.random.default_rng(seed)
    spec = InputSpec("x", (1,), "float32")
    tailed = generator.lognormal(0, 2, (5000, 1))
    outlier = generator.normal(size=(5000, 1))
    outlier[7] = 1e6
    for training in (tailed, outlier, generator.normal(size=(5000, 1))):
        chosen = generator.choice(5000, 40, replace=False)
        for rows in (chosen, chosen[:4], np.append(chosen, 7)):
            check_calibration(
                training[rows], expected=[spec], statistics=input_statistics(training)
            )


def test_indices_are_not_measured_by_distance():
    statistics = InputStatistics(mean=20000.0, std=100.0, min=0.0, max=30000.0, rows=1000)
    ids = np.arange(40 * 6).reshape(40, 6)
    assert check_calibration(ids, expected=[IDS], statistics=statistics) == ()


def test_order_of_a_mapping_is_the_models(images):
    ids = np.arange(64 * 6).reshape(64, 6)
    arrays = calibration_arrays({"ids": ids, "image": images}, expected=[IMAGE, IDS])
    assert [array.shape for array in arrays] == [(64, 4, 4, 1), (64, 6)]
