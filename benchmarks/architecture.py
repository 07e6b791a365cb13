"""Measure the layout of the package: sizes, imports, comments, and what a new part touches.

    python benchmarks/architecture.py              # this checkout
    python benchmarks/architecture.py --root OTHER # another one, such as one before a change

Counted from the source alone, with `ast`; nothing of the package is imported. Lines are
physical lines. A function's length is from its `def` to its last line. Fan-out of a module is
the number of other modules of the package that it imports, wherever the import stands. Comment
lines hold a comment and nothing else; the rate is per 1,000 lines.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "tfopt"


@dataclass(frozen=True)
class Module:
    """One module: its dotted name, source text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Return the number of physical lines."""
        return len(self.text.splitlines())


def read(folder: Path, root: Path) -> list[Module]:
    """Return all modules below a folder, sorted by path."""
    return [
        Module(dotted(path, root), path, text := path.read_text(encoding="utf-8"), ast.parse(text))
        for path in sorted(folder.rglob("*.py"))
    ]


def dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def function_lengths(modules: list[Module]) -> list[int]:
    """Return the lengths of all functions and methods, in lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for module in modules for node in ast.walk(module.tree))
    return sorted(node.end_lineno - node.lineno + 1 for node in nodes if isinstance(node, kinds))


def imports(module: Module, known: set[str]) -> set[str]:
    """Return the modules of the package that a module imports."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return (found & known) - {module.name, PACKAGE}


def comment_lines(module: Module) -> int:
    """Return the number of lines that hold a comment and nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return sum(
        token.type == tokenize.COMMENT and token.line.lstrip().startswith("#") for token in tokens
    )


def room(name: str) -> str:
    """Return the package that a module lies in, a module at the root standing for itself."""
    return name.split(".")[1] if "." in name else name


def repeated_classes(modules: list[Module]) -> list[str]:
    """Return the class names that exist in more than one module."""
    places: dict[str, set[str]] = {}
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, set()).add(module.name)
    return sorted(name for name, where in places.items() if len(where) > 1)


def percentile(values: list[int], share: float) -> int:
    return values[min(len(values) - 1, round(share * (len(values) - 1)))]


def rows(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each figure with its name."""
    modules = read(root / PACKAGE, root)
    tests = read(root / "tests", root)
    known = {module.name for module in modules}
    lines = sum(module.lines for module in modules)
    lengths = function_lengths(modules)
    fan_out = {module.name: len(imports(module, known)) for module in modules}
    widest = max(fan_out, key=lambda name: fan_out[name])
    at_root = [module for module in modules if module.path.parent == root / PACKAGE]
    arrows = {
        (room(module.name), room(other)) for module in modules for other in imports(module, known)
    }
    longest = max(modules, key=lambda module: module.lines)
    yield "modules / thousand lines", f"{len(modules)} / {lines / 1000:.0f}"
    yield "files at the root", str(len(at_root))
    yield (
        "function length, median / p99 / max",
        (f"{percentile(lengths, 0.5)} / {percentile(lengths, 0.99)} / {lengths[-1]}"),
    )
    yield "longest file", f"{longest.lines} ({longest.name})"
    yield (
        "fan-out, mean / max",
        (f"{statistics.mean(fan_out.values()):.1f} / {fan_out[widest]} ({widest})"),
    )
    yield (
        "rooms at the top / arrows between them",
        (f"{len({room(name) for name in known})} / {len({(a, b) for a, b in arrows if a != b})}"),
    )
    comments = sum(map(comment_lines, modules))
    yield "comment lines per 1,000", f"{1000 * comments / lines:.0f}"
    yield "tests : code", f"{sum(module.lines for module in tests) / lines:.2f}"
    repeated = repeated_classes(modules)
    yield "class names in two modules", f"{len(repeated)} {' '.join(repeated)}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to measure")
    for name, value in rows(parser.parse_args().root.resolve()):
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
