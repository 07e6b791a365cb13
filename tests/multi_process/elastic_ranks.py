"""Train with ``tfopt.fit_elastic`` in batches that two ranks cannot halve; print what came out."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import keras as keras3
import numpy as np
import tf_keras as keras2

import tfopt
from tfopt.distributed import versions
from tfopt.errors import TfoptError


def trained(keras: Any, *, steps: int = 9) -> dict[str, Any]:
    random = np.random.default_rng(2)
    x = random.normal(size=(40, 6)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True)
    keras.utils.set_random_seed(1 + int(os.environ.get("HOROVOD_RANK", "0")))
    layers = [keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=False)
    result = tfopt.fit_elastic(
        model, (x, y), tfopt.Elastic(steps=steps, batch_size=7, commit_every_steps=4)
    )
    weights = [weight.tolist() for weight in model.get_weights()]
    return {"rank": result.rank, "size": result.size, "steps": result.steps, "weights": weights}


def main() -> int:
    # A host that was installed at another time.
    if "--other-version" in sys.argv and os.environ.get("HOROVOD_RANK") == "1":
        found = versions.versions_here
        versions.versions_here = lambda: found() | {"tf_keras": "2.20.0"}
    try:
        for name, keras in (("tf_keras", keras2), ("keras3", keras3)):
            sys.stdout.write(f"RESULT {json.dumps({'keras': name, **trained(keras)})}\n")
    except TfoptError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
