from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
before = dict(os.environ)
import {module}
import tensorflow as tf
changed = {{k for k in before.keys() | os.environ.keys() if before.get(k) != os.environ.get(k)}}
print(tf.keras.Model.__module__.split('.')[0], os.environ.get('TF_USE_LEGACY_KERAS'),
      'TF_USE_LEGACY_KERAS' in changed)
from tfopt.compression.pruning.magnitude import Prune
from tfopt.config.schema import PruneStep
from tfopt.keras2.core import keras
L = keras.layers
model = keras.Sequential([L.Input((4, 3)), L.LSTM(2), L.Dense(2)])
print([entry.done for entry in Prune(PruneStep()).decide(model)])
"""


@pytest.mark.parametrize(("variable", "kind"), [(None, "keras"), ("0", "keras"), ("1", "tf_keras")])
def test_importing_tfmot_changes_nothing_in_the_process(variable: str | None, kind: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    if variable is not None:
        environment["TF_USE_LEGACY_KERAS"] = variable
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module="tfopt.compression.quantization.qat")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second = found.stdout.splitlines()
    assert first == f"{kind} {variable} False"
    # The passes work the same whatever tf.keras is.
    assert second == "[True, True]"


def test_plain_tfmot_does_change_it() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    program = (
        "import os, tensorflow_model_optimization, tensorflow as tf\n"
        "print(tf.keras.Model.__module__.split('.')[0], os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["tf_keras", "1"]
