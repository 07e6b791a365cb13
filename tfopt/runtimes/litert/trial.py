"""The trial run itself: ``python -m tfopt.runtimes.litert.trial JOB``, started by ``probe``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfopt.errors import InputError, TfoptError
from tfopt.runtimes.litert.loading import read_litert
from tfopt.runtimes.litert.model import LitertModel
from tfopt.runtimes.litert.probe import ProbeResult


def _trial_run(job: Mapping[str, Any]) -> ProbeResult:
    """Load and run a file; called in the child process."""
    path = Path(job["path"])
    try:
        content = read_litert(path)
        model = LitertModel(path, content)
    except InputError as error:
        return ProbeResult("invalid", str(error))
    except TfoptError as error:
        return ProbeResult("missing_ops", str(error))
    samples = None
    if job["samples"]:
        with np.load(job["samples"]) as archive:
            samples = [archive[f"input_{i}"] for i in range(len(model.inputs))]
    has_free_axes = any(None in info.shape[1:] for info in model.inputs)
    failure: TfoptError | None = None
    for free_size in (1, 32) if has_free_axes and samples is None else (1,):
        try:
            for rows in job["rows"]:
                for generator in (None, np.random.default_rng(0)):
                    arrays = model.example(generator, rows=rows, free_size=free_size)
                    if samples is not None:
                        arrays = [np.resize(s, (rows, *s.shape[1:])) for s in samples]
                    model.predict(arrays)
            return ProbeResult("ok")
        except TfoptError as error:
            failure = error
    return ProbeResult("failed", str(failure))


def _limit_memory() -> None:
    """Let a damaged size fail in this child rather than take the machine's memory."""
    import resource

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_AS, (total, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    _limit_memory()
    found = _trial_run(json.loads(sys.argv[1]))
    sys.stdout.write("\n" + json.dumps({"kind": found.kind, "message": found.message}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a damaged file may crash the runtime's destructors; the finding is made
