"""Find out before a start whether every host answers to ssh."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterable, Sequence

import psutil

from tfopt.errors import BackendMissing, InputError

_CONNECT_SECONDS = 5
_LIMIT_SECONDS = 15
_OPTIONS = ("BatchMode=yes", "StrictHostKeyChecking=no", f"ConnectTimeout={_CONNECT_SECONDS}")


def require_reachable(hosts: Iterable[str], *, port: int | None = None) -> None:
    """Raise unless every host but this one runs a command through ssh, without a password.

    Args:
        hosts: Names that can be resolved.
        port: Port of their ssh servers; None: what ssh is configured for.

    Raises:
        InputError: Naming all hosts that do not, each with the reason of ssh.
        BackendMissing: If there is no ssh here.
    """
    others = [host for host in dict.fromkeys(hosts) if not is_here(host)]
    if not others:
        return
    if shutil.which("ssh") is None:
        raise BackendMissing("ssh is not installed: apt-get install openssh-client")
    trials = {host: _start(host, port) for host in others}
    reasons = {host: _why_not(trial) for host, trial in trials.items()}
    wrong = [f"{host}: {reason}" for host, reason in reasons.items() if reason is not None]
    if wrong:
        raise InputError(
            f"No process can be started on {'; '.join(wrong)}. Each host of --hosts must answer to "
            f"`{' '.join(_words(others[0], port))}` without a password; --ssh-port is for "
            "servers on another port."
        )


def is_here(host: str) -> bool:
    """Return whether a name is one of this machine's."""
    own = {one.address for ones in psutil.net_if_addrs().values() for one in ones}
    return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)} <= own


def _words(host: str, port: int | None) -> list[str]:
    options = [word for option in _OPTIONS for word in ("-o", option)]
    return ["ssh", *options, *([] if port is None else ["-p", str(port)]), host, "true"]


def _start(host: str, port: int | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _words(host, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _why_not(trial: subprocess.Popen[str]) -> str | None:
    try:
        _, told = trial.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        trial.kill()
        trial.communicate()
        return f"no answer within {_LIMIT_SECONDS} s"
    return None if trial.returncode == 0 else _last_line(told) or f"exit code {trial.returncode}"


def _last_line(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines() or [""]
    return lines[-1].strip()
