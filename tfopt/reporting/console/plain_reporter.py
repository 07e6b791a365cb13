"""Reporters that write plain lines: for logs, pipes and continuous integration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from tfopt.reporting.console.text import (
    aligned,
    artifact_text,
    closing_text,
    logs_text,
    printable,
    result_rows,
    stage_text,
)
from tfopt.results import Artifact, MetricInfo, RunResult, StageResult


class QuietReporter:
    """Writes warnings and the verdict, and nothing else.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def run_started(
        self,
        name: str,
        stages: Sequence[str],
        output: Path,
        *,
        metric: MetricInfo | None = None,
    ) -> None:
        """Write nothing."""

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
        """Write nothing."""

    def step_done(self, step: int) -> None:
        """Write nothing."""

    def epoch_done(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Write nothing."""

    def stage_done(
        self, result: StageResult, *, baseline: float | None, gate: float | None
    ) -> None:
        """Write nothing."""

    def stage_skipped(self, name: str, reason: str) -> None:
        """Write nothing."""

    def message(self, text: str) -> None:
        """Write nothing."""

    def warning(self, text: str) -> None:
        """Write the warning."""
        self._write(f"warning: {printable(text, self._stream, is_one_line=False)}")

    def artifact_done(self, artifact: Artifact) -> None:
        """Write nothing."""

    def run_done(self, result: RunResult, report: Path | None) -> None:
        """Write the verdict."""
        self._write(printable("".join(closing_text(result)), self._stream))

    def close(self) -> None:
        """Do nothing: a log has no state to restore."""

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        # A log is read while the run goes on.
        self._stream.flush()


class PlainReporter(QuietReporter):
    """Writes a line for each event, and about ten a stage for its epochs.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._metric: MetricInfo | None = None
        self._output: Path | None = None
        self._stage = ""
        self._epochs = 0

    def run_started(
        self,
        name: str,
        stages: Sequence[str],
        output: Path,
        *,
        metric: MetricInfo | None = None,
    ) -> None:
        """Write name, stages and folder."""
        self._metric = metric
        self._output = output
        self._say(f"{name}: {', '.join(stages) or 'no stages'} -> {output}")

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
        """Write what is about to run."""
        self._stage = f"[{number}/{total}] {name}"
        self._epochs = epochs
        work = f"{epochs} epoch{'' if epochs == 1 else 's'}"
        if steps_per_epoch > 0:
            work += f" of {steps_per_epoch:,} step{'' if steps_per_epoch == 1 else 's'}"
        self._say(f"{self._stage}: {work}{f', target {target}' if target else ''}")

    def epoch_done(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Write about every tenth part of the epochs, and the last one."""
        every = max(1, -(-self._epochs // 10))
        if epoch % every == 0 or epoch == self._epochs:
            self._say(f"{self._stage}: epoch {epoch}/{self._epochs}: {logs_text(logs)}")

    def stage_done(
        self, result: StageResult, *, baseline: float | None, gate: float | None
    ) -> None:
        """Write what the stage reached, and its notes."""
        text = stage_text(result, metric=self._metric, baseline=baseline, gate=gate)
        self._say(f"{self._stage or result.name}: {text}")
        for note in result.notes:
            self._say(f"{self._stage or result.name}: note: {note}")

    def stage_skipped(self, name: str, reason: str) -> None:
        """Write that the stage is skipped."""
        self._say(f"{name}: skipped, {reason}")

    def message(self, text: str) -> None:
        """Write the text."""
        self._write(printable(text, self._stream, is_one_line=False))

    def artifact_done(self, artifact: Artifact) -> None:
        """Write what was measured on the file, and its notes."""
        self._say(artifact_text(artifact, self._metric))
        for note in artifact.notes:
            self._say(f"{artifact.path}: note: {note}")

    def run_done(self, result: RunResult, report: Path | None) -> None:
        """Write the table of files, the verdict, and where the results are."""
        if result.artifacts:
            for line in aligned(result_rows(result)):
                self._say(line)
        self._say("".join(closing_text(result)))
        if self._output is not None:
            self._say(f"results: {self._output / 'results.json'}")
        if report is not None:
            self._say(f"report: {report}")

    def _say(self, line: str) -> None:
        self._write(printable(line, self._stream))
