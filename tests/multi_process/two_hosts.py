"""Train on this rank's part of every batch with ``tfopt.DistributedOptimizer``; print the end."""

from __future__ import annotations

import json
import socket
import sys

import numpy as np
import tf_keras as keras

import tfopt
from tfopt.distributed.horovod.library import hvd

BATCH, BATCHES = 8, 12


def main() -> None:
    horovod = hvd()
    rank, size = horovod.rank(), horovod.size()
    random = np.random.default_rng(3)
    x = random.normal(size=(BATCHES, BATCH, 6)).astype(np.float32)
    y = random.normal(size=(BATCHES, BATCH, 2)).astype(np.float32)
    keras.utils.set_random_seed(1 + rank)  # the broadcast has to make them equal
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
    )
    model.compile(tfopt.DistributedOptimizer(keras.optimizers.Adam(0.01)), "mse")
    own = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
    rows = (x[:, own].reshape(-1, 6), y[:, own].reshape(-1, 2))
    model.fit(
        *rows,
        batch_size=BATCH // size,
        shuffle=False,
        verbose=0,
        callbacks=tfopt.callbacks.BroadcastState(),
    )
    found = {"rank": rank, "size": size, "host": socket.gethostname()}
    found["weights"] = [weight.tolist() for weight in model.get_weights()]
    sys.stdout.write(f"RESULT {json.dumps(found)}\n")


if __name__ == "__main__":
    main()
