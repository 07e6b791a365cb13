"""Describe the machine and the packages that figures were measured with.

Neither the host nor the user is named: reports are passed on.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

_CPU_INFO = Path("/proc/cpuinfo")
_TELLING_FLAGS = (
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
_PACKAGES = (
    "tfopt",
    "tensorflow",
    "tf_keras",
    "keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "numpy",
    "pydantic",
    "horovod",
)


def describe_machine() -> dict[str, Any]:
    """Return what decides how fast this machine computes.

    Returns:
        ``cpu`` (model name), ``logical_cores`` and ``physical_cores`` (None if unknown) of
        the machine, ``usable_cores`` (what this process may run on), ``memory_gb``,
        ``cpu_flags``, ``os``, ``kernel``, ``architecture`` and ``python``.
    """
    fields = _cpu_fields()
    return {
        "cpu": _cpu_name(fields),
        "logical_cores": psutil.cpu_count(logical=True),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": _usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "cpu_flags": _flags(fields),
        "os": _system_name(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def package_versions(names: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Return the version of each installed package; those not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_fields() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo; none off Linux."""
    try:
        text = _CPU_INFO.read_text(errors="replace")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _cpu_name(fields: dict[str, str]) -> str:
    return fields.get("model name") or platform.processor() or platform.machine() or "unknown"


def _flags(fields: dict[str, str]) -> list[str]:
    present = set(f"{fields.get('flags', '')} {fields.get('features', '')}".split())
    return [flag for flag in _TELLING_FLAGS if flag in present]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.version()}".strip()
