import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Augment, Data
from tfopt.data import load
from tfopt.data.load import load_data
from tfopt.data.split import ArraySplit, StreamSplit
from tfopt.errors import DataError, InputError


def test_validation_and_limit_are_seeded_stratified_and_disjoint():
    settings = Data(source="digits", limit=500, validation_fraction=0.2)
    data = load_data(settings, seed=1)
    assert (data.train.examples, data.validation.examples) == (400, 100)
    assert data.evaluation.examples == 359
    assert np.ptp(np.bincount(data.validation.labels)) <= 1
    rows = {row.tobytes() for row in data.train.inputs}
    assert not rows & {row.tobytes() for row in data.validation.inputs}
    again = load_data(settings, seed=1)
    assert np.array_equal(data.validation.inputs, again.validation.inputs)
    other = load_data(settings, seed=2)
    assert not np.array_equal(data.validation.inputs, other.validation.inputs)


def test_unknown_source_has_a_suggestion():
    with pytest.raises(InputError, match="No data source is named 'mnist'. Did you mean 'mnist5k'"):
        load_data(Data(source="mnist"), seed=0)


def test_arguments_of_a_built_in_source_are_refused():
    with pytest.raises(DataError, match="takes none. Remove: size"):
        load_data(Data(source="digits", arguments={"size": 3}), seed=0)


def test_augmentation_is_checked_before_training(own):
    path = own("def load():\n    return np.zeros((20, 3)), np.arange(20) % 2\n")
    with pytest.raises(DataError, match="exactly one image input"):
        load_data(Data(source=path, augment=Augment(shift=0.1)), seed=0)


def test_own_arrays_are_divided_in_proportion(own):
    path = own(
        "def load(rows, width=3):\n"
        "    return np.arange(rows * width).reshape(rows, width), np.sort(np.arange(rows) % 4)\n"
    )
    settings = Data(source=path, arguments={"rows": 40}, evaluation_fraction=0.25)
    data = load_data(settings, seed=0)
    assert data.evaluation.examples == 10
    assert np.ptp(np.bincount(data.evaluation.labels)) <= 1
    assert data.classes == 4
    assert data.input_shape == (3,)
    assert set(data.train.inputs[:, 0]) | set(data.evaluation.inputs[:, 0]) == set(range(0, 120, 3))


SHUFFLED = (
    "def load():\n"
    "    rows = np.arange(200, dtype='f4')[:, None], np.arange(200) % 2\n"
    "    return tf.data.Dataset.from_tensor_slices(rows).shuffle(200).batch(10)\n"
)


def test_rows_held_out_of_a_shuffling_pipeline_are_never_trained_on(own):
    data = load_data(Data(source=own(SHUFFLED), validation_fraction=0.2), seed=0)
    seen = [
        {float(value) for inputs, _ in split.numpy_batches(50) for value in inputs[:, 0]}
        for split in (data.train, data.evaluation, data.validation)
    ]
    assert [len(rows) for rows in seen] == [128, 40, 32]
    assert seen[0] | seen[1] | seen[2] == set(range(200))
    with pytest.raises(DataError, match="rows cannot be held out of it"):
        load_data(Data(source=own(SHUFFLED), cache="never"), seed=0)


def test_cache_policy(own, monkeypatch):
    stable = own(SHUFFLED.replace(".shuffle(200)", ""))
    assert isinstance(load_data(Data(source=stable), seed=0).train, ArraySplit)
    assert isinstance(load_data(Data(source=stable, cache="never"), seed=0).train, StreamSplit)
    monkeypatch.setattr(load, "CACHE_LIMIT_BYTES", 100)
    assert isinstance(load_data(Data(source=stable), seed=0).train, StreamSplit)
    assert isinstance(load_data(Data(source=stable, cache="always"), seed=0).train, ArraySplit)


def test_a_pipeline_that_augments_is_not_frozen_but_evaluation_is(own):
    path = own(SHUFFLED.replace("return ", "data = ") + "    return data, data\n")
    data = load_data(Data(source=path), seed=0)
    assert isinstance(data.train, StreamSplit)
    assert isinstance(data.evaluation, ArraySplit)


def test_endless_own_dataset_is_refused(own):
    path = own(SHUFFLED.replace(".batch(10)", ".batch(10).repeat()"))
    with pytest.raises(DataError, match="never ends"):
        load_data(Data(source=path), seed=0)


def test_several_inputs_have_nested_shapes(own):
    path = own(
        "def load():\n"
        "    return {'a': np.zeros((20, 3)), 'b': np.zeros((20, 2, 2))}, np.arange(20) % 2\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert data.input_shape == {"a": (3,), "b": (2, 2)}
    assert tf.nest.flatten(data.train.input_spec)[1].shape == (2, 2)
