"""The verb ``launch``: its options, and the command that it passes on untouched."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tfopt.errors import InputError

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": False}


def launch(  # noqa: PLR0913  # options of a command
    context: typer.Context,
    processes: Annotated[int, typer.Option("-np", help="Processes in all.", show_default=False)],
    hosts: Annotated[
        str | None,
        typer.Option("--hosts", "-H", help="host:slots,host:slots [default: this machine]."),
    ] = None,
    kind: Annotated[
        Literal["horovod", "multi_worker", "parameter_server"],
        typer.Option(help="What joins the processes."),
    ] = "horovod",
    servers: Annotated[
        int | None,
        typer.Option(help="Parameter servers beside -np workers [default: 1].", show_default=False),
    ] = None,
    mpi: Annotated[  # noqa: FBT002  # an option of the command line
        bool, typer.Option("--mpi", help="Start with mpirun instead of horovodrun.")
    ] = False,
    ssh_port: Annotated[
        int | None, typer.Option("--ssh-port", "-p", help="Port of the hosts' ssh servers.")
    ] = None,
    interfaces: Annotated[
        str, typer.Option("--network-interfaces", help="eth0,eth1 [default: looked for].")
    ] = "",
    elastic: Annotated[  # noqa: FBT002  # an option of the command line
        bool, typer.Option("--elastic", help="Go on while hosts are lost and added.")
    ] = False,
    least: Annotated[int, typer.Option("--min-np", help="Fewest processes (--elastic).")] = 1,
    most: Annotated[
        int | None, typer.Option("--max-np", help="Most processes (--elastic) [default: -np].")
    ] = None,
    hosts_script: Annotated[
        str, typer.Option(help="Prints host:slots of the moment, a line each (--elastic).")
    ] = "",
    restarts: Annotated[
        int, typer.Option(help="Starts from the last checkpoint after a process was lost.")
    ] = 0,
) -> None:
    """Run a command as several processes that train one model."""
    from tfopt.distributed.launch.launcher import ElasticRanks, Launcher, Network, plan_launch
    from tfopt.distributed.launch.restarts import run_with_restarts

    if mpi and kind != "horovod":
        raise InputError("--mpi is for --kind horovod.")
    launcher: Launcher = "mpirun" if mpi else "horovodrun"
    if kind != "horovod":
        launcher = kind
    if not elastic and (least != 1 or most is not None or hosts_script):
        raise InputError("--min-np, --max-np and --hosts-script are for --elastic.")
    plan = plan_launch(
        context.args,
        processes=processes,
        hosts=hosts,
        launcher=launcher,
        network=Network(ssh_port, interfaces),
        elastic=ElasticRanks(least, most, hosts_script) if elastic else None,
        servers=servers,
    )
    if code := run_with_restarts(plan, restarts):
        raise typer.Exit(code)
