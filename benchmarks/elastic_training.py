"""Train a small network on digits with ``tfopt.fit_elastic``; the program that chaos.py harms.

    horovodrun -np 2 -H localhost:2 python benchmarks/elastic_training.py --journal /tmp/journal

Every rank appends a line of JSON for each update to JOURNAL.HOST.PID, and one at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfopt.reporting.process_log import quiet_tensorflow

with quiet_tensorflow():
    import keras as keras3
    import numpy as np
    import tf_keras as keras2
    from sklearn.datasets import load_digits

    from tfopt.distributed.elastic.fit import Elastic, fit_elastic
    from tfopt.errors import TfoptError


def small_model(keras: Any) -> Any:
    keras.utils.set_random_seed(5)
    layers = [keras.layers.Dense(48, "relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    return model


def digits() -> tuple[Any, Any]:
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--commit-every", type=int, default=10)
    parser.add_argument("--step-seconds", type=float, default=0.0, help="added to every update")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--keras", choices=("2", "3"), default="2")
    options = parser.parse_args()
    name = f"{options.journal}.{socket.gethostname()}.{os.getpid()}"
    first_rank = int(os.environ.get("HOROVOD_RANK", "0"))  # before any change of the ranks
    with open(name, "a", buffering=1) as log:

        def write(**facts: Any) -> None:
            log.write(json.dumps({"time": time.time(), **facts}) + "\n")

        def on_step(step: int, logs: Mapping[str, float]) -> None:
            write(step=step, loss=float(logs["loss"]), first_rank=first_rank)
            time.sleep(options.step_seconds)

        try:
            write(end=_train(options, on_step))
        except TfoptError as error:
            write(error=str(error))
            print(f"error: {socket.gethostname()}: {error}", file=sys.stderr, flush=True)
            return int(error.exit_code)
    return 0


def _train(options: argparse.Namespace, on_step: Any) -> dict[str, Any]:
    x, y = digits()
    model = small_model(keras3 if options.keras == "3" else keras2)
    settings = Elastic(
        steps=options.steps,
        batch_size=64,
        commit_every_steps=options.commit_every,
        seed=3,
        checkpoint=options.checkpoint,
    )
    result = fit_elastic(model, (x[:1500], y[:1500]), settings, on_step=on_step)
    weights = model.get_weights()
    accuracy = np.mean(model.predict(x[1500:], verbose=0).argmax(1) == y[1500:])
    return {
        "steps": result.steps,
        "rank": result.rank,
        "size": result.size,
        "loss": result.loss,
        "accuracy": float(accuracy),
        "sha": hashlib.sha256(b"".join(one.tobytes() for one in weights)).hexdigest(),
        "weights": [float(one.sum()) for one in weights],
        "changes": [
            {name: getattr(change, name) for name in change.__slots__} for change in result.changes
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
