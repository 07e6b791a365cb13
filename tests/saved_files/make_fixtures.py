"""Write the files of ``data/`` that ``test_saved_files.py`` loads.

They were written by tfopt 0.1.0 before its modules moved (commit 6cdbdfe, with tf_keras 2.21,
Keras 3.15.1, KerasHub 0.32 and Horovod 0.28.1), and stay as they are: they prove that files of
that version go on loading. This program runs on that commit only, from the root of the repository::

    PYTHONPATH=. python tests/saved_files/make_fixtures.py

Beside each model lies an ``.npz`` file with its inputs (by name) and its outputs (by number).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras as keras3
import keras_hub
import numpy as np
import tensorflow as tf
import tf_keras as keras2
from tfopt.bridge.convert import to_tf_keras
from tfopt.bridge.mask_layers import WithMaskOf, WithoutMask
from tfopt.stages import make_pass, step_context

import tfopt
from tfopt.config.schema import ClusterStep, PruneStep, QuantizeStep, Step
from tfopt.data.split import split_from

DATA = Path(__file__).resolve().parent / "data"
MODELS, RUNS = DATA / "models", DATA / "runs"
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(64, 6, 6, 1)).astype("float32")
CLASSES = (IMAGES.mean(axis=(1, 2, 3)) > 0).astype("int64")
SEQUENCES = RANDOM.normal(size=(64, 8, 3)).astype("float32")
ROWS = RANDOM.normal(size=(16, 3)).astype("float32")
TARGETS = RANDOM.normal(size=(16, 2)).astype("float32")
PAD = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]], "int32")

RECIPE = """
name: small
seed: 3
data: {source: npz, path: rows.npz, batch_size: 8}
model: {path: small.keras}
train: {epochs: 2, learning_rate: 1.0e-2}
steps:
  - distill: {student: {path: smaller.keras}, epochs: 2, learning_rate: 5.0e-2}
  - prune: {sparsity: 0.5, epochs: 2}
  - cluster: {clusters: 8, epochs: 2}
  - quantize: {epochs: 2, teacher: {temperature: 2}}
export: [{litert: {precision: int8, runs: 5, warmup: 1}}]
"""
LORA_RECIPE = """
name: adapted
seed: 3
data: {source: npz, path: rows.npz, batch_size: 8}
model: {path: small.keras}
train:
  epochs: 2
  learning_rate: 1.0e-2
  transfer: {head: [logits], lora: {rank: 2, layers: [hidden]}}
"""
# Kills itself as soon as a file of the given name has been written the given number of times.
KILLED = """
import os, signal, sys
from pathlib import Path
from tfopt.cli import main

name, number, *words = sys.argv[1:]
replace, written = os.replace, []

def counted(source, target):
    replace(source, target)
    written.extend([target] if Path(target).name == name else [])
    if len(written) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = counted
sys.exit(main(words))
"""
RUN_STOPS = {
    "finished": (RECIPE, "", -1),
    # After the first epoch of clustering: train, distill and prune wrote two checkpoints each.
    "killed": (RECIPE, "checkpoint.npz", 7),
    # The manifest is written when a run opens, and when a stage begins and ends.
    "pruned": (RECIPE, "manifest.json", 7),
    "killed_with_adapters": (LORA_RECIPE, "checkpoint.npz", 1),
}


def keep(name: str, model: Any, inputs: Mapping[str, Any]) -> None:
    """Save a model, and what it computes from inputs."""
    path = MODELS / name
    tfopt.save(model, path)
    given = {key: tf.constant(value) for key, value in inputs.items()}
    found = tf.nest.flatten(model(given if len(given) > 1 else next(iter(given.values()))))
    outputs = {f"output/{number}": np.asarray(one) for number, one in enumerate(found)}
    named = {f"input/{key}": np.asarray(value) for key, value in inputs.items()}
    np.savez_compressed(path.with_name(f"{path.name}.npz"), **named, **outputs)


def picture(k: Any) -> Any:
    """Return a small classifier of either Keras."""
    k.utils.set_random_seed(0)
    layers = k.layers
    return k.Sequential(
        [
            k.Input((6, 6, 1), name="image"),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flat"),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(2, activation="softmax", name="head"),
        ],
        name="picture",
    )


def in_step(step: Step, model: Any, x: Any, y: Any) -> Any:
    """Return a model as a step wraps it, trained for a part of the step."""
    compression = make_pass(step)
    wrapped = compression.wrap(
        model, step_context(split_from((x, y), what="data"), step.settings, batch_size=16, seed=0)
    )
    wrapped.compile(keras2.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    wrapped.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=compression.callbacks())
    return wrapped


def save_steps() -> None:
    """Write models in the middle of each step, and finished ones with 8-bit ranges."""
    data = (IMAGES, CLASSES)
    image = {"image": IMAGES[:4]}
    plain = picture(keras2)
    pruning = in_step(Step(prune=PruneStep(sparsity=0.75, epochs=2)), plain, *data)
    keep("prune.keras", pruning, image)
    keep("prune.h5", pruning, image)
    of_four = Step(prune=PruneStep(pattern="2:4", epochs=2))
    keep("prune_2_4.keras", in_step(of_four, plain, *data), image)
    pruned = tfopt.prune(plain, data, sparsity=0.75, epochs=2, batch_size=16)
    clustering = in_step(Step(cluster=ClusterStep(clusters=6, epochs=2)), pruned, *data)
    keep("cluster.keras", clustering, image)
    clustered = tfopt.cluster(pruned, data, clusters=6, epochs=1, batch_size=16)
    quantizing = in_step(Step(quantize=QuantizeStep(epochs=2)), clustered, *data)
    keep("quantize.keras", quantizing, image)
    keep("quantize.h5", quantizing, image)
    finished = tfopt.quantize(clustered, data, epochs=1, batch_size=16)
    keep("quantized.keras", finished, image)
    keras2.utils.set_random_seed(0)
    sequence = keras2.Sequential(
        [
            keras2.Input((8, 3), name="steps"),
            keras2.layers.Conv1D(4, 3, activation="relu", name="conv"),
            keras2.layers.GlobalAveragePooling1D(name="mean"),
            keras2.layers.Dense(2, name="head"),
        ]
    )
    ready = tfopt.quantize(sequence, (SEQUENCES, CLASSES), epochs=1)
    keep("quantized_sequence.keras", ready, {"steps": SEQUENCES[:4]})
    keep("emulated.keras", tfopt.quantize(picture(keras3), data, epochs=1), image)


def moved(model: Any) -> Any:
    """Return a model with random weights all over: KerasHub's biases are 0 at first."""
    for weight in model.weights:
        weight.assign(np.asarray(weight) + RANDOM.normal(size=weight.shape) * 0.2)
    return model


def odd_layers() -> tuple[Any, dict[str, Any]]:
    """Return a Keras 3 model of parts that tf_keras lacks, and inputs."""
    layers = keras3.layers
    tokens = keras3.Input((6,), dtype="int32", name="tokens")
    state = keras3.Input((4,), name="state")
    x = layers.Embedding(7, 4, mask_zero=True, name="words")(tokens)
    x = layers.GRU(4, return_sequences=True, name="decoder")(x, initial_state=state)
    x = keras3.ops.logaddexp(layers.Dense(4, "hard_silu", name="dense")(x), x)
    x = layers.GlobalAveragePooling1D(name="mean")(layers.RMSNormalization(name="rms")(x))
    model = keras3.Model([tokens, state], x, name="odd")
    return model, {"tokens": PAD * 3, "state": np.ones((2, 4), "float32")}


def masks() -> Any:
    """Return a tf_keras model that takes a mask off a tensor, and puts it on again."""
    tokens = keras2.Input((6,), dtype="int32", name="tokens")
    masked = keras2.layers.Embedding(7, 4, mask_zero=True, name="words")(tokens)
    again = WithMaskOf(name="again")([WithoutMask(name="bare")(masked), masked])
    return keras2.Model(tokens, keras2.layers.LSTM(2, name="lstm")(again), name="masks")


def save_converted() -> None:
    """Write models converted from Keras 3 that hold layers of tfopt."""
    model, inputs = odd_layers()
    keep("odd_layers.keras", to_tf_keras(moved(model)), inputs)
    keep("masks.keras", masks(), {"tokens": PAD * 3})
    models = keras_hub.models
    bert = models.BertBackbone(20, 1, 2, 4, 8, max_sequence_length=6)
    ids = {
        "token_ids": PAD * 5,
        "segment_ids": PAD * 0,
        "padding_mask": PAD,
        "mask_positions": np.array([[0, 2], [1, 0]], "int32"),
    }
    masked = moved(models.BertMaskedLM(bert, preprocessor=None))
    keep("bert_masked_lm.keras", to_tf_keras(masked), ids)
    gpt2 = models.GPT2CausalLM(
        models.GPT2Backbone(20, 1, 2, 4, 8, max_sequence_length=6), preprocessor=None
    )
    text = {"token_ids": PAD * 5, "padding_mask": PAD}
    keep("gpt2.keras", to_tf_keras(moved(gpt2)), text)
    vit = models.ViTBackbone((4, 4, 3), 2, 1, 2, 4, 8)
    pixels = {"images": RANDOM.random((2, 4, 4, 3)).astype("float32")}
    keep("vit.keras", to_tf_keras(moved(vit)), pixels)


def save_distributed() -> None:
    """Write compiled models, and what they compute after one more epoch."""
    legacy = keras2.optimizers.legacy.SGD
    for name, k, optimizer in (
        ("distributed_tf_keras.keras", keras2, keras2.optimizers.SGD),
        ("distributed_tf_keras.h5", keras2, keras2.optimizers.SGD),
        ("distributed_legacy.keras", keras2, legacy),
        ("distributed_keras3.keras", keras3, keras3.optimizers.SGD),
    ):
        k.utils.set_random_seed(0)
        hidden = k.layers.Dense(4, activation="tanh", name="hidden")
        head = k.layers.Dense(2, name="head")
        model = k.Sequential([k.Input((3,), name="row"), hidden, head], name="compiled")
        plain = optimizer(0.1, momentum=0.9)
        wrapped = tfopt.DistributedOptimizer(plain, accumulate_steps=2, groups=3, op="sum")
        model.compile(wrapped, "mse")
        model.fit(ROWS, TARGETS, batch_size=4, epochs=2, shuffle=False, verbose=0)
        model.save(MODELS / name)
        outputs = np.asarray(model(ROWS))
        model.fit(ROWS, TARGETS, batch_size=4, shuffle=False, verbose=0)
        trained = np.asarray(model(ROWS))
        np.savez_compressed(
            MODELS / f"{name}.npz",
            **{"input/row": ROWS, "output/0": outputs, "targets": TARGETS, "trained": trained},
        )


def save_runs() -> None:
    """Write run folders of small recipes: finished, and killed at several instants."""
    image, target = IMAGES[:, :, :, 0].reshape(64, 36), CLASSES
    np.savez(RUNS / "rows.npz", x_train=image, y_train=target, x_test=image, y_test=target)
    for name, width in (("small", 8), ("smaller", 4)):
        keras2.utils.set_random_seed(0)
        layers = [
            keras2.Input((36,), name="row"),
            keras2.layers.Dense(width, activation="relu", name="hidden"),
            keras2.layers.Dense(2, name="logits"),
        ]
        keras2.Sequential(layers, name=name).save(RUNS / f"{name}.keras")
    (RUNS / "small.yaml").write_text(RECIPE.lstrip())
    (RUNS / "adapted.yaml").write_text(LORA_RECIPE.lstrip())
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for folder, (recipe, file, number) in RUN_STOPS.items():
        name = "small.yaml" if recipe == RECIPE else "adapted.yaml"
        words = [file, str(number), "run", name, "-o", folder]
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *words],
            cwd=RUNS,
            env=environment,
            check=False,
        )
        if done.returncode != (-signal.SIGKILL if file else 0):
            raise SystemExit(f"the run {folder} ended with exit code {done.returncode}")
        # They name the host, or are made again, and nothing reads them.
        shutil.rmtree(RUNS / folder / "logs")
        for leftover in (".lock", "report.html"):
            (RUNS / folder / leftover).unlink(missing_ok=True)


def main() -> None:
    """Write everything again."""
    shutil.rmtree(DATA, ignore_errors=True)
    for folder in (MODELS, RUNS):
        folder.mkdir(parents=True)
    warnings.simplefilter("ignore")
    save_distributed()
    save_steps()
    save_converted()
    save_runs()


if __name__ == "__main__":
    main()
