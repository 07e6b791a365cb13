import numpy as np
import pytest

from tfopt.config.schema import Data
from tfopt.data.load import load_data
from tfopt.data.split import ArraySplit
from tfopt.errors import DataError, ExitCode, InputError


@pytest.mark.parametrize(
    "returned",
    [
        "((x, y), (x[:5], y[:5]))",
        "{'train': (x, y), 'evaluation': (x[:5], y[:5])}",
        "(dataset(x, y), dataset(x[:5], y[:5]))",
    ],
)
def test_own_function_may_return_its_evaluation(own, returned):
    path = own(
        "def dataset(*parts):\n"
        "    return tf.data.Dataset.from_tensor_slices(parts).batch(4)\n"
        "def load():\n"
        "    x, y = np.zeros((20, 3), np.float32), np.arange(20) % 2\n"
        f"    return {returned}\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert (data.train.examples, data.evaluation.examples) == (20, 5)
    assert data.classes == 2
    assert isinstance(data.train, ArraySplit)


def test_own_dict_may_name_classes_and_validation(own):
    path = own(
        "def load():\n"
        "    x, y = np.arange(20.0)[:, None], np.array(['no', 'yes'] * 10)\n"
        "    return {'train': (x, y), 'validation': (x[:4], y[:4]), 'classes': ['yes', 'no']}\n"
    )
    data = load_data(Data(source=path), seed=0)
    assert data.class_names == ("yes", "no")
    assert np.array_equal(data.train.labels, (data.train.inputs[:, 0] + 1) % 2)
    assert data.validation.labels.tolist() == [1, 0, 1, 0]


OWN_FAILURES = {
    "raises": ("def load():\n    return {}['cat']\n", {}, "failed: KeyError: 'cat'"),
    "wrong argument": (
        "def load(rows):\n    return rows\n",
        {"row": 3},
        r"data.arguments \(row\): .*accepts \(rows\)",
    ),
    "missing argument": ("def load(rows):\n    return rows\n", {}, "missing a required argument"),
    "none": (
        "def load():\n    return None\n",
        {},
        "returned no training data",
    ),
    "no training": ("def load():\n    return {'train': None}\n", {}, "no training data"),
    "unknown key": (
        "def load():\n    return {'train': None, 'evalution': None}\n",
        {},
        "'evalution'. Did you mean 'evaluation'",
    ),
    "no labels": ("def load():\n    return np.zeros((20, 3))\n", {}, "train data has no labels"),
    "classes": (
        "def load():\n    return {'train': (np.zeros((9, 3)), np.arange(9)), 'classes': 5}\n",
        {},
        "A label is 8, but there are 5 classes",
    ),
    "classes kind": (
        "def load():\n    return {'train': (np.zeros((9, 3)), np.arange(9)), 'classes': 'x'}\n",
        {},
        "number or a list of names",
    ),
    "shapes differ": (
        "def load():\n    y = np.arange(4) % 2\n"
        "    return ((np.zeros((4, 3)), y), (np.zeros((4, 2)), y))\n",
        {},
        r"training example has shape \(3,\), one evaluation example \(2,\)",
    ),
    "mixed labels": (
        "def load():\n    x = np.zeros((2, 3))\n    return ((x, ['a', 'b']), (x, [0, 1]))\n",
        {},
        "train: text, evaluation: numbers",
    ),
    "kinds differ": (
        "def load():\n    x = np.zeros((2, 3))\n    return ((x, [0, 1]), (x, [0.5, 1.5]))\n",
        {},
        "train: 2 classes, evaluation: numbers",
    ),
    "negative": (
        "def load():\n    return np.zeros((4, 3)), np.array([-1, 1, -1, 1])\n",
        {},
        "whole numbers from 0.*values such as -1, 1",
    ),
    "unclear": (
        "def load():\n    return np.zeros((4, 3)), np.array([25000, 31000, 47000, 52000])\n",
        {},
        "Set data.task",
    ),
    "multi-label": (
        "def load():\n    return np.zeros((4, 3)), np.array([[1, 1], [0, 0], [1, 0], [0, 1]])\n",
        {},
        "Set data.task",
    ),
    "one row": (
        "def load():\n    return np.zeros((1, 3)), [0]\n",
        {},
        "1 example cannot be divided",
    ),
    "unknown class": (
        "def load():\n"
        "    return {'train': (np.zeros((2, 3)), ['cat', 'dogg']), 'classes': ['cat', 'dog']}\n",
        {},
        "'dogg' is not a class. Did you mean 'dog'",
    ),
}


@pytest.mark.parametrize("name", OWN_FAILURES)
def test_failures_of_an_own_function_are_named(own, name):
    body, arguments, message = OWN_FAILURES[name]
    with pytest.raises(DataError, match=message) as caught:
        load_data(Data(source=own(body), arguments=arguments), seed=0)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert "\n" not in str(caught.value)


def test_own_object_that_is_no_function(own):
    with pytest.raises(DataError, match="is not a function. Received: int"):
        load_data(Data(source=own("load = 3\n")), seed=0)
    with pytest.raises(InputError, match="has no 'laod'. Did you mean 'load'"):
        load_data(Data(source=own("load = 3\n", function="laod")), seed=0)
