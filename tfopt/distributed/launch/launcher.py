"""Start one command as several processes that train together, and end them together."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfopt.distributed.launch.exit_reports import ENDS, read_cause
from tfopt.distributed.launch.horovodrun import how_it_ended
from tfopt.distributed.launch.process_group import Group, ServedGroup, start_process
from tfopt.distributed.launch.ssh import require_reachable
from tfopt.errors import BackendMissing, ExitCode, InputError, StorageError

Launcher = Literal["horovodrun", "mpirun", "multi_worker", "parameter_server"]

_LOCAL = ("multi_worker", "parameter_server")
_SHOWN_LINES = 15
_INSTALL_HOROVOD = "scripts/install_horovod.sh"
_INSTALL_MPI = "apt-get install openmpi-bin libopenmpi-dev"


@dataclass(frozen=True, slots=True)
class ElasticRanks:
    """How many processes of Horovod a job may have while it runs.

    Attributes:
        least: With fewer it waits, and ends after some minutes.
        most: No more are started; None: those that it began with.
        hosts_script: Command that prints the hosts of the moment, ``host:slots`` lines; empty:
            the hosts that it began with.
    """

    least: int = 1
    most: int | None = None
    hosts_script: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """How hosts are reached.

    Attributes:
        ssh_port: Port of their ssh servers; None: what ssh is configured for.
        interfaces: Network interfaces to use, ``eth0,eth1``; empty: Horovod looks for them.
    """

    ssh_port: int | None = None
    interfaces: str = ""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What to start.

    Attributes:
        launcher: What starts the processes.
        processes: How many, ``>= 1``; of a cluster with parameter servers, the workers.
        hosts: Host name to the processes it can take.
        words: The command after ``tfopt``.
        network: How hosts are reached.
        elastic: Within which bounds processes may come and go; None: none may.
        servers: How many parameter servers.
    """

    launcher: Launcher
    processes: int
    hosts: Mapping[str, int]
    words: Sequence[str]
    network: Network = Network()
    elastic: ElasticRanks | None = None
    servers: int = 0


def plan_launch(  # noqa: PLR0913  # keyword-only options, each with its own default
    words: Sequence[str],
    *,
    processes: int,
    hosts: str | None,
    launcher: Launcher,
    network: Network = Network(),
    elastic: ElasticRanks | None = None,
    servers: int | None = None,
) -> LaunchPlan:
    """Return what to start, checked before anything is.

    Args:
        words: The command after ``tfopt``: a verb and its arguments.
        processes: How many processes.
        hosts: ``host:slots,host:slots``; None takes this machine.
        launcher: What starts them.
        network: How hosts are reached.
        elastic: Within which bounds processes may come and go; None: none may.
        servers: Parameter servers beside them; None takes one.

    Raises:
        InputError: If there is no command, a host is unknown or not reached by ssh, or they take
            too few.
        BackendMissing: If the launcher, or ssh for other hosts, is not installed.
    """
    if processes < 1:
        raise InputError(f"-np must be at least 1. Received: {processes}.")
    if not words:
        raise InputError("Give the command after --, such as: tfopt launch -np 2 -- run my.yaml")
    taken = _hosts(hosts) if hosts is not None else {"localhost": processes}
    if elastic is not None:
        _require_elastic(elastic, processes, launcher=launcher, hosts=hosts)
    if sum(taken.values()) < processes:
        raise InputError(
            f"-np {processes} does not fit: {hosts} has room for {sum(taken.values())}. Ask for "
            "fewer processes, or give more slots (host:slots)."
        )
    if servers is not None and (launcher != "parameter_server" or servers < 1):
        raise InputError(
            f"--servers is for --kind parameter_server, and at least 1. Received: {servers}."
        )
    if launcher in _LOCAL and hosts is not None:
        raise InputError(
            f"--kind {launcher} starts workers on this machine only. On several hosts, set "
            "TF_CONFIG and start the command on each of them, or use horovodrun."
        )
    if launcher == "horovodrun" and importlib.util.find_spec("horovod") is None:
        raise BackendMissing(f"Horovod is not installed. Build it with: {_INSTALL_HOROVOD}")
    if launcher == "mpirun" and shutil.which("mpirun") is None:
        raise BackendMissing(f"mpirun is not installed: {_INSTALL_MPI}")
    require_reachable(taken, port=network.ssh_port)
    beside = (servers or 1) if launcher == "parameter_server" else 0
    return LaunchPlan(launcher, processes, taken, words, network, elastic, beside)


def _require_elastic(
    elastic: ElasticRanks, processes: int, *, launcher: Launcher, hosts: str | None
) -> None:
    """Raise unless an elastic job can be started so.

    Raises:
        InputError: Naming what is wrong.
    """
    if launcher != "horovodrun":
        raise InputError("--elastic is for horovodrun: leave out --mpi and --kind.")
    most = processes if elastic.most is None else elastic.most
    if not 1 <= elastic.least <= processes <= most:
        raise InputError(
            f"An elastic job needs 1 <= --min-np <= -np <= --max-np. Received: --min-np "
            f"{elastic.least}, -np {processes}, --max-np {most}."
        )
    if (hosts is None) == (not elastic.hosts_script):
        raise InputError(
            "An elastic job needs several hosts, since all processes of a host are lost "
            "together: either --hosts node1:1,node2:1, or --hosts-script with a command that "
            "prints those of the moment, such as "
            '"python -m tfopt.distributed.launch.host_discovery hosts.txt".'
        )


def run_together(plan: LaunchPlan) -> int:
    """Run the processes to their end, and say why if one failed; return the exit code.

    When one ends with an error, the others have a few seconds to end by themselves, as they
    do when they fail for the same reason; then they are ended. The same happens on Ctrl-C.

    Returns:
        The code of the process that failed for a reason of its own; without one, that of the
        process that was lost, as a shell gives it.
    """
    with tempfile.TemporaryDirectory(prefix="tfopt-launch-") as scratch:
        ends = Path(scratch) / "ends"
        ends.touch()
        environment = dict(os.environ)
        if plan.elastic is None:  # else one may end while the others go on, and says so at once
            environment[ENDS] = str(ends)
        if plan.launcher in _LOCAL:
            code = _run_cluster(plan, environment, Path(scratch))
        else:
            code = Group([start_process(_command(plan), environment)]).wait()
        cause = read_cause(ends) if code else None
    # Horovod interrupts the others when one is lost; then that was said already.
    if cause is None or cause.code == ExitCode.INTERRUPTED != code:
        return code
    sys.stderr.write(f"error: {cause.text}\n")
    return cause.code if cause.is_cause else code


def _command(plan: LaunchPlan) -> list[str]:
    hosts = ",".join(f"{host}:{slots}" for host, slots in plan.hosts.items())
    number = str(plan.processes)
    rank = [sys.executable, "-m", "tfopt", *plan.words]
    if plan.launcher == "horovodrun":
        # Gloo is in every build; horovodrun would take MPI wherever it finds it.
        start = [sys.executable, "-m", "tfopt.distributed.launch.horovodrun", "--gloo"]
        if plan.network.ssh_port is not None:
            start += ["-p", str(plan.network.ssh_port)]
        if plan.network.interfaces:
            start += ["--network-interfaces", plan.network.interfaces]
        where = ["-H", hosts]
        if plan.elastic is not None:
            most = plan.elastic.most or plan.processes
            start += ["--min-num-proc", str(plan.elastic.least), "--max-num-proc", str(most)]
            if plan.elastic.hosts_script:
                where = ["--host-discovery-script", plan.elastic.hosts_script]
        return [*start, "-np", number, *where, *rank]
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    port = []
    if plan.network.ssh_port is not None:
        port = ["--mca", "plm_rsh_args", f"-p {plan.network.ssh_port}"]
    exported = ["-x", ENDS, *(["-x", "PYTHONPATH"] if "PYTHONPATH" in os.environ else [])]
    return [
        "mpirun",
        *as_root,
        *port,
        "-np",
        number,
        "-H",
        hosts,
        "--bind-to",
        "none",
        *exported,
        *rank,
    ]


def _run_cluster(plan: LaunchPlan, environment: Mapping[str, str], scratch: Path) -> int:
    """Start a local cluster: the chief speaks, the output of the others is kept for errors."""
    tasks = [("worker", number) for number in range(plan.processes)]
    if plan.servers:
        tasks = [("chief", 0), *tasks, *(("ps", number) for number in range(plan.servers))]
    cluster: dict[str, list[str]] = {}
    for (kind, _), port in zip(tasks, free_ports(len(tasks)), strict=True):
        cluster.setdefault(kind, []).append(f"localhost:{port}")
    logs = [scratch / f"{kind}-{index}.log" for kind, index in tasks]
    command = [sys.executable, "-m", "tfopt", *plan.words]
    started = []
    with ExitStack() as stack:
        for number, (kind, index) in enumerate(tasks):
            config = {"cluster": cluster, "task": {"type": kind, "index": index}}
            own = {**environment, "TF_CONFIG": json.dumps(config)}
            output = stack.enter_context(logs[number].open("wb")) if number else None
            started.append(start_process(command, own, output))
        group = Group(started) if not plan.servers else ServedGroup(started, plan.processes)
        code = group.wait()
    lost = group.first_failed
    if lost is not None and not _is_explained(Path(environment[ENDS])):
        kind, index = tasks[lost]
        lines = logs[lost].read_text(errors="replace").splitlines() if lost else []
        text = "".join(f"{line}\n" for line in lines[-_SHOWN_LINES:])
        sys.stderr.write(f"{kind} {index} {how_it_ended(code)}\n{text}")
    return code


def _is_explained(ends: Path) -> bool:
    cause = read_cause(ends)
    return cause is not None and cause.is_cause


def _hosts(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in text.split(","):
        host, _, slots = entry.strip().partition(":")
        if not host or not (slots or "1").isdigit() or int(slots or "1") < 1:
            raise InputError(
                f"--hosts takes host:slots,host:slots, such as node1:4,node2:4. Received: {text!r}."
            )
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            raise InputError(f"The host {host!r} of --hosts cannot be found: {error}.") from error
        found[host] = found.get(host, 0) + int(slots or "1")
    return found


def free_ports(count: int) -> list[int]:
    """Return free ports of this machine; all are held until all are known."""
    with ExitStack() as stack:
        try:
            held = [stack.enter_context(socket.socket()) for _ in range(count)]
            for one in held:
                one.bind(("localhost", 0))
        except OSError as error:
            raise StorageError(f"No port is free on this machine: {error}.") from error
        return [int(one.getsockname()[1]) for one in held]
