"""Let a host into an elastic job only when it can take part; a host discovery script.

    horovodrun ... --host-discovery-script \
        "python -m tfopt.distributed.launch.host_discovery hosts.txt"

Horovod counts on a host from the moment that it is listed: the ranks that train then wait for it,
and all of them are aborted if it does not come (Gloo's time-out ends in std::terminate). So a host
is tried first: it must answer to ssh, and load Horovod, TensorFlow and tfopt in the versions of
this machine. That also brings their files into its memory, so that its rank starts sooner.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

from tfopt.distributed.versions import versions_here
from tfopt.storage import write_whole

_trials: list[subprocess.Popen[bytes]] = []  # they outlive this process

_AGAIN_SECONDS = 30
_LIMIT_SECONDS = 120
_PROGRAM = (
    "import json, horovod.tensorflow; from tfopt.distributed.versions import versions_here; "
    "print(json.dumps(versions_here()))"
)


def admitted(file: Path) -> list[str]:
    """Return the lines of hosts that were tried with success, and start to try the others.

    Args:
        file: Lines of ``host:slots``; those that begin with ``#`` are left out. What is known of
            hosts is kept beside it, in a folder with the suffix ``.admission``.

    Raises:
        StorageError: If that folder cannot be written.
    """
    folder = file.with_name(f"{file.name}.admission")
    folder.mkdir(exist_ok=True)
    found = []
    for line in file.read_text().splitlines():
        host = line.partition(":")[0].strip()
        if not host or host.startswith("#"):
            continue
        if (folder / f"{host}.yes").exists():
            found.append(line.strip())
        else:
            _look_after(folder, host)
    return found


def _look_after(folder: Path, host: str) -> None:
    """Start a trial, unless one is on its way or has failed just now; tell once why it failed."""
    refused, told = folder / f"{host}.no", folder / f"{host}.told"
    if refused.exists() and not told.exists():
        told.touch()
        sys.stderr.write(f"tfopt: host {host} is left out: {refused.read_text().strip()}\n")
    trying = folder / f"{host}.trying"
    if trying.exists() and time.time() - trying.stat().st_mtime < _LIMIT_SECONDS:
        return
    if refused.exists() and time.time() - refused.stat().st_mtime < _AGAIN_SECONDS:
        return
    trying.touch()
    trial = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tfopt.distributed.launch.host_discovery",
            "--try",
            host,
            str(folder),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _trials.append(trial)


def try_host(host: str, folder: Path) -> None:
    """Find out whether a host can take part, and write it down.

    Raises:
        StorageError: If it cannot be written.
    """
    reason = _why_not(host)
    (folder / f"{host}.told").unlink(missing_ok=True)
    if reason is None:
        (folder / f"{host}.no").unlink(missing_ok=True)
        write_whole(folder / f"{host}.yes", b"")
    else:
        write_whole(folder / f"{host}.no", reason.encode())
    (folder / f"{host}.trying").unlink(missing_ok=True)


def _why_not(host: str) -> str | None:
    """Return why a host cannot take part, or None."""
    words = [sys.executable, "-c", _PROGRAM]
    if host not in ("localhost", socket.gethostname()):
        path = os.environ.get("PYTHONPATH", "")
        inside = ["env", f"PYTHONPATH={path}", *words] if path else words
        there = f"cd {shlex.quote(os.getcwd())} && {shlex.join(inside)}"
        words = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", host, there]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not answer within {_LIMIT_SECONDS} s."
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return lines[-1]
    found, own = json.loads(done.stdout.strip().splitlines()[-1]), versions_here()
    wrong = [f"{name} {found.get(name)} instead of {own[name]}" for name in own]
    wrong = [text for text, name in zip(wrong, own, strict=True) if found.get(name) != own[name]]
    return f"it has {', '.join(wrong)}." if wrong else None


def main() -> None:
    """Print the hosts that can take part, one a line."""
    if sys.argv[1] == "--try":
        try_host(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in admitted(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
