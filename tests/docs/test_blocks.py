"""What README.md and the pages of docs/ tell people to type works: programs, recipes, commands.

The blocks of a page are run in order, in one folder and one namespace. A comment on the line before
a block, ``<!-- test: ...; ... -->``, changes that:

- ``not run, REASON`` or ``parsed only, REASON``: commands are read by the program's own parser.
- ``needs PACKAGE``: the page's test ends here where it is missing.
- ``given NAME``: files or names that the reader has, from ``GIVEN``.
- ``exits N``: the commands end with this exit code.
- ``wrong recipe``: the recipe is refused.
- ``printed``: a text block that the block before it printed; ``...`` stands for anything.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from tfopt.cli.main import app
from tfopt.config.load import load_recipe
from tfopt.errors import RecipeError

pytestmark = pytest.mark.e2e

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))
BLOCK = re.compile(
    r"(?:^<!-- test: (?P<notes>.*?) -->\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<file>.*?)")?\n(?P<text>.*?)^```$',
    flags=re.MULTILINE | re.DOTALL,
)
FRAME = {
    "name": "frame",
    "data": {"source": "digits"},
    "model": {"builder": "lenet300"},
    "train": {"epochs": 24},
}
"""A recipe that a block with some sections is put into."""

FOREIGN = ("horovodrun", "mpirun", "pip")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it shows, its notes for this test, its text."""

    language: str
    file: str
    notes: tuple[str, ...]
    text: str

    @property
    def is_run(self) -> bool:
        return not any(note.startswith(("not run,", "parsed only,")) for note in self.notes)

    def notes_on(self, kind: str) -> list[str]:
        return [note.removeprefix(f"{kind} ") for note in self.notes if note.startswith(f"{kind} ")]


@dataclass
class Reader:
    """Someone who types what a page says: a folder, the names of a session, what was printed."""

    folder: Path
    tfopt: Run
    printed: Callable[[], str]
    names: dict[str, Any] = field(default_factory=dict)
    output: str = ""


def page_text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    return [
        Block(
            found["language"],
            found["file"] or "",
            tuple(re.split(r"; ", found["notes"])) if found["notes"] else (),
            found["text"],
        )
        for found in BLOCK.finditer(page_text(page))
    ]


# The pages hold what this file looks for.


def test_every_fenced_block_was_found() -> None:
    for page in PAGES:
        fences = re.findall(r"^```", page_text(page), flags=re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), page
    languages = [block.language for page in PAGES for block in blocks_of(page)]
    assert languages.count("python") >= 10
    assert languages.count("yaml") >= 15
    assert languages.count("shell") >= 20
    assert set(languages) == {"python", "yaml", "shell", "text"}


def test_a_block_that_is_not_run_says_why() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            reasons = [note.partition(", ")[2] for note in block.notes if ", " in note]
            assert block.is_run or all(len(reason) > 8 for reason in reasons), (page, block)
            if block.language == "text":
                assert block.notes == ("printed",) or not block.is_run, (page, block)


# The blocks of a page, in order.

RUN = [page for page in PAGES if any(block.is_run for block in blocks_of(page))]

MADE = {
    "README.md": ("model.tflite",),
    "docs/distillation.md": ("student.keras", "out/results.json"),
    "docs/export.md": ("model.tflite",),
    "docs/keras3.md": ("pruned.keras", "model-tf_keras.keras"),
    "docs/recipes.md": ("out/report.html", "pruned/report.html", "small/results.json"),
    "docs/transfer-learning.md": ("tuned.keras",),
    "docs/transformers.md": ("tuned.keras",),
}
"""Files that a page has made when all of it was typed."""


@pytest.mark.filterwarnings("default")  # a reader's session has no filter of ours
@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_work(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    shelf: Path,
    digits: Any,
    tfopt: Run,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    reader = Reader(tmp_path, tfopt, lambda: "".join(capfd.readouterr()))
    for block in blocks_of(page):
        for package in block.notes_on("needs"):
            if find_spec(package) is None:
                pytest.skip(f"{page} goes on with what needs {package}")
        for name in block.notes_on("given"):
            GIVEN[name](reader, shelf, digits)
        if block.is_run:
            DOES[block.language](block, reader)
    for name in MADE.get(page, ()):
        assert (tmp_path / name).stat().st_size > 500, name


def run_python(block: Block, reader: Reader) -> None:
    reader.printed()
    exec(compile(block.text, "block", "exec"), reader.names)
    reader.output = reader.printed()


def run_yaml(block: Block, reader: Reader) -> None:
    """Check a recipe, or some sections of one, and write the file that the block shows."""
    path = reader.folder / (block.file or "fragment.yaml")
    raw = yaml.safe_load(block.text)
    path.write_text(block.text if "name" in raw else yaml.safe_dump({**FRAME, **raw}))
    if "wrong recipe" in block.notes:
        with pytest.raises(RecipeError):
            load_recipe(path)
    else:
        load_recipe(path)


def run_shell(block: Block, reader: Reader) -> None:
    expected = int((block.notes_on("exits") or ["0"])[0])
    reader.output = ""
    for command in commands_in(block.text):
        program, *words = shlex.split(command)
        assert program == "tfopt", f"cannot run {command!r}: say so in a note before the block"
        found = reader.tfopt(*words)
        assert found.code == expected, f"{command}: {found.err}"
        reader.output += found.out + found.err


def compare_text(block: Block, reader: Reader) -> None:
    for line in block.text.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("..."))
        assert re.search(pattern, reader.output), f"{line!r} is not in {reader.output!r}"


DOES: dict[str, Callable[[Block, Reader], None]] = {
    "python": run_python,
    "yaml": run_yaml,
    "shell": run_shell,
    "text": compare_text,
}


# What the reader has at hand.


def digits_files(reader: Reader, shelf: Path, digits: Any) -> None:
    images, labels = digits
    shutil.copy(shelf / "model.keras", reader.folder / "model.keras")
    np.savez(reader.folder / "data.npz", x=images[:600], y=labels[:600])


def classifier(reader: Reader, shelf: Path, digits: Any) -> None:
    import tf_keras

    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 8)).astype(np.float32)
    layers = [tf_keras.Input((8,)), tf_keras.layers.Dense(2, "softmax")]
    reader.names.update(
        model=tf_keras.Sequential(layers),
        x=x,
        y=(x.sum(axis=1) > 0).astype(np.int64),
        path=reader.folder / "checkpoint.npz",
    )


def teacher_files(reader: Reader, shelf: Path, digits: Any) -> None:
    reader.names["teacher"].save("teacher.keras")
    reader.names["student"].save("small.keras")
    np.savez("data.npz", x=reader.names["x"], y=reader.names["y"])


def large_gpt2(reader: Reader, shelf: Path, digits: Any) -> None:
    import tf_keras
    from tokenizers.pre_tokenizers import ByteLevel

    from tfopt.models.transformers.build import gpt2

    folder = reader.folder / "gpt2_folder"
    folder.mkdir()
    pieces = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    shapes = {"input_ids": (64,), "attention_mask": (64,)}
    reader.names.update(
        gpt2=gpt2(shapes, 2, vocabulary=257, layers=1, hidden=16, heads=2),
        student=reader.names["model"],
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def photos(reader: Reader, shelf: Path, digits: Any) -> None:
    (reader.folder / "photos" / "cat").mkdir(parents=True)


def mails(reader: Reader, shelf: Path, digits: Any) -> None:
    (reader.folder / "mails.csv").write_text("body,kind\nhello,good\n")


def backbone(reader: Reader, shelf: Path, digits: Any) -> None:
    shutil.copy(shelf / "model.keras", reader.folder / "backbone.keras")


GIVEN = {
    "backbone": backbone,
    "digits files": digits_files,
    "photos": photos,
    "mails": mails,
    "classifier": classifier,
    "teacher files": teacher_files,
    "gpt2": large_gpt2,
}


# Commands that are not run are read by the programs' own parsers.


def commands_in(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := re.sub(r"\s+# .*", "", line.strip()))]


def commands_of(page: str) -> list[str]:
    """Return the commands of a page: in shell blocks and in indented lines."""
    text = page_text(page)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    ((?:tfopt|make|python) .*)$", outside, flags=re.MULTILINE)
    shell = [block.text for block in blocks_of(page) if block.language == "shell"]
    return [command for part in (*shell, *indented) for command in commands_in(part)]


def parse(command: str) -> None:
    """Parse the words of a ``tfopt`` command as the program does, and do nothing."""
    verb, *words = shlex.split(command)[1:]
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    with verbs[verb].make_context(f"tfopt {verb}", words):
        pass


def check(command: str) -> None:
    """Raise if a command names a verb, option, file, module or target that does not exist."""
    program, *words = shlex.split(command)
    for word in words:
        if word.startswith(("configs/", "scripts/", "benchmarks/")):
            assert (ROOT / word).is_file(), word
    if program == "make":
        targets = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[0]}:", targets, flags=re.MULTILINE), command
    elif program == "tfopt":
        parse(command)
    elif program == "python" and words[0] == "-m":
        assert find_spec(words[1]), command
    elif program == "python" and words[0].startswith("scripts/"):
        parse(shlex.join(["tfopt", Path(words[0]).stem, *words[1:]]))
    elif program == "python" and words[0].startswith("benchmarks/"):
        text = (ROOT / words[0]).read_text()
        assert all(f'"{word}"' in text for word in words[1:] if word.startswith("--")), command
    else:
        assert program in FOREIGN, command


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_exist_with_their_options(page: str) -> None:
    for command in commands_of(page):
        check(command)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_in_the_text_exists(page: str) -> None:
    """Verbs and options, programs, recipes, and modules, in backticks or quotes."""
    text = re.sub(r"^```.*?^```$", "", page_text(page), flags=re.MULTILINE | re.DOTALL)
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for verb, words in re.findall(r"`tfopt ([a-z]+)([^`]*)`", text):
        options = {
            name for each in verbs[verb].params for name in (*each.opts, *each.secondary_opts)
        }
        before = words.partition(" -- ")[0]
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", before)) <= options | {"--help"}, words
    for name in re.findall(r"`(?:python )?((?:configs|scripts|benchmarks|tests)/[\w./]+)", text):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"python -m (tfopt[\w.]+)", page_text(page)):
        assert find_spec(module), module


@pytest.mark.parametrize(
    "command",
    [
        "tfopt prun a.keras",
        "tfopt prune a.keras --sparsty 0.5",
        "make demos",
        "python -m tfopt.nothing",
        "python benchmarks/lenet.py --sede 1",
        "rm -r out",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(command: str) -> None:
    with pytest.raises((KeyError, AssertionError, typer.BadParameter.__mro__[1])):
        check(command)


def test_a_block_that_fails_would_be_found(tmp_path: Path, tfopt: Run) -> None:
    reader = Reader(tmp_path, tfopt, str, output="error: 1 problem")
    with pytest.raises(ZeroDivisionError):
        run_python(Block("python", "", (), "1 / 0"), reader)
    with pytest.raises(RecipeError, match="sparsty"):
        run_yaml(Block("yaml", "", (), "steps:\n  - prune: {sparsty: 1}\n"), reader)
    with pytest.raises(AssertionError, match="tfopt plan"):
        run_shell(Block("shell", "", (), "tfopt plan missing.yaml\n"), reader)
    with pytest.raises(AssertionError, match="2 problems"):
        compare_text(Block("text", "", (), "error: ... 2 problems\n"), reader)


# README.md.


def test_the_recipe_of_the_readme_is_that_of_configs() -> None:
    (shown,) = [block for block in blocks_of("README.md") if block.language == "yaml"]
    whole = yaml.safe_load((ROOT / "configs/lenet5_mnist.yaml").read_text())
    assert shown_otherwise(yaml.safe_load(shown.text), whole) == []


def shown_otherwise(shown: Any, whole: Any, where: str = "") -> list[str]:
    """Return the settings in a shortened recipe that the whole one has not, or not so."""
    if isinstance(shown, dict) and isinstance(whole, dict):
        pairs = [(key, shown[key], whole.get(key)) for key in shown]
    elif isinstance(shown, list) and isinstance(whole, list) and len(shown) == len(whole):
        pairs = list(zip(range(len(shown)), shown, whole, strict=True))
    else:
        return [] if shown == whole else [f"{where}: {shown}, not {whole}"]
    return [line for key, *both in pairs for line in shown_otherwise(*both, f"{where}.{key}")]


def test_the_readme_is_short() -> None:
    assert len(page_text("README.md").splitlines()) <= 160
