"""The reporter for terminals: a live bar for the running stage, a line for each finished one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from tfopt.reporting.console.text import (
    artifact_text,
    closing_text,
    logs_text,
    printable,
    result_rows,
    score_text,
    stage_text,
)
from tfopt.results import Artifact, MetricInfo, RunResult, StageResult

# A redraw takes about 1.8 ms of processor time, so twice a second is 0.4% of one core.
_REDRAW_SECONDS = 0.5
_VERDICT_STYLES = {"ok": "bold green", "gate_missed": "bold yellow", "failed": "bold red"}


class _StepsPerSecond(ProgressColumn):
    """Speed over the last half minute."""

    def render(self, task: Task) -> Text:
        """Return the speed, or nothing before it is known."""
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "", style="cyan")


class _StageProgress(Progress):
    """A progress bar with a line of numbers beneath it."""

    note = Text("")

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar and the line."""
        yield self.make_tasks_table(self.tasks)
        if self.note:
            yield self.note


class RichReporter:
    """Shows a run on a terminal.

    Text from the run is shown as it is: rich's markup is off, and control characters
    are replaced.

    Args:
        stream: Where to draw; taken to be a terminal.
        use_color: Whether to use colours.
    """

    def __init__(self, stream: TextIO, *, use_color: bool = True) -> None:
        self._stream = stream
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=not use_color,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._progress: _StageProgress | None = None
        self._metric: MetricInfo | None = None
        self._baseline: float | None = None
        self._gate: float | None = None
        self._output: Path | None = None
        self._stage = ""
        self._epochs = 0
        self._steps_per_epoch = 0
        self._epochs_done = 0
        self._next_update = 0.0

    def run_started(
        self,
        name: str,
        stages: Sequence[str],
        output: Path,
        *,
        metric: MetricInfo | None = None,
    ) -> None:
        """Print name, stages and folder."""
        self._metric = metric
        self._output = output
        line = self._text(name, style="bold")
        line.append(self._clean(f"  {' > '.join(stages) or 'no stages'}  -> {output}"), "dim")
        self._print(line)

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
        """Start the bar of a stage."""
        self.close()
        self._stage = f"[{number}/{total}] {name}"
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._epochs_done, self._next_update = 0, 0.0
        self._progress = _StageProgress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[epoch]}", markup=False),
            _StepsPerSecond(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            refresh_per_second=1 / _REDRAW_SECONDS,
            transient=True,
            # The run redirects these itself; rich would put its own objects there.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._progress.note = self._note(f"target: {target}" if target else "")
        self._progress.add_task(
            self._clean(self._stage),
            total=epochs * steps_per_epoch or None,
            epoch=f"epoch 1/{epochs}" if epochs else "",
        )
        self._progress.start()

    def step_done(self, step: int) -> None:
        """Move the bar, but not more often than it is drawn."""
        now = time.monotonic()
        if now < self._next_update or self._progress is None:
            return
        self._next_update = now + _REDRAW_SECONDS
        completed = self._epochs_done * self._steps_per_epoch + step
        self._progress.update(self._progress.task_ids[0], completed=completed)

    def epoch_done(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Move the bar, and show the epoch's numbers against the gate."""
        self._epochs_done = epoch
        if self._progress is None:
            return
        # Assigned before the update, which may draw.
        self._progress.note = self._epoch_note(epoch, logs)
        self._progress.update(
            self._progress.task_ids[0],
            completed=epoch * self._steps_per_epoch,
            epoch=f"epoch {min(epoch + 1, self._epochs)}/{self._epochs}",
        )

    def stage_done(
        self, result: StageResult, *, baseline: float | None, gate: float | None
    ) -> None:
        """Replace the bar with what the stage reached."""
        self.close()
        self._baseline, self._gate = baseline, gate
        line = self._text(self._stage or result.name, style="bold")
        text = stage_text(result, metric=self._metric, baseline=baseline, gate=gate)
        line.append(self._clean(f"  {text}"))
        self._print(line)
        self._notes(result.notes)

    def stage_skipped(self, name: str, reason: str) -> None:
        """Print that the stage is skipped."""
        self._print(self._text(f"{name}  skipped, {reason}", style="dim"))

    def message(self, text: str) -> None:
        """Print the text, above the bar if there is one."""
        self._print(Text(printable(text, self._stream, is_one_line=False)))

    def warning(self, text: str) -> None:
        """Print the warning, above the bar if there is one."""
        line = Text("warning: ", style="bold yellow")
        line.append(printable(text, self._stream, is_one_line=False), "default not bold")
        self._print(line)

    def artifact_done(self, artifact: Artifact) -> None:
        """Print what was measured on the file, and its notes."""
        self._print(self._text(artifact_text(artifact, self._metric)))
        self._notes(artifact.notes)

    def run_done(self, result: RunResult, report: Path | None) -> None:
        """Print the table of files, the verdict, and where the results are."""
        self.close()
        if result.artifacts:
            self._console.print(self._table(result))
        lead, claims = closing_text(result)
        line = self._text(lead, style=_VERDICT_STYLES[result.status])
        line.append(self._clean(claims), "default not bold")
        self._print(line)
        if self._output is not None:
            self._print(self._text(f"results  {self._output / 'results.json'}"))
        if report is not None:
            self._print(self._text(f"report   {report}"))

    def close(self) -> None:
        """Remove the bar and show the cursor again."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _epoch_note(self, epoch: int, logs: Mapping[str, float]) -> Text:
        parts = ["measuring"] if epoch == self._epochs else []
        metric = self._metric
        names = (f"val_{metric.name}", metric.name) if metric else ()
        key = next((name for name in names if name in logs), None)
        if key is not None:
            rows = "validation" if key.startswith("val_") else "training"
            score = score_text(logs[key], metric=metric, baseline=self._baseline, gate=self._gate)
            parts.append(f"{rows} {score}")
        parts.append(logs_text({other: logs[other] for other in logs if other != key}))
        return self._note(", ".join(part for part in parts if part))

    def _note(self, text: str) -> Text:
        # On one line, whatever the width: the bar must not jump.
        return Text(self._clean(text), style="dim", no_wrap=True, overflow="ellipsis")

    def _table(self, result: RunResult) -> Table:
        header, *rows = result_rows(result)
        table = Table(header_style="bold")
        for index, title in enumerate(header):
            # Only the path may be folded; half a number would mislead.
            justify = "left" if index in {0, len(header) - 1} else "right"
            table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]  # both are justify methods
        for row in rows:
            table.add_row(*(self._text(cell) for cell in row))
        return table

    def _print(self, line: Text) -> None:
        # The terminal folds long lines; breaks put in by rich would cut paths in two.
        self._console.print(line, soft_wrap=True)

    def _notes(self, notes: Sequence[str]) -> None:
        for note in notes:
            self._print(self._text(f"  note: {note}", style="yellow"))

    def _text(self, text: str, *, style: str = "") -> Text:
        return Text(self._clean(text), style=style)

    def _clean(self, text: str) -> str:
        return printable(text, self._stream)
