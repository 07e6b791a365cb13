"""Whether the Horovod that is installed here can train, found out by trying."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tfopt.distributed.horovod.library import INSTALL, launched, library
from tfopt.errors import BackendMissing, VerificationError

_PROGRAM = (
    "import json, tensorflow as tf, horovod.tensorflow as hvd\n"
    "hvd.init()\n"
    "ranks = hvd.allgather(tf.constant([hvd.rank()])).numpy().tolist()\n"
    "total = float(hvd.allreduce(tf.constant(1.0 + hvd.rank()), op=hvd.Sum))\n"
    "if hvd.rank() == 0: print('FOUND', json.dumps([hvd.size(), ranks, total]))\n"
)
_EXPECTED = (2, [0, 1], 3.0)
_SECONDS = 120


def describe_build() -> str:
    """Return from which source this Horovod was built, for what and with what.

    Raises:
        BackendMissing: If it is missing or broken, was built for another TensorFlow, or knows no
            controller for the launcher that started this process.
    """
    import tensorflow as tf

    horovod = library()
    import horovod as package

    metadata = json.loads((Path(package.__file__).parent / "metadata.json").read_text())
    built_for = metadata.get("tensorflow")
    if built_for != tf.__version__:
        raise BackendMissing(
            f"Horovod was built for TensorFlow {built_for}, and {tf.__version__} is installed. "
            f"Build it again: {INSTALL} --force"
        )
    controllers = [name for name in ("gloo", "mpi") if getattr(horovod, f"{name}_built")()]
    place = launched()
    if place.size > 1 and place.launcher != "horovodrun" and "mpi" not in controllers:
        raise BackendMissing(
            f"built without MPI, and {place.launcher} started {place.size} processes: each is rank "
            f"0 of 1. Use horovodrun, or {INSTALL} --mpi"
        )
    on_gpus = "NCCL on GPUs" if horovod.nccl_built() else "no NCCL"
    found = version("horovod")
    return (
        f"{found} ({source_of(found)}) for TensorFlow {built_for}; controllers "
        f"{', '.join(controllers)}; operations on CPUs, {on_gpus}"
    )


def source_of(horovod_version: str) -> str:
    """Return which source a version of Horovod says that it was built from.

    Example:
        >>> source_of("0.28.1")
        'as released'
        >>> source_of("0.28.1+tfopt.1")
        'communication loop changed for busy cores'
    """
    _, _, local = horovod_version.partition("+")
    if local.startswith("tfopt."):
        return "communication loop changed for busy cores"
    return f"changed by others: {local}" if local else "as released"


def run_two_ranks() -> str:
    """Start two processes on this machine, and return what they found.

    Raises:
        BackendMissing: If Horovod is missing.
        VerificationError: If they are not ranks 0 and 1 of 2, or cannot sum a number.
    """
    library()
    # A launcher above this process would be taken for that of the two.
    others = ("HOROVOD_", "OMPI_", "PMI_", "PMIX_", "SLURM_")
    environment = {key: text for key, text in os.environ.items() if not key.startswith(others)}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    launch = ["-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2"]
    done = subprocess.run(
        [sys.executable, *launch, sys.executable, "-c", _PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if "FOUND " in line]
    if done.returncode or not lines:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing was printed").splitlines()[
            -1
        ]
        raise VerificationError(f"two processes on this machine failed: {last}")
    size, ranks, total = json.loads(lines[0].split("FOUND ", 1)[1])
    if (size, ranks, total) != _EXPECTED:
        raise VerificationError(
            f"two processes are ranks {ranks} of {size}, and sum 1 and 2 to {total}"
        )
    return "sizes 2, ranks {0, 1}, 1 + 2 = 3"
