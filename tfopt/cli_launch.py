"""The verb ``launch``: its options, and the command that it passes on untouched."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tfopt.errors import InputError

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": False}


def launch(
    context: typer.Context,
    processes: Annotated[int, typer.Option("-np", help="Processes in all.", show_default=False)],
    hosts: Annotated[
        str | None,
        typer.Option("--hosts", "-H", help="host:slots,host:slots [default: this machine]."),
    ] = None,
    kind: Annotated[
        Literal["horovod", "multi_worker"], typer.Option(help="What joins the processes.")
    ] = "horovod",
    mpi: Annotated[  # noqa: FBT002  # an option of the command line
        bool, typer.Option("--mpi", help="Start with mpirun instead of horovodrun.")
    ] = False,
) -> None:
    """Run a command as several processes that train one model."""
    from tfopt.launch import Launcher, plan_launch, run_together

    if mpi and kind == "multi_worker":
        raise InputError("--mpi is for --kind horovod.")
    launcher: Launcher = "mpirun" if mpi else "horovodrun"
    if kind == "multi_worker":
        launcher = "multi_worker"
    plan = plan_launch(context.args, processes=processes, hosts=hosts, launcher=launcher)
    if code := run_together(plan):
        raise typer.Exit(code)
