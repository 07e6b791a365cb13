"""The page of commands, made from the program's own parser."""

from __future__ import annotations

import re
from typing import Any

INTRODUCTION = """# Command line

Every verb of `tfopt`, made from the program's own parser. `tfopt VERB --help` prints the same.
The programs in `scripts/` are the same verbs, for launchers:
`python scripts/train.py --config configs/lenet5_mnist.yaml`.
"""


def command_page(program: Any) -> str:
    """Return the page, in Markdown.

    Args:
        program: The click group of the program.

    Returns:
        A heading, usage, a table of arguments and options and the examples of each verb.
    """
    verbs = [_verb(program, name) for name in sorted(program.commands)]
    root = ["## All verbs", "", _options(program, program.make_context("tfopt", ["doctor"]))]
    return "\n".join([INTRODUCTION, *root, _plain(program.epilog), "", *verbs])


def _verb(program: Any, name: str) -> str:
    command = program.commands[name]
    context = command.context_class(command, info_name=f"tfopt {name}", ignore_unknown_options=True)
    usage = " ".join([f"tfopt {name}", *command.collect_usage_pieces(context)])
    lines = [f"## tfopt {name}", "", _plain(command.help), "", "```text", usage, "```", ""]
    lines += [_options(command, context), _examples(command.epilog)]
    return "\n".join(lines)


def _options(command: Any, context: Any) -> str:
    rows = [_row(parameter, context) for parameter in command.get_params(context)]
    return "\n".join(["| argument or option | meaning |", "|---|---|", *rows, ""])


def _row(parameter: Any, context: Any) -> str:
    record = parameter.get_help_record(context)
    if record is None:
        return f"| `{parameter.make_metavar(context)}` | |"
    names, meaning = record
    return f"| `{names}` | {_plain(meaning)} |"


def _examples(epilog: str | None) -> str:
    """Return the commands of an epilog as a block of their own, its other lines as text."""
    lines = [line.strip() for line in (epilog or "").replace("\b", "").splitlines()]
    commands = [line for line in lines if line.startswith("tfopt ")]
    words = [line for line in lines if line and line not in commands and line != "Examples:"]
    block = ["```text", *commands, "```", ""] if commands else []
    return "\n".join([*words, "", *block])


def _plain(text: str | None) -> str:
    return re.sub(r"\s+", " ", (text or "").replace("\b", "")).strip()
