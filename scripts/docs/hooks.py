"""What mkdocs does besides turning docs/*.md into pages: pages that are made from the program.

The home page is README.md, with links as seen from the site; the change log and CONTRIBUTING are
the files at the root; the settings of recipes and the verbs of the command are read off the code,
which imports no TensorFlow for that.
"""

from __future__ import annotations

import re
from pathlib import Path

import typer
from command_reference import command_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from recipe_reference import recipe_page

from tfopt.cli.main import app
from tfopt.config.schema import Recipe

ROOT = Path(__file__).resolve().parents[2]
FROM_ROOT = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every decision into the navigation, in the order of their numbers."""
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    for entry in config.nav or []:
        if "Decisions" in entry:
            entry["Decisions"] += [f"decisions/{page.name}" for page in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in docs/ holds."""
    pages = {page: _from_root(name) for page, name in FROM_ROOT.items()}
    pages["recipe-settings.md"] = recipe_page(Recipe)
    pages["command-line.md"] = command_page(typer.main.get_command(app))
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def _from_root(name: str) -> str:
    """Return a file at the repository's root with its links as they are in the site."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for page, original in FROM_ROOT.items():
        text = text.replace(f"]({original})", f"]({page})")
    return re.sub(r"\[([^\]]+)\]\(LICENSE\)", r"\1", text)
