"""The table of ``tfopt plan``: for each layer, what each step will do or skip, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from tfopt.reporting.console.text import aligned, is_terminal, printable
from tfopt.reporting.text import value_text
from tfopt.results import LayerDecision


def print_decisions(decisions: Mapping[str, Sequence[LayerDecision]], *, stream: TextIO) -> None:
    """Print a table of layers by steps.

    Args:
        decisions: Name of each step, in order, to its decisions in model order.
        stream: Where to write; aligned plain text unless it is a terminal.
    """
    rows = decision_rows(decisions)
    if len(rows) == 1:
        stream.write("No step decides on any layer.\n")
        return
    clean = [[printable(cell, stream) for cell in row] for row in rows]
    if is_terminal(stream):
        _print_table(clean, stream)
        return
    stream.writelines(f"{line}\n" for line in aligned(clean))


def decision_rows(decisions: Mapping[str, Sequence[LayerDecision]]) -> list[list[str]]:
    """Return a header and one row a layer, in the order in which layers first appear."""
    kinds = {entry.layer: entry.kind for entries in decisions.values() for entry in entries}
    by_step = [{entry.layer: entry for entry in entries} for entries in decisions.values()]
    rows = [["layer", "kind", *decisions]]
    for layer, kind in kinds.items():
        rows.append([layer, kind, *(_cell(step.get(layer)) for step in by_step)])
    return rows


def _cell(decision: LayerDecision | None) -> str:
    if decision is None:
        return "-"
    values = ", ".join(
        f"{name.replace('_', ' ')} {value_text(name, value)}"
        for name, value in decision.values.items()
    )
    verb = "do" if decision.done else "skip"
    return f"{verb}: {decision.reason}{f' ({values})' if values else ''}"


def _print_table(rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    header, *body = rows
    table = Table(header_style="bold")
    for title in header:
        table.add_column(Text(title), overflow="fold")
    for layer, kind, *cells in body:
        styled = [Text(cell, style="yellow" if cell.startswith("skip") else "") for cell in cells]
        table.add_row(Text(layer, style="bold"), Text(kind), *styled)
    console = Console(file=stream, force_terminal=True, markup=False, emoji=False, highlight=False)
    console.print(table)
