"""The wheel, installed outside of the checkout in an environment without the demo data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mlxtend", "sklearn", "pandas", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""
RECIPE = """
name: own
data: {source: npz, path: rows.npz, batch_size: 16}
model: {builder: lenet300}
train: {epochs: 1}
steps: [{prune: {sparsity: 0.5, epochs: 1}}]
export: [{litert: {precision: int8}}]
"""


def run(
    *words: str | Path, folder: Path, extra: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3", **(extra or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an environment that holds the wheel, and what it requires here."""
    folder = tmp_path_factory.mktemp("outside")
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    built = run(sys.executable, *words, folder=folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("tfopt-*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    words = ["-m", "pip", "install", "--quiet", "--no-deps", wheel]
    added = run(python, *words, folder=folder)
    assert added.returncode == 0, added.stderr
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    # As a path of its own, so that the editable install beside these packages is not seen.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "sitecustomize.py").write_text(ABSENT)
    return folder


def test_it_holds_what_it_needs_and_is_typed(installed: Path) -> None:
    words = ["-c", "import tfopt; print(tfopt.__file__)"]
    found = run(installed / "env/bin/python", *words, folder=installed)
    package = Path(found.stdout.strip()).parent
    assert package.is_relative_to(installed / "env")
    for name in ("py.typed", "reporting/html/page.css", "reporting/html/page.html.j2"):
        assert (package / name).is_file()


def test_a_recipe_on_rows_of_the_user(installed: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.random((160, 8, 8, 1), np.float32)
    labels = (images.mean(axis=(1, 2, 3)) > 0.5).astype(np.int64)
    rows = {"x_train": images[:128], "y_train": labels[:128]}
    np.savez(installed / "rows.npz", **rows, x_test=images[128:], y_test=labels[128:])
    (installed / "own.yaml").write_text(RECIPE)
    command = [installed / "env/bin/tfopt", "run", "own.yaml", "--output", "out", "--quiet"]
    found = run(*command, folder=installed)
    assert found.returncode == 0, found.stderr
    assert json.loads((installed / "out/results.json").read_text())["status"] == "ok"
    assert "<svg" in (installed / "out/report.html").read_text()


@pytest.mark.parametrize("source", ["mnist5k", "digits"])
def test_demo_data_names_the_command_that_installs_it(installed: Path, source: str) -> None:
    recipe = RECIPE.replace("source: npz, path: rows.npz", f"source: {source}")
    (installed / f"{source}.yaml").write_text(recipe)
    command = [installed / "env/bin/tfopt", "run", f"{source}.yaml", "--output", source]
    found = run(*command, folder=installed)
    assert found.returncode == 5
    assert "Run: pip install 'tfopt[demo]'" in found.stderr
    assert not (installed / source).exists()
