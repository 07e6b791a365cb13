"""Milliseconds of a training step on one rank and on two, one core each; what follows for more.

    python benchmarks/scaling.py [--launches 3] [--rounds 4] [--quick]

Each rank has a batch of its own whatever their number (128 rows unless said), so the efficiency of
two ranks is the time of one over the time of two; ``of apart`` leaves out what two processes cost
each other by sharing a machine. Compared are: one process without Horovod; the
same step on two ranks that do not communicate (``apart``); plain
Horovod code (a gradient tape, ``grouped_allreduce``, the optimizer); tfopt.DistributedOptimizer;
MultiWorkerMirroredStrategy; and tfopt over MPI, which uses shared memory, where mpirun is installed
and Horovod was built with it. Variants of a process take turns within each round, kinds of
processes in each launch; medians over all rounds are shown.

Two more columns are measured on two ranks: ``exchange``, the gradients' collective alone, and
``check``, the comparison of all weights over ranks, which a run does once an epoch.

A ring of p ranks sends every byte 2 (p - 1) / p times, in 2 (p - 1) messages (Patarasuk & Yuan
2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"). Start and rate are
fitted to the exchanges; the last tables are what the formula says for more ranks, each on a
machine of its own. They were not measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    "dense 0.1M": (128, 60),
    "conv 0.1M": (128, 20),
    "dense 1M": (128, 40),
    "dense 1M, 4096": (4096, 10),
    "conv 1M": (128, 8),
    "conv 1M, 512": (512, 3),
    "dense 10M": (128, 10),
    "conv 10M": (128, 2),
}
"""Models to the rows of a rank's batch, and the steps of a round."""

KINDS = ("one", "two", "multi_worker", "mpi")
RANKS = (2, 4, 8, 16, 64)
NETWORKS = {"10 Gbit/s, 50 us": (1.25e9, 5e-5), "100 Gbit/s, 10 us": (1.25e10, 1e-5)}
"""Networks to bytes a second and seconds a message."""

Step = Callable[[], Any]


def build(name: str) -> tuple[Any, tuple[int, ...]]:
    """Return a model of about this many parameters, and the shape of a row."""
    from tfopt.legacy_keras import keras

    layers = keras.layers
    family, size = name.split(",")[0].split()
    if family == "dense":
        inputs, *widths = {
            "0.1M": (256, 256, 128),
            "1M": (784, 816, 416),
            "10M": (1024, 2688, 2688),
        }[size]
        hidden = [layers.Dense(width, activation="relu") for width in widths]
        return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(10)]), (inputs,)
    width = {"0.1M": 19, "1M": 60, "10M": 189}[size]
    hidden = [
        layers.Conv2D(times * width, 3, strides=stride, padding="same", activation="relu")
        for times, stride in ((1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1))
    ]
    pooled = [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return keras.Sequential([keras.Input((32, 32, 3)), *hidden, *pooled]), (32, 32, 3)


def step_of(name: str, variant: str) -> tuple[Step, Any]:
    """Return a compiled step, and the model."""
    import tensorflow as tf

    from tfopt.legacy_keras import keras

    model, shape = build(name)
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    if variant in ("tfopt", "mpi"):
        import tfopt

        optimizer = tfopt.DistributedOptimizer(optimizer)
    rows = tf.random.normal((MODELS[name][0], *shape))
    labels = tf.random.uniform((MODELS[name][0],), maxval=10, dtype=tf.int32)
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
    return (lambda: compiled(rows, labels)), model


def exchange_of(model: Any) -> Step:
    """Return the collective of a model's gradients, without the rest of a step."""
    import horovod.tensorflow as hvd
    import tensorflow as tf

    zeros = [tf.zeros(variable.shape) for variable in model.trainable_variables]

    def exchange(*tensors: Any) -> Any:
        sums = hvd.grouped_allreduce(list(tensors), op=hvd.Average)
        return tf.add_n([tf.reshape(one, [-1])[0] for one in sums])

    compiled = tf.function(exchange)
    return lambda: compiled(*zeros)


def check_of(model: Any) -> Step:
    """Return the comparison of all weights over ranks."""
    from tfopt.strategies.agreement import require_equal_weights

    for variable in model.variables:
        variable.assign(variable * 0 + 0)  # a zero of one sign

    def check() -> int:
        require_equal_weights(model.variables)
        return 0

    return check


def measure(steps: dict[str, Step], *, rounds: int, count: int) -> dict[str, list[float]]:
    """Return the milliseconds of each variant in each round; they take turns, after a warm-up."""
    found: dict[str, list[float]] = {variant: [] for variant in steps}
    for _ in range(rounds + 1):
        for variant, step in steps.items():
            begin = time.perf_counter()
            for _ in range(count):
                done = step()
            int(done)  # a strategy may hand back control before a step has ended
            found[variant].append(1000 * (time.perf_counter() - begin) / count)
    return {variant: times[1:] for variant, times in found.items()}


def work(kind: str, names: list[str], *, rounds: int, quick: bool) -> None:
    """Be one of the processes; the first one prints what was measured."""
    ranks = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "SCALING_RANK")
    rank = next((int(os.environ[name]) for name in ranks if name in os.environ), 0)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        if kind == "multi_worker":
            stack.enter_context(tf.distribute.MultiWorkerMirroredStrategy().scope())
        for name in names:
            count = 2 if quick else MODELS[name][1]
            variants = ["apart", "plain", "tfopt"] if kind == "two" else [kind]
            made = {variant: step_of(name, variant) for variant in variants}
            steps = {variant: step for variant, (step, _) in made.items()}
            model = made[variants[0]][1]
            if kind == "two":
                steps |= {"exchange": exchange_of(model), "check": check_of(build(name)[0])}
            found[name] = measure(steps, rounds=rounds, count=count)
            found[name]["parameters"] = model.count_params()
    if rank == 0:
        print("RESULTS " + json.dumps(found), flush=True)


def launch(kind: str, words: list[str]) -> dict[str, Any]:
    """Start the processes of a kind, and return what the first one measured."""
    program = [sys.executable, __file__, "--worker", kind, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if kind == "multi_worker":
        hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
        environments = [
            {
                **environment,
                "SCALING_RANK": str(rank),
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": rank}}
                ),
            }
            for rank in range(2)
        ]
    else:
        before = {
            "two": [sys.executable, "-m", "horovod.runner.launch", "--gloo"],
            "mpi": ["mpirun", "--allow-run-as-root", "--bind-to", "none"],
        }.get(kind)
        ranks = [*before, "-np", "2", "-H", "localhost:2"] if before else []
        program, environments = [*ranks, *program], [environment]
    started = [
        subprocess.Popen(
            program,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for own in environments
    ]
    output = [process.communicate(timeout=1800)[0] for process in started][0]
    lines = [line for line in output.splitlines() if "RESULTS " in line]
    if len(lines) != 1:
        sys.exit(f"The processes of {kind!r} failed:\n{output[-2000:]}")
    found: dict[str, Any] = json.loads(lines[0].split("RESULTS ", 1)[1])
    return found


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def has_mpi() -> bool:
    """Return whether mpirun is there, and Horovod knows it."""
    from tfopt.strategies.horovod_door import library

    return shutil.which("mpirun") is not None and bool(library().mpi_built())


def fit_ring(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return the seconds of an empty exchange of two ranks, and their bytes a second.

    Errors are weighed by size, since the largest exchange would decide everything else.
    """
    table = np.array([[1.0, size] for size in sizes]) / np.array(seconds)[:, None]
    start, each = np.linalg.lstsq(table, np.ones(len(sizes)), rcond=None)[0]
    return float(start), 1 / float(each)


def ring_seconds(size: float, ranks: int, *, start: float, message: float, rate: float) -> float:
    """Return the seconds in which a ring of ranks adds up ``size`` bytes."""
    return start + 2 * (ranks - 1) * message + 2 * (ranks - 1) / ranks * size / rate


def show(found: dict[str, dict[str, list[float]]], parameters: dict[str, int]) -> None:
    """Print what was measured, the fit, and what it says for more ranks."""
    ms = {
        name: {variant: statistics.median(times) for variant, times in variants.items()}
        for name, variants in found.items()
    }
    kinds = ["one", "apart", "plain", "tfopt", "exchange", "check", "multi_worker"]
    kinds += [kind for kind in ("mpi",) if all(kind in own for own in ms.values())]
    bare = math.nan  # without MPI
    print(
        f"{'model':<16}{'parameters':>12}" + "".join(f"{kind:>13}" for kind in kinds) + "  "
        f"{'tfopt/plain':>11}{'efficiency':>12}{'of apart':>10}{'with MPI':>10}"
        f"{'MWMS':>8}{'check/100 steps':>17}"
    )
    for name, own in ms.items():
        print(
            f"{name:<16}{parameters[name]:>12,}"
            + "".join(f"{own[kind]:>13.2f}" for kind in kinds)
            + f"  {own['tfopt'] / own['plain']:>11.3f}{own['one'] / own['tfopt']:>12.1%}"
            f"{own['apart'] / own['tfopt']:>10.1%}"
            f"{own['one'] / own.get('mpi', bare):>10.1%}{own['one'] / own['multi_worker']:>8.1%}"
            f"{own['check'] / own['tfopt'] / 100:>17.2%}"
        )
    sizes = [4.0 * parameters[name] for name in ms]
    start, rate = fit_ring(sizes, [own["exchange"] / 1000 for own in ms.values()])
    print(
        f"\nexchange of n bytes between two ranks here: {1000 * start:.2f} ms + n / "
        f"{rate / 1e9:.2f} GB/s"
    )
    for network, (bandwidth, message) in NETWORKS.items():
        print(f"\npredicted efficiency, one rank a machine, {network} a message")
        print(f"{'model':<16}" + "".join(f"{ranks:>10}" for ranks in RANKS))
        for name, size in zip(ms, sizes, strict=True):
            step = ms[name]["one"] / 1000
            # Horovod's own start, and the slower of its copies and the network.
            shares = [
                step
                / (
                    step
                    + ring_seconds(
                        size, ranks, start=start, message=message, rate=min(rate, bandwidth)
                    )
                )
                for ranks in RANKS
            ]
            print(f"{name:<16}" + "".join(f"{share:>10.1%}" for share in shares))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4, help="of a launch, after a warm-up")
    parser.add_argument("--quick", action="store_true", help="two small models, few steps")
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = ["dense 0.1M", "dense 1M"] if given.quick else list(MODELS)
    if given.worker:
        work(given.worker, names, rounds=given.rounds, quick=given.quick)
        return
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("Two ranks need two cores, and this process may use one.")
    words = ["--rounds", str(given.rounds), *(["--quick"] if given.quick else [])]
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    parameters: dict[str, int] = {}
    kinds = [kind for kind in KINDS if kind != "mpi" or has_mpi()]
    for _ in range(1 if given.quick else given.launches):
        for kind in kinds:
            for name, variants in launch(kind, words).items():
                parameters[name] = variants.pop("parameters")
                for variant, times in variants.items():
                    found[name].setdefault(variant, []).extend(times)
    show(found, parameters)


if __name__ == "__main__":
    main()
