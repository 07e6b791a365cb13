"""The public names: listed once, each loading its own part alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfopt

ROOT = Path(__file__).resolve().parent.parent

IMPORT = """
import os, sys
before = dict(os.environ), list(sys.path)
import tfopt
assert (dict(os.environ), sys.path) == before
print(sorted({"tensorflow", "keras", "tf_keras", "yaml", "pydantic", "numpy"} & set(sys.modules)))
print([name for name in tfopt.__all__ if name in dir(tfopt)] == tfopt.__all__)
import tensorflow as tf
first = tf.keras.Model.__module__
tfopt.prune, tfopt.load
print(first == tf.keras.Model.__module__, "TF_USE_LEGACY_KERAS" in os.environ)
"""

LOADS = """
import sys
import tfopt
horovod = "tfopt.distributed.horovod.optimizer", "tfopt.distributed.horovod.library", "horovod"
tfmot = "tfopt.compression.tfmot", "tensorflow_model_optimization"
def loaded(names):
    return [name for name in names if name in sys.modules]
tfopt.tokenize
print(loaded([*horovod, *tfmot, "tfopt.training.loop"]))
tfopt.load, tfopt.save
print(loaded([*horovod, "tfopt.training.loop"]))
tfopt.export_litert, tfopt.prune, tfopt.distill, tfopt.fine_tune
print(loaded([horovod[0], horovod[2]]))
tfopt.DistributedOptimizer
print(loaded(horovod[:1]) == [horovod[0]])
"""


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_tfopt_changes_nothing_in_the_process() -> None:
    assert run(IMPORT) == ["[]", "True", "True False"]


def test_each_name_loads_its_own_part_alone() -> None:
    assert run(LOADS) == ["[]", "[]", "[]", "True"]


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'tfopt' has no attribute 'prun'"):
        tfopt.prun  # noqa: B018  # type: ignore[attr-defined]


def test_every_name_is_there() -> None:
    for name in tfopt.__all__:
        assert getattr(tfopt, name) is not None


def test_type_checkers_see_the_same_names() -> None:
    """The stub has a line for each name; after a change of ``_PUBLIC`` it is changed too."""
    homes = {"__version__": "tfopt.version", **tfopt._PUBLIC}
    found = {}
    for node in ast.parse((ROOT / "tfopt" / "__init__.pyi").read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "a stub exports only what is imported as itself"
            is_module = node.module == "tfopt"
            found[alias.name] = f"tfopt.{alias.name}" if is_module else node.module
    assert found == homes
