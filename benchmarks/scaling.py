"""Milliseconds of a training step on one rank and on two, one core each; what follows for more.

    python benchmarks/scaling.py [--launches 2] [--rounds 6] [--quick]

Each rank has a batch of its own whatever their number (128 rows unless said), so the efficiency of
two ranks is the time of one over the time of two. Compared are: one process without Horovod,
beside an idle core; two such processes at once, which do not communicate (``apart``); plain
Horovod code (a gradient tape, ``grouped_allreduce``, the optimizer); tfopt.DistributedOptimizer;
MultiWorkerMirroredStrategy; and tfopt over MPI, which uses shared memory, where mpirun is installed
and Horovod was built with it. ``of apart`` leaves out what two processes cost each other by sharing
a machine: caches, memory and clock.

The build of Horovod is printed first. Figures of one build say nothing of the other: exchanges of
that for busy cores (docs/horovod.md) are shorter on two cores than those of the release.

All of them take turns within each round: those that have no turn are stopped (SIGSTOP), so they
take nothing from those that have one. Medians over all rounds are shown, and of the ratios those
of each round, whose parts were measured within seconds of each other.

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
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tfopt.distributed.horovod.self_test import describe_build
from tfopt.distributed.launch.launcher import free_ports
from tfopt.reporting.process_log import quiet_tensorflow

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


class Turn(NamedTuple):
    """What is timed: a step of a kind of processes, on one or both of them."""

    kind: str
    step: str
    processes: int = 2


TURNS = {
    "one": Turn("bare", "bare", processes=1),
    "apart": Turn("bare", "bare"),
    "plain": Turn("horovod", "plain"),
    "tfopt": Turn("horovod", "tfopt"),
    "exchange": Turn("horovod", "exchange"),
    "check": Turn("horovod", "check"),
    "multi_worker": Turn("multi_worker", "multi_worker"),
    "mpi": Turn("mpi", "mpi"),
}
"""Columns of the table to what is timed for them."""

RANKS = (2, 4, 8, 16, 64)
NETWORKS = {"10 Gbit/s, 50 us": (1.25e9, 5e-5), "100 Gbit/s, 10 us": (1.25e10, 1e-5)}
"""Networks to bytes a second and seconds a message."""

Step = Callable[[], Any]
Times = dict[str, list[float]]
"""Columns to milliseconds of a step, one of each round."""


def build(name: str) -> Any:
    """Return a model of about this many parameters."""
    from tfopt.keras2.core import keras

    layers = keras.layers
    family, size = name.split(",")[0].split()
    if family == "dense":
        inputs, *widths = {
            "0.1M": (256, 256, 128),
            "1M": (784, 816, 416),
            "10M": (1024, 2688, 2688),
        }[size]
        hidden = [layers.Dense(width, activation="relu") for width in widths]
        return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(10)])
    width = {"0.1M": 19, "1M": 60, "10M": 189}[size]
    hidden = [
        layers.Conv2D(times * width, 3, strides=stride, padding="same", activation="relu")
        for times, stride in ((1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1))
    ]
    pooled = [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return keras.Sequential([keras.Input((32, 32, 3)), *hidden, *pooled])


def step_of(model: Any, variant: str, *, batch_size: int) -> Step:
    """Return a compiled step on random rows."""
    import tensorflow as tf

    from tfopt.keras2.core import keras

    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    if variant in ("tfopt", "mpi"):
        import tfopt

        optimizer = tfopt.DistributedOptimizer(optimizer)
    rows = tf.random.normal((batch_size, *model.input_shape[1:]))
    labels = tf.random.uniform((batch_size,), maxval=10, dtype=tf.int32)
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
    return lambda: compiled(rows, labels)


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
    from tfopt.distributed.horovod.consistency import require_equal_weights

    for variable in model.variables:
        variable.assign(variable * 0 + 0)  # a zero of one sign

    def check() -> int:
        require_equal_weights(model.variables)
        return 0

    return check


class Worker:
    """One process, which builds models and times their steps as it is told to."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._steps: dict[str, Step] = {}

    def build(self, name: str) -> int:
        """Make the steps of a model, in place of those of the last one; return its parameters."""
        self._steps.clear()
        for step in dict.fromkeys(turn.step for turn in TURNS.values() if turn.kind == self._kind):
            model = build(name)
            if step in ("exchange", "check"):
                self._steps[step] = {"exchange": exchange_of, "check": check_of}[step](model)
            else:
                self._steps[step] = step_of(model, step, batch_size=MODELS[name][0])
        return int(model.count_params())

    def time(self, name: str, count: int) -> float:
        """Return the milliseconds of a step: the mean of ``count``, after one more."""
        step = self._steps[name]
        int(step())
        begin = time.perf_counter()
        for _ in range(count):
            done = step()
        int(done)  # a strategy may hand back control before a step has ended
        return 1000 * (time.perf_counter() - begin) / count


def work(kind: str, port: int) -> None:
    """Be one of the processes: do what the program at a port says, until it hangs up."""
    ranks = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "SCALING_RANK")
    rank = next(int(os.environ[name]) for name in ranks if name in os.environ)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with ExitStack() as stack:
        line = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        if kind == "multi_worker":
            stack.enter_context(tf.distribute.MultiWorkerMirroredStrategy().scope())
        worker = Worker(kind)
        words = stack.enter_context(line.makefile("rw"))
        answer: Any = [rank, os.getpid()]
        while True:
            words.write(json.dumps(answer) + "\n")
            words.flush()
            if not (told := words.readline()):
                return
            what, *rest = json.loads(told)
            answer = getattr(worker, what)(*rest)


class Team:
    """The two processes of a kind."""

    def __init__(self, kind: str) -> None:
        """Start them, and wait until they are ready."""
        self._kind = kind
        self._output = tempfile.TemporaryFile("w+")
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._launchers = start(kind, server.getsockname()[1], self._output)
            server.settimeout(120)
            try:
                lines = [server.accept()[0].makefile("rw") for _ in range(2)]
            except TimeoutError:
                self._fail()
        ready = sorted((self._answer(line), number) for number, line in enumerate(lines))
        self._lines = [lines[number] for _, number in ready]
        self._processes = [process for (_, process), _ in ready]
        self._let(signal.SIGSTOP)

    def ask(self, *words: Any, processes: int = 2) -> Any:
        """Let that many of them do something; return what the first one answers."""
        self._let(signal.SIGCONT)
        for line in self._lines[:processes]:
            line.write(json.dumps(words) + "\n")
            line.flush()
        answers = [self._answer(line) for line in self._lines[:processes]]
        self._let(signal.SIGSTOP)
        return answers[0]

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up, and wait until they have gone."""
        self._let(signal.SIGCONT)
        for line in self._lines:
            line.close()
        for launcher in self._launchers:
            launcher.wait(timeout=60)

    def _let(self, number: int) -> None:
        # Horovod's threads wake each other every millisecond; other kinds wait asleep, and
        # TensorFlow takes workers that do not answer for lost.
        if self._kind in ("horovod", "mpi"):
            for process in self._processes:
                os.kill(process, number)

    def _answer(self, line: Any) -> Any:
        if not (told := line.readline()):
            self._fail()
        return json.loads(told)

    def _fail(self) -> NoReturn:
        for launcher in self._launchers:
            launcher.terminate()
        self._output.seek(0)
        sys.exit(f"The processes of {self._kind!r} failed:\n{self._output.read()[-2000:]}")


def start(kind: str, port: int, output: Any) -> list[subprocess.Popen[bytes]]:
    """Start the processes of a kind, which will call at a port."""
    program = [sys.executable, __file__, "--worker", kind, "--port", str(port)]
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HOROVOD_GLOO_TIMEOUT_SECONDS": "300",  # they are stopped for a while
    }
    launcher = {
        "horovod": [sys.executable, "-m", "horovod.runner.launch", "--gloo"],
        "mpi": ["mpirun", "--allow-run-as-root", "--bind-to", "none"],
    }.get(kind)
    run = partial(subprocess.Popen, stdout=output, stderr=subprocess.STDOUT)
    if launcher:
        return [run([*launcher, "-np", "2", "-H", "localhost:2", *program], env=shared)]
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = []
    for rank in range(2):
        own = {"SCALING_RANK": str(rank)}
        if kind == "multi_worker":
            task = {"type": "worker", "index": rank}
            own["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
        started.append(run(program, env=shared | own))
    return started


def measure(teams: dict[str, Team], *, rounds: int, count: int) -> Times:
    """Return the milliseconds of each column in each round; they take turns, after a warm-up."""
    found: Times = {column: [] for column, turn in TURNS.items() if turn.kind in teams}
    for number in range(rounds + 1):
        for column, times in found.items():
            turn = TURNS[column]
            took = teams[turn.kind].ask("time", turn.step, count, processes=turn.processes)
            if number > 0:
                times.append(took)
    return found


def has_mpi() -> bool:
    """Return whether mpirun is there, and Horovod knows it."""
    from tfopt.distributed.horovod.library import library

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


def show(found: dict[str, Times], parameters: dict[str, int]) -> None:
    """Print what was measured, the fit, and what it says for more ranks."""
    ms = {
        name: {column: statistics.median(times) for column, times in own.items()}
        for name, own in found.items()
    }
    columns = list(next(iter(ms.values())))
    ratios = {
        "tfopt/plain": ("tfopt", "plain"),
        "efficiency": ("one", "tfopt"),
        "of apart": ("apart", "tfopt"),
        "plain Horovod": ("one", "plain"),
        "MWMS": ("one", "multi_worker"),
        "MPI": ("one", "mpi"),
    }
    ratios = {head: pair for head, pair in ratios.items() if pair[1] in columns}
    print(f"{'model':<16}{'parameters':>12}" + "".join(f"{head:>14}" for head in columns))
    for name, own in ms.items():
        cells = "".join(f"{own[column]:>14.2f}" for column in columns)
        print(f"{name:<16}{parameters[name]:>12,}{cells}")
    heads = [*ratios, "check/100 steps"]
    print(f"\n{'model':<16}{'':>12}" + "".join(f"{head:>17}" for head in heads))
    for name, times in found.items():
        cells = "".join(f"{ratio_of(times, *pair):>17.1%}" for pair in ratios.values())
        print(f"{name:<28}{cells}{ratio_of(times, 'check', 'tfopt') / 100:>17.2%}")
    sizes = [4.0 * parameters[name] for name in ms]
    start, rate = fit_ring(sizes, [own["exchange"] / 1000 for own in ms.values()])
    print(
        f"\nexchange of n bytes between two ranks here: {1000 * start:.2f} ms + n / "
        f"{rate / 1e9:.2f} GB/s"
    )
    for network, (bandwidth, message) in NETWORKS.items():
        # Horovod's own start, and the slower of its copies and the network.
        ring = partial(ring_seconds, start=start, message=message, rate=min(rate, bandwidth))
        print(f"\npredicted efficiency, one rank a machine, {network} a message")
        print(f"{'model':<16}" + "".join(f"{ranks:>10}" for ranks in RANKS))
        for name, size in zip(ms, sizes, strict=True):
            step = ms[name]["one"] / 1000
            shares = [step / (step + ring(size, ranks)) for ranks in RANKS]
            print(f"{name:<16}" + "".join(f"{share:>10.1%}" for share in shares))


def ratio_of(times: Times, above: str, below: str) -> float:
    """Return the median over rounds of the ratio of two columns."""
    return statistics.median(
        one / other for one, other in zip(times[above], times[below], strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--launches", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6, help="of a launch, after a warm-up")
    parser.add_argument("--quick", action="store_true", help="two small models, few steps")
    parser.add_argument("--only", choices=list(MODELS), help="one model")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.port)
        return
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("Two ranks need two cores, and this process may use one.")
    names = ["dense 0.1M", "dense 1M"] if given.quick else list(MODELS)
    if given.only:
        names = [given.only]
    found: dict[str, Times] = {name: {} for name in names}
    parameters: dict[str, int] = {}
    kinds = dict.fromkeys(turn.kind for turn in TURNS.values())
    with quiet_tensorflow():
        print(f"Horovod {describe_build()}\n", flush=True)
    if not has_mpi():
        del kinds["mpi"]
    for _ in range(1 if given.quick else given.launches):
        with ExitStack() as stack:
            teams = {kind: stack.enter_context(Team(kind)) for kind in kinds}
            for name in found:
                parameters[name] = [team.ask("build", name) for team in teams.values()][0]
                count = 2 if given.quick else MODELS[name][1]
                times = measure(teams, rounds=given.rounds, count=count)
                for column, own in times.items():
                    found[name].setdefault(column, []).extend(own)
    show(found, parameters)


if __name__ == "__main__":
    main()
