"""Harm a training job on two hosts in every way of a list, and print what became of it.

    python benchmarks/chaos.py [--quick] [--only "link down"] [--mode elastic] [--json chaos.json]

The hosts are network namespaces of this machine, each with an sshd of its own, so it needs root
(see namespace_hosts.py). Each fault comes at three instants: after the first step, in the middle,
and 8 steps before the end; a job that has not ended --limit seconds later counts as a hang.
All of it takes about half an hour.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from chaos_job import FAULTS, Outcome, run_case
from namespace_hosts import why_not

MODES = ("static", "elastic", "recipe")
INSTANTS = ("start", "middle", "end")
QUICK = (
    ("kill -9 worker", "static", "middle"),
    ("kill -9 worker", "elastic", "middle"),
    ("kill -9 chief", "elastic", "middle"),
    ("SIGSTOP worker", "elastic", "middle"),
    ("link down", "elastic", "middle"),
    ("host added", "elastic", "middle"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="six of the cases")
    parser.add_argument("--only", choices=list(FAULTS), help="one fault")
    parser.add_argument("--mode", choices=MODES, help="one mode")
    parser.add_argument("--instant", choices=INSTANTS, help="one instant")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-seconds", type=float, default=0.15)
    parser.add_argument("--keras", choices=("2", "3"), default="2")
    parser.add_argument("--limit", type=float, default=120, help="seconds after the fault")
    parser.add_argument("--json", type=Path, help="write the outcomes here")
    parser.add_argument("--keep", type=Path, help="keep journals and outputs in this folder")
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(f"cannot run: {reason}", file=sys.stderr)
        return 5
    outcomes = []
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as place:
        root = options.keep or Path(place)
        for number, (fault, mode, instant) in enumerate(_cases(options)):
            folder = root / f"{number:02d}"
            outcome = run_case(folder, fault, mode, instant, options)
            print(_row(outcome), flush=True)
            outcomes.append(outcome)
            if options.json:
                found = [asdict(one) for one in outcomes]
                options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(_is_bad(outcome) for outcome in outcomes))


HEADER = """\
| fault | job | instant | outcome | s to next step | steps lost | metric | s to the end | orphans |
|---|---|---|---|---|---|---|---|---|"""


def _cases(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    everything = [
        (fault, mode, instant)
        for fault in FAULTS
        for mode in MODES
        for instant in INSTANTS
        if (fault, mode)
        not in (
            ("host added", "static"),  # a static job takes no host in
            ("disk full on chief", "recipe"),  # the hosts share the disk of its folder
        )
    ]
    return [
        case
        for case in (QUICK if options.quick else everything)
        if options.only in (None, case[0])
        and options.mode in (None, case[1])
        and options.instant in (None, case[2])
    ]


def _row(outcome: Outcome) -> str:
    seconds, ended = (
        "-" if value is None else f"{value:.1f}"
        for value in (outcome.seconds, outcome.ended_seconds)
    )
    lost = "-" if outcome.steps_lost is None else outcome.steps_lost
    metric = "-" if outcome.metric is None else f"{outcome.metric:.4f}"
    cells = [outcome.fault, outcome.mode, outcome.instant, outcome.verdict]
    cells += [seconds, lost, metric, ended, len(outcome.orphans)]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _is_bad(outcome: Outcome) -> bool:
    """Return whether a job hung, ended without a word, or left something running."""
    is_named = outcome.verdict in ("recovered", "went on") or (
        outcome.verdict.startswith("failed: ") and "NO CAUSE" not in outcome.verdict
    )
    return not is_named or bool(outcome.orphans)


if __name__ == "__main__":
    sys.exit(main())
