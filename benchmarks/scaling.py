"""Milliseconds of a training step on one rank and on two, one core each.

    python benchmarks/scaling.py [--rounds 7] [--steps 30] [--quick]

Each rank has a batch of 128 rows whatever their number, so the efficiency of two ranks is the time
of one over the time of two. Compared are: one rank without communication; plain Horovod code
(a gradient tape, ``grouped_allreduce``, the optimizer); ``tfopt.DistributedOptimizer``; and
MultiWorkerMirroredStrategy. Variants take turns within each round; medians of rounds are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BATCH = 128
MODELS = ("mlp 0.1M", "cnn 0.1M", "mlp 1M", "cnn 1M", "mlp 10M")
Step = Callable[[], Any]


def build(name: str) -> tuple[Any, tuple[int, ...]]:
    """Return a model of about this many parameters, and the shape of a row."""
    from tfopt.legacy_keras import keras

    layers = keras.layers
    if name.startswith("mlp"):
        inputs, *widths = {
            "mlp 0.1M": (256, 256, 128),
            "mlp 1M": (784, 800, 400),
            "mlp 10M": (1024, 2400, 2400),
        }[name]
        hidden = [layers.Dense(width, activation="relu") for width in widths]
        return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(10)]), (inputs,)
    widths = {"cnn 0.1M": (24, 48, 96), "cnn 1M": (64, 160, 288)}[name]
    shape = (16, 16, 3)
    hidden = [layers.Conv2D(width, 3, strides=2, activation="relu") for width in widths[:2]]
    hidden += [layers.Conv2D(widths[2], 3, padding="same", activation="relu"), layers.Flatten()]
    return keras.Sequential([keras.Input(shape), *hidden, layers.Dense(10)]), shape


def step_of(name: str, variant: str) -> tuple[Step, int]:
    """Return a compiled step, and the number of parameters."""
    import tensorflow as tf

    from tfopt.legacy_keras import keras

    model, shape = build(name)
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    if variant == "tfopt":
        import tfopt

        optimizer = tfopt.DistributedOptimizer(optimizer)
    rows = tf.random.normal((BATCH, *shape))
    labels = tf.random.uniform((BATCH,), maxval=10, dtype=tf.int32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    optimizer.build(model.trainable_variables)

    def train(rows: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(labels, model(rows, training=True)))
        variables = model.trainable_variables
        gradients = tape.gradient(value, variables)
        if variant == "plain":
            import horovod.tensorflow as hvd

            gradients = hvd.grouped_allreduce(gradients, op=hvd.Average)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return tf.identity(optimizer.iterations)

    if variant == "multi_worker":
        strategy = tf.distribute.get_strategy()
        compiled = tf.function(lambda *data: strategy.run(train, args=data))
    else:
        compiled = tf.function(train)
    return (lambda: compiled(rows, labels)), model.count_params()


def measure(steps: dict[str, Step], *, rounds: int, count: int) -> dict[str, float]:
    """Return the median milliseconds of each variant; they take turns in each round."""
    found: dict[str, list[float]] = {variant: [] for variant in steps}
    for _ in range(rounds + 1):
        for variant, step in steps.items():
            begin = time.perf_counter()
            for _ in range(count):
                done = step()
            int(done)  # a strategy may hand back control before a step has ended
            found[variant].append(1000 * (time.perf_counter() - begin) / count)
    return {variant: statistics.median(times[1:]) for variant, times in found.items()}


def work(kind: str, names: list[str], *, rounds: int, count: int) -> None:
    """Be one of the processes; the first one prints what was measured."""
    rank = int(os.environ.get("HOROVOD_RANK", os.environ.get("SCALING_RANK", "0")))
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    results = {}
    if kind == "multi_worker":
        with tf.distribute.MultiWorkerMirroredStrategy().scope():
            for name in names:
                step, _ = step_of(name, kind)
                results[name] = measure({kind: step}, rounds=rounds, count=count)
    else:
        from tfopt.strategies.horovod_door import hvd

        variants = ["alone", "plain", "tfopt"] if hvd().size() > 1 else ["alone"]
        for name in names:
            made = {variant: step_of(name, variant) for variant in variants}
            steps = {variant: step for variant, (step, _) in made.items()}
            results[name] = measure(steps, rounds=rounds, count=count)
            results[name]["parameters"] = made["alone"][1]
    if rank == 0:
        print("RESULTS " + json.dumps(results), flush=True)


def launch(kind: str, words: list[str]) -> dict[str, dict[str, float]]:
    """Start the processes of a kind, and return what the first one measured."""
    program = [sys.executable, __file__, "--worker", kind, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if kind == "multi_worker":
        hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
        started = [
            subprocess.Popen(
                program,
                env={
                    **environment,
                    "SCALING_RANK": str(rank),
                    "TF_CONFIG": json.dumps(
                        {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": rank}}
                    ),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for rank in range(2)
        ]
        output = [one.communicate(timeout=1800)[0] for one in started][0]
    else:
        launcher = [sys.executable, "-m", "horovod.runner.launch", "--gloo"]
        before = [*launcher, "-np", "2", "-H", "localhost:2"] if kind == "two" else []
        output = subprocess.run(
            [*before, *program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=1800,
            check=True,
        ).stdout
    (line,) = [line for line in output.splitlines() if "RESULTS " in line]
    return json.loads(line.split("RESULTS ", 1)[1])


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="two models, few steps")
    parser.add_argument("--worker", choices=("one", "two", "multi_worker"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = [*MODELS[:1], MODELS[2]] if given.quick else list(MODELS)
    rounds, count = (2, 5) if given.quick else (given.rounds, given.steps)
    if given.worker:
        work(given.worker, names, rounds=rounds, count=count)
        return
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("Two ranks need two cores, and this process may use one.")
    words = ["--rounds", str(given.rounds), "--steps", str(given.steps)]
    words += ["--quick"] if given.quick else []
    one, two, multi = (launch(kind, words) for kind in ("one", "two", "multi_worker"))
    print(
        f"{'model':<10}{'parameters':>12}{'1 rank':>9}{'2 apart':>9}{'plain':>9}{'tfopt':>9}"
        f"{'MWMS':>9}{'tfopt/plain':>13}{'efficiency':>12}"
    )
    for name in names:
        alone, apart = one[name]["alone"], two[name]["alone"]
        plain, ours, other = two[name]["plain"], two[name]["tfopt"], multi[name]["multi_worker"]
        print(
            f"{name:<10}{two[name]['parameters']:>12,}{alone:>9.2f}{apart:>9.2f}{plain:>9.2f}"
            f"{ours:>9.2f}{other:>9.2f}{ours / plain:>13.3f}{alone / ours:>12.1%}"
        )


if __name__ == "__main__":
    main()
