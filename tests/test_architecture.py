"""Imports go down, heavy packages have one door, and the light part stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tfopt.config import components
from tfopt.config.load import load_recipe
from tfopt.registry import resolve

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tfopt"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {"errors"},
    {"results", "version"},
    {"storage", "registry", "keras2"},
    {"reporting", "runtimes", "config", "bridge"},
    {"evaluation", "distributed", "models"},
    {"data", "compression"},
    {"training", "export"},
    {"distillation"},
    {"pipeline"},
    {"api"},
    {"callbacks", "strategies"},
    {"cli", "__init__"},
    {"__main__"},
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

DOORS = {
    "tf_keras": {"keras2"},
    "keras": {"bridge"},
    "tensorflow_model_optimization": {"compression"},
    "ai_edge_litert": {"runtimes"},
    "horovod": {"distributed"},
    "onnxruntime": {"runtimes"},
    "tokenizers": {"data"},
    "safetensors": {"models"},
}
LIGHT = (
    "cli",
    "config",
    "distributed.launch",
    "errors",
    "evaluation.comparison",
    "evaluation.metrics",
    "registry",
    "reporting",
    "results",
    "storage",
    "version",
)
"""Modules and packages that import neither TensorFlow nor Keras."""


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_light(path: Path) -> bool:
    """Return whether a module lies in the part that imports nothing heavy."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return any(f"{name}.".startswith(f"{light}.") for light in LIGHT)


def imported(path: Path) -> list[str]:
    """Return the dotted names of all imports in a module, wherever they stand."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_the_package_was_found() -> None:
    assert len(MODULES) > 60
    assert len(list(PACKAGE.glob("*.py"))) <= 8
    assert {part_of(path) for path in MODULES} <= set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    names = [name for name in imported(path) if name.startswith("tfopt.")]
    # `from tfopt import __version__` names an attribute, not a part.
    used = {name.split(".")[1] for name in names} - {part, "__version__"}
    wrong = {other for other in used if RANK[other] >= RANK[part]}
    if part == "__init__":
        wrong = set()
    assert not wrong, f"{path.name} may not import {sorted(wrong)}"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_class_names_are_unique() -> None:
    places: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, set()).add(str(path.relative_to(PACKAGE)))
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count too."""
    known = {module_name(path) for path in MODULES} - {"tfopt"}
    arrows = {
        module_name(path): {
            name if name in known else name.rpartition(".")[0] for name in imported(path)
        }
        & known - {module_name(path)}
        for path in MODULES
    }
    while leaves := {name for name, used in arrows.items() if not used & set(arrows)}:
        arrows = {name: used for name, used in arrows.items() if name not in leaves}
    assert not arrows, f"these import each other, or what does: {sorted(arrows)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_have_one_door(path: Path) -> None:
    for name in imported(path):
        top = name.split(".")[0]
        assert part_of(path) in DOORS.get(top, {part_of(path)}), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_tf_keras_is_never_reached_through_tensorflow(path: Path) -> None:
    if path.name in ("tfmot.py", "doctor.py"):
        return  # these look at tf.keras in order to leave it alone
    reached = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("tf.keras", "tensorflow.keras")
    ]
    assert not reached
    assert not [name for name in imported(path) if name.startswith("tensorflow.keras")]


def test_the_light_part_imports_nothing_heavy() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if is_light(path)
    ]
    assert "tfopt.errors" in modules
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'tensorflow', 'keras', 'tf_keras', 'ai_edge_litert', 'sklearn', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_and_sizes(path: Path) -> None:
    assert path.stem not in {"utils", "common", "helpers", "misc", "manager"}
    assert len(path.read_text().splitlines()) <= 500


def test_every_package_has_tests() -> None:
    packages = {path.parent.relative_to(PACKAGE) for path in MODULES if path.name == "__init__.py"}
    missing = [
        str(package)
        for package in sorted(packages - {Path()})
        if not list((ROOT / "tests" / package).rglob("test_*.py"))
    ]
    assert not missing


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (table, name)
        for table in (components.SOURCES, components.BUILDERS, components.PASSES)
        for name in table
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_entry_of_a_table_resolves(table: dict[str, str], name: str) -> None:
    assert callable(resolve(table, "component", name))


CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def test_the_configs_were_found() -> None:
    assert len(CONFIGS) >= 4


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configs_are_valid_and_say_how_to_run(path: Path) -> None:
    assert path.read_text().splitlines()[0] == f"# tfopt run {path.relative_to(ROOT)}"
    assert load_recipe(path).name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name
)
def test_scripts_are_thin(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 8
    assert f'script("{path.stem}")' in path.read_text()
