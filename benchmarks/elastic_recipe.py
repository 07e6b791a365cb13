"""The model of the recipe that chaos.py harms: its processes write down their steps."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from tf_keras import Input, Model, Sequential, layers


class Journal(layers.Layer):
    """Appends a line of JSON for each step of training to $JOURNAL.HOST.PID, and waits a little."""

    def call(self, x: Any, training: Any = None) -> Any:
        """Return the input."""
        if not training or "JOURNAL" not in os.environ:
            return x
        told = tf.numpy_function(self.tell, [x[0, 0]], tf.float32)
        return x + 0 * tf.stop_gradient(tf.reshape(told, []))

    def tell(self, value: Any) -> Any:
        """Write the line."""
        name = f"{os.environ['JOURNAL']}.{socket.gethostname()}.{os.getpid()}"
        steps = len(Path(name).read_text().splitlines()) if Path(name).exists() else 0
        first_rank = int(os.environ.get("HOROVOD_RANK", "0"))  # before any change of the ranks
        time.sleep(float(os.environ["STEP_SECONDS"]))
        with open(name, "a") as file:
            line = {"time": time.time(), "step": steps + 1, "first_rank": first_rank}
            file.write(json.dumps(line) + "\n")
        return value


def small(input_shape: Any, classes: int) -> Model:
    """Return the model."""
    first = [Input(input_shape), layers.Flatten(), Journal(), layers.Dense(48, "relu")]
    return Sequential([*first, layers.Dense(classes, name="out")])
