"""Several hosts on one machine, each with its own network, host name, processes, mounts and sshd.

Each host is a set of Linux namespaces (network, host name, mounts, processes) that ends with
the process that made it, whatever ends that. Nothing outside is changed: no interface, no file of
the user's ``~/.ssh``, no name in ``/etc/hosts``. Addresses exist inside the namespaces only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "sshd", "ssh", "ssh-keygen")
INTERFACE = "eth0"
_SWITCH = "switch"
_SYSTEM = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"

# First process of a host: it takes in orphans, so that none is left as a zombie.
_FIRST = """
import os, subprocess, sys, time
subprocess.Popen(sys.argv[1:]) if sys.argv[1:] else None
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.1)
"""
# Runs in new namespaces, before the first process: name, names of all hosts, folder of sshd.
_PREPARE = """
set -e
hostname "$1"
mount --bind "$2" /etc/hosts
mount -t tmpfs -o size=1m tmpfs /run
mkdir /run/sshd
shift 2
exec "$@"
"""
_SERVER = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
MaxStartups 100
"""
# With the keepalive that docs/clusters.md advises: without it a cut cable is never noticed.
_CLIENT = """
IdentityFile {folder}/key
IdentitiesOnly yes
BatchMode yes
LogLevel INFO
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
ConnectTimeout 10
ServerAliveInterval 1
ServerAliveCountMax 7
"""


@dataclass(frozen=True)
class Host:
    """One of the hosts.

    Attributes:
        name: What ``hostname`` says there, and what the others call it.
        address: Its address, which exists only inside.
        first: Process number of its first process, seen from outside.
        port: Its plug in the switch.
        switch: Process number of the switch, seen from outside.
    """

    name: str
    address: str
    first: int
    port: str
    switch: int

    def command(self, words: Sequence[str]) -> list[str]:
        """Return what runs a command on this host."""
        inside = ("--net", "--uts", "--mount", "--pid", "--wdns=" + os.getcwd())
        return ["nsenter", f"--target={self.first}", *inside, "--", *words]

    def run(self, *words: str, timeout: float = 60) -> str:
        """Run a command on this host and return what it prints."""
        return _run(self.command(words), timeout=timeout)

    def cut(self) -> None:
        """Pull its cable."""
        _run(_in_network(self.switch, "ip", "link", "set", self.port, "down"))

    def mend(self) -> None:
        """Plug its cable in."""
        _run(_in_network(self.switch, "ip", "link", "set", self.port, "up"))

    def processes(self, word: str = "") -> list[int]:
        """Return the processes of this host, as numbers seen from outside.

        Args:
            word: Part of the command line that they must have.
        """
        own = os.readlink(f"/proc/{self.first}/ns/pid")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns/pid") != own:
                    continue
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended meanwhile
                continue
            if word in line and int(folder.name) != self.first:
                found.append(int(folder.name))
        return sorted(found)


@dataclass(frozen=True)
class Hosts:
    """Hosts that reach each other by name, with ssh between any two of them.

    Attributes:
        all: The hosts.
        environment: What commands on them need, so that ``ssh`` works without a question.
    """

    all: tuple[Host, ...]
    environment: Mapping[str, str]

    def __getitem__(self, index: int) -> Host:
        return self.all[index]

    def start(self, host: Host, words: Sequence[str], **settings: object) -> subprocess.Popen[str]:
        """Start a command on a host; settings are those of ``subprocess.Popen``."""
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # settings are free
            host.command(words),
            env={**os.environ, **self.environment},
            text=True,
            stdin=subprocess.DEVNULL,
            **settings,
        )


def why_not() -> str | None:
    """Return why there can be no hosts on this machine, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=_SYSTEM) is None]
    if missing:
        return f"{', '.join(missing)} missing (Debian: apt-get install iproute2 openssh-server)"
    words = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "ip", "link"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False, env=_environment())
    return None if tried.returncode == 0 else f"namespaces are not allowed: {tried.stderr.strip()}"


@contextmanager
def make_hosts(folder: Path, names: Sequence[str]) -> Iterator[Hosts]:
    """Make hosts that are there within the block.

    Args:
        folder: An empty folder for keys and settings.
        names: What the hosts are called.
    """
    addresses = [f"10.77.0.{number + 1}" for number in range(len(names))]
    table = [f"{address} {name}" for address, name in zip(addresses, names, strict=True)]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *table, ""]))
    environment = _keys(folder)
    with ExitStack() as stack:
        switch = stack.enter_context(_namespaces(folder, _SWITCH, []))
        _run(_in_network(switch, "ip", "link", "add", _SWITCH, "type", "bridge"))
        _run(_in_network(switch, "ip", "link", "set", _SWITCH, "up"))
        hosts = []
        for number, (name, address) in enumerate(zip(names, addresses, strict=True)):
            server = folder / f"sshd_{name}"
            server.write_text(_SERVER.format(address=address, folder=folder))
            daemon = shutil.which("sshd", path=_SYSTEM) or "sshd"
            log = str(folder / f"{name}.log")
            # It can listen on the address only when the cable is in.
            wait = f"until ip addr | grep -q {address}/; do sleep 0.02; done; exec "
            words = ["sh", "-c", f"{wait} {daemon} -D -f {server} -E {log}"]
            first = stack.enter_context(_namespaces(folder, name, words))
            host = Host(name, address, first, f"port{number}", switch)
            _connect(host)
            hosts.append(host)
        for host in hosts:
            _wait_for_server(host)
        yield Hosts(tuple(hosts), environment)


def _connect(host: Host) -> None:
    peer = ["peer", "name", INTERFACE, "netns", str(host.first)]
    plug = ["ip", "link", "add", host.port, "netns", str(host.switch), "type", "veth", *peer]
    _run(plug)
    _run(_in_network(host.switch, "ip", "link", "set", host.port, "master", _SWITCH, "up"))
    _run(_in_network(host.first, "ip", "link", "set", "lo", "up"))
    _run(_in_network(host.first, "ip", "addr", "add", f"{host.address}/24", "dev", INTERFACE))
    _run(_in_network(host.first, "ip", "link", "set", INTERFACE, "up"))


@contextmanager
def _namespaces(folder: Path, name: str, words: Sequence[str]) -> Iterator[int]:
    """Yield the number of the first process in new namespaces; all in them end with the block."""
    kinds = ("--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    prepare = ["sh", "-c", _PREPARE, "sh", name, str(folder / "hosts")]
    first = [sys.executable, "-S", "-c", _FIRST, *words]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *kinds, *prepare, *first],
        env=_environment(),
        stdin=subprocess.DEVNULL,
    )
    try:
        yield _first_child(process)
    finally:
        process.kill()
        process.wait(timeout=30)


def _first_child(process: subprocess.Popen[bytes]) -> int:
    """Return the child of ``unshare`` when it has become the first process."""
    end = time.monotonic() + 30
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < end and process.poll() is None:
        found = children.read_text().split() if children.exists() else []
        for child in found:
            if b"waitpid" in _line(child) or b"os.wait()" in _line(child):
                return int(child)
        time.sleep(0.02)
    raise RuntimeError(f"namespaces did not come up (exit code {process.poll()})")


def _line(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _wait_for_server(host: Host) -> None:
    program = f"import socket; socket.create_connection(('{host.address}', 22), 1).close()"
    words = host.command([sys.executable, "-S", "-c", program])
    end = time.monotonic() + 30
    while subprocess.run(words, capture_output=True, check=False, env=_environment()).returncode:
        if time.monotonic() > end:
            raise RuntimeError(f"sshd of {host.name} did not come up")
        time.sleep(0.05)


def _keys(folder: Path) -> dict[str, str]:
    """Write keys and settings of ssh, and return the environment that uses them."""
    for name in ("key", "host_key"):
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    settings = folder / "ssh_config"
    settings.write_text(_CLIENT.format(folder=folder))
    # horovodrun calls plain `ssh`, which would read the user's own settings.
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh", path=_SYSTEM)} -F {settings} "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{_SYSTEM}"}


def _in_network(process: int, *words: str) -> list[str]:
    return ["nsenter", f"--target={process}", "--net", "--", *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _SYSTEM}


def _run(words: Sequence[str], timeout: float = 60) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, check=False, env=_environment()
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout


def end(process: int, sign: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may have ended already."""
    try:
        os.kill(process, sign)
    except ProcessLookupError:
        pass
