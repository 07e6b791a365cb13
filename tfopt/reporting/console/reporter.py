"""The events of a run, and who shows them: a terminal, a log, or nobody."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from tfopt.reporting.console.plain_reporter import PlainReporter, QuietReporter
from tfopt.reporting.console.text import is_terminal
from tfopt.results import Artifact, MetricInfo, RunResult, StageResult


class Reporter(Protocol):
    """Shows the events of one run, in the order in which they happen.

    No method raises because of what it is told: names may hold any characters, numbers
    may be NaN.
    """

    def run_started(
        self,
        name: str,
        stages: Sequence[str],
        output: Path,
        *,
        metric: MetricInfo | None = None,
    ) -> None:
        """Begin a run.

        Args:
            name: Name of the recipe.
            stages: Names of the stages, in order.
            output: The run folder.
            metric: The task metric; without it the gate is shown without a direction.
        """

    def stage_started(
        self,
        name: str,
        *,
        number: int,
        total: int,
        epochs: int,
        steps_per_epoch: int,
        target: str,
    ) -> None:
        """Begin a stage.

        Args:
            name: Name of the stage.
            number: Which stage this is, from 1.
            total: Number of stages.
            epochs: Epochs of training, ``>= 0``.
            steps_per_epoch: Steps in an epoch; 0 if unknown.
            target: What the stage aims at: ``90% zeros``; empty if nothing to say.
        """

    def step_done(self, step: int) -> None:
        """Note that ``step`` of the running epoch is done, from 1; takes microseconds."""

    def epoch_done(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Note that ``epoch`` is done, from 1, with what was logged in it."""

    def stage_done(
        self, result: StageResult, *, baseline: float | None, gate: float | None
    ) -> None:
        """End a stage.

        Args:
            result: What was measured on the stage's model.
            baseline: Metric of the trained float model, if it is known by now.
            gate: The worst metric value that the gate allows (not the drop), if any.
        """

    def stage_skipped(self, name: str, reason: str) -> None:
        """Note that a stage is not run: an earlier run finished it."""

    def message(self, text: str) -> None:
        """Say something that is worth a line."""

    def warning(self, text: str) -> None:
        """Say something that the user should not miss."""

    def artifact_done(self, artifact: Artifact) -> None:
        """Note that a file was exported and measured."""

    def run_done(self, result: RunResult, report: Path | None) -> None:
        """End the run, in whatever state, with its verdict.

        The error of a failed run is the caller's to show: it is raised after this.

        Args:
            result: Everything the run found.
            report: The report page, if one was written.
        """

    def close(self) -> None:
        """Give the terminal back; harmless when called again, or after ``run_done``."""


def make_reporter(*, quiet: bool, stream: TextIO | None = None) -> Reporter:
    """Return the reporter that fits the stream and the environment.

    Args:
        quiet: Whether only warnings and the verdict are wanted.
        stream: Where to write; standard error if None. A stream that is no terminal,
            a dumb terminal, and the variable ``CI`` get plain lines.

    Returns:
        The reporter. With ``NO_COLOR`` set it uses no colours.
    """
    stream = sys.stderr if stream is None else stream
    if quiet:
        return QuietReporter(stream)
    if not is_terminal(stream):
        return PlainReporter(stream)
    # rich takes tens of milliseconds to import, and plain output has no use for it.
    from tfopt.reporting.console.rich_reporter import RichReporter

    return RichReporter(stream, use_color=not os.environ.get("NO_COLOR"))
