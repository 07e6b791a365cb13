"""The one door to Horovod, which opens only where N processes are really N ranks.

Only Horovod's core is used (``horovod.tensorflow``). Its Keras modules mix Keras 2 and Keras 3.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Any

from tfopt.distributed.environment import Place, find_place
from tfopt.errors import BackendMissing

INSTALL = "scripts/install_horovod.sh"

# Within which a starting rank must arrive, after importing TensorFlow on a busy machine. Gloo's
# own 30 s end in std::terminate on the ranks that wait.
_ARRIVAL, _ARRIVAL_SECONDS = "HOROVOD_GLOO_TIMEOUT_SECONDS", "120"

__all__ = [
    "INSTALL",
    "hvd",
    "is_elastic",
    "is_installed",
    "launched",
    "library",
]


def is_installed() -> bool:
    """Return whether Horovod is there, without importing it."""
    return importlib.util.find_spec("horovod") is not None


def is_elastic() -> bool:
    """Return whether the number of ranks may change while this process lives."""
    return launched().is_elastic


def launched() -> Place:
    """Return where this process stands among those of a launcher of Horovod's ranks.

    Raises:
        InputError: If a launcher's variable does not say what it should.
    """
    place = find_place(os.environ)
    return place if place.kind == "horovod" else Place()


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
    place = launched()
    started = f"{place.launcher} started {place.size} processes"
    if place.size > 1 and place.launcher != "horovodrun" and not horovod.mpi_built():
        raise BackendMissing(
            f"{started}, and this Horovod was built without "
            "MPI: each of them would be rank 0 of 1 and train alone. Start them with horovodrun, "
            f"or build MPI in: {INSTALL} --mpi (Debian: apt-get install openmpi-bin "
            "libopenmpi-dev)."
        )
    if not horovod.is_initialized():
        if place.is_launched:
            os.environ.setdefault(_ARRIVAL, _ARRIVAL_SECONDS)
            horovod.init()
        else:
            _begin_alone(horovod)
    if not place.is_elastic and horovod.size() != place.size:
        raise BackendMissing(
            f"{started}, and Horovod sees {horovod.size()} "
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
