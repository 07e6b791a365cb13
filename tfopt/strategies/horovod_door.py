"""The one door to Horovod, which opens only where N processes are really N ranks.

Only Horovod's core is used (``horovod.tensorflow``). Its Keras modules mix Keras 2 and Keras 3.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Mapping
from typing import Any

from tfopt.errors import BackendMissing

INSTALL = "scripts/install_horovod.sh"

# What each launcher tells its processes about their number.
_SIZES = {
    "horovodrun": "HOROVOD_SIZE",
    "mpirun": "OMPI_COMM_WORLD_SIZE",
    "mpiexec": "PMI_SIZE",
    "srun": "SLURM_STEP_NUM_TASKS",
}

__all__ = [
    "INSTALL",
    "hvd",
    "is_elastic",
    "is_installed",
    "is_launched_by",
    "launched_size",
    "library",
]


def is_installed() -> bool:
    """Return whether Horovod is there, without importing it."""
    return importlib.util.find_spec("horovod") is not None


def is_elastic() -> bool:
    """Return whether the number of ranks may change while this process lives."""
    return os.environ.get("HOROVOD_ELASTIC") == "1"


def is_launched_by(environment: Mapping[str, str] | None = None) -> str | None:
    """Return which launcher started this process as one of several, or None.

    Args:
        environment: Environment variables; None: those of this process.

    Returns:
        ``horovodrun``, ``mpirun``, ``mpiexec`` or ``srun``. ``horovodrun --mpi`` runs ``mpirun``.

    Example:
        >>> is_launched_by({"OMPI_COMM_WORLD_SIZE": "4"})
        'mpirun'
    """
    found = os.environ if environment is None else environment
    if found.get("HOROVOD_ELASTIC") == "1":
        return "horovodrun"
    return next((name for name, variable in _SIZES.items() if _number(found, variable) > 1), None)


def launched_size(environment: Mapping[str, str] | None = None) -> int:
    """Return how many processes the launcher says there are; 1 without one.

    Args:
        environment: Environment variables; None: those of this process.
    """
    found = os.environ if environment is None else environment
    launcher = is_launched_by(found)
    return 1 if launcher is None else _number(found, _SIZES[launcher])


def library() -> Any:
    """Return ``horovod.tensorflow``, which may not be initialized.

    Raises:
        BackendMissing: If it is not installed, or was built for another TensorFlow.
    """
    if not is_installed():
        raise BackendMissing(f"Horovod is not installed. Build it with: {INSTALL}")
    try:
        with warnings.catch_warnings():
            # On Python 3.12 and later distutils comes from setuptools, which deprecates it.
            warnings.simplefilter("ignore", DeprecationWarning)
            import horovod.tensorflow as horovod
    except Exception as error:  # its loader raises many kinds for a library that does not fit
        raise BackendMissing(
            f"Horovod is installed, but cannot be loaded: {str(error).splitlines()[0]}. It is "
            f"built for one TensorFlow; build it again with: {INSTALL} --force"
        ) from error
    return horovod


def hvd() -> Any:
    """Return ``horovod.tensorflow``, initialized, with as many ranks as were launched.

    Without a launcher there is one rank.

    Raises:
        BackendMissing: If Horovod is missing, or this build does not know its launcher: built
            without MPI and started by ``mpirun``, each process believes that it is rank 0 of 1.
    """
    horovod = library()
    launcher = is_launched_by()
    if launcher not in (None, "horovodrun") and not horovod.mpi_built():
        raise BackendMissing(
            f"{launcher} started {launched_size()} processes, and this Horovod was built without "
            "MPI: each of them would be rank 0 of 1 and train alone. Start them with horovodrun, "
            f"or build MPI in: {INSTALL} --mpi (Debian: apt-get install openmpi-bin "
            "libopenmpi-dev)."
        )
    if not horovod.is_initialized():
        if launcher is None:
            _begin_alone(horovod)
        else:
            horovod.init()
    if not is_elastic() and horovod.size() != launched_size():
        raise BackendMissing(
            f"{launcher} started {launched_size()} processes, and Horovod sees {horovod.size()} "
            "rank(s). Its MPI is another one than the launcher's; start them with horovodrun, or "
            f"build against the MPI in use: {INSTALL} --mpi --force"
        )
    return horovod


def _begin_alone(horovod: Any) -> None:
    """Initialize one rank. MPI, where it is built, would start a server process for that."""
    settings = {"HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        horovod.init()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _number(environment: Mapping[str, str], variable: str) -> int:
    text = environment.get(variable, "")
    return int(text) if text.isdecimal() else 1
