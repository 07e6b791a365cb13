"""Prune, cluster and quantize Keras 3 models from end to end: one step, .keras file, int8 file.

    python benchmarks/bridge_compress.py --models MobileNetV2 bert --techniques prune quantize

Every model has random weights and small inputs, and batch-norm statistics calibrated so that
outputs depend on inputs; normalizations at the end of a residual branch have a small scale, as
training leaves them, since deep networks of random weights amplify any rounding beyond meaning.
"half step" is how far the float model's output still moves, relative to its largest, when the
inputs move by half a step of 8 bits: what an error of the file is to be held against.
"reload" is the largest difference of the result's output after its ``.keras`` file was loaded by
a process without tfopt. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfopt.reporting.process_log import quiet_tensorflow

with quiet_tensorflow():
    import keras as keras3

    import tfopt
    from tfopt.compression.base import CompressionPass
    from tfopt.compression.clustering import Cluster
    from tfopt.compression.pruning.magnitude import Prune
    from tfopt.compression.quantization.qat import Quantize
    from tfopt.config.schema import ClusterStep, PruneStep, QuantizeStep
    from tfopt.errors import TfoptError

CLASSES = 5
TRAINED = 64
SPARSITY = 0.8
CLUSTERS = 16
BRANCH_SCALE = 0.2

_RELOAD = """
import sys
import numpy as np, keras
model = keras.saving.load_model(sys.argv[1])
given = np.load(sys.argv[2])
inputs = {name: given[name] for name in given.files}
if "tfopt" in sys.modules:
    sys.exit("the file made Keras import tfopt")
np.save(sys.argv[3], model.predict(inputs.get("x", inputs), verbose=0))
"""


@dataclass(frozen=True)
class Case:
    """A Keras 3 model and the rows it is trained, calibrated and judged with.

    Attributes:
        model: The model.
        inputs: An array of ``TRAINED`` and more rows, or a mapping of them by input name.
        labels: Class numbers, one a row.
    """

    model: Any
    inputs: Any
    labels: np.ndarray

    def rows(self, chosen: slice) -> Any:
        """Return some rows of the inputs, in their structure."""
        if isinstance(self.inputs, dict):
            return {name: array[chosen] for name, array in self.inputs.items()}
        return self.inputs[chosen]

    @property
    def train(self) -> tuple[Any, np.ndarray]:
        """Return the rows to train with, and their labels."""
        return self.rows(slice(TRAINED)), self.labels[:TRAINED]

    @property
    def unseen(self) -> Any:
        """Return the rows to judge with."""
        return self.rows(slice(TRAINED, None))


@dataclass(frozen=True)
class Technique:
    """A step as the Python function and as the pass that says what it takes.

    Attributes:
        run: Given model and training rows, returns the result.
        decider: Says which layers are taken and why others are not.
        momentum: Of the batch normalizations, 0 where one step changes what they are to follow.
        achieved: Given the Keras 3 result and the numbers of layers with kernels and of weights
            taken, returns what was measured in words; raises if it is not what was asked for.
    """

    run: Callable[[Any, Any], Any]
    decider: CompressionPass
    momentum: float
    achieved: Callable[[Any, int, int], str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--techniques", nargs="+", choices=TECHNIQUES, default=list(TECHNIQUES))
    options = parser.parse_args()
    failures = [
        f"{model} {technique}: {problem}"
        for model in options.models
        for technique, problem in run_model(model, options.techniques)
    ]
    print(f"\n{len(failures)} failed")
    for failure in failures:
        print(f"  {failure}")
    return 1 if failures else 0


def run_model(name: str, techniques: Sequence[str]) -> list[tuple[str, str]]:
    """Return the techniques that failed on a model, each with the error."""
    keras3.utils.set_random_seed(0)
    case = MODELS[name]()
    print(f"\n{name}: {case.model.count_params():,} parameters, half step {half_step(case):.2g}")
    failures = []
    for technique in techniques:
        start = time.perf_counter()
        try:
            words = run_technique(case, TECHNIQUES[technique])
        except (TfoptError, CheckFailed) as error:
            words = f"FAILED: {error}"
            failures.append((technique, str(error)))
        except Exception as error:  # noqa: BLE001  # a defect is one of the results
            traceback.print_exc()
            words = f"FAILED: {type(error).__name__}: {error}"
            failures.append((technique, words))
        print(f"  {technique:<9}{words}, {time.perf_counter() - start:.0f} s", flush=True)
        for line in left_alone(case, TECHNIQUES[technique]):
            print(f"           {line}", flush=True)
    return failures


class CheckFailed(Exception):
    """A result is not what was asked for."""


def run_technique(case: Case, technique: Technique) -> str:
    """Return what came of a technique in one line."""
    decisions = technique.decider.decide(tfopt.to_tf_keras(case.model))
    taken = [entry for entry in decisions if entry.done]
    weights = int(sum(entry.values.get("weights", 0) for entry in taken))
    for norm in normalizations(case.model):
        norm.momentum = technique.momentum
    result = technique.run(case.model, case.train)
    if not isinstance(result, keras3.Model):
        raise CheckFailed(f"the result is a {type(result).__name__}, not a Keras 3 model")
    vectors = {one.name for one in result.layers if not kernels(one)}
    layers = sum(entry.layer not in vectors for entry in taken)
    achieved = technique.achieved(result, layers, weights)
    with tempfile.TemporaryDirectory() as folder:
        reload = reload_error(tfopt.strip(result), case.unseen, Path(folder))
        exported = export(result, case, Path(folder))
    words = f"{len(taken)} of {len(decisions)} layers taken, {achieved}"
    return f"{words}, reload {reload:.2g}; {exported}"


def left_alone(case: Case, technique: Technique) -> list[str]:
    """Return the layers that a technique does not take, counted by class and reason."""
    decisions = technique.decider.decide(tfopt.to_tf_keras(case.model))
    groups = Counter((entry.kind, entry.reason) for entry in decisions if not entry.done)
    return [f"{count} {kind}: {reason}" for (kind, reason), count in groups.most_common()]


def export(result: Any, case: Case, folder: Path) -> str:
    """Write the int8 file, which is verified against the result on rows not trained with."""
    artifact = tfopt.export_litert(
        result,
        folder / "model.tflite",
        precision="int8",
        calibration=case.train[0],
        evaluation=case.unseen,
    )
    largest = float(np.abs(predicted(result, case.unseen)).max())
    floats = Counter(operator.split(" ")[0] for operator in artifact.float_ops or ())
    named = ", ".join(f"{count} {operator}" for operator, count in floats.most_common(6))
    return (
        f"int8 {artifact.bytes:,} B, {artifact.int8_op_fraction:.1%} integer operators, max error "
        f"{(artifact.max_abs_error or 0) / largest:.2g}, top-1 agreement "
        f"{artifact.top1_agreement:.0%}, verified" + (f"; float: {named}" if named else "")
    )


def reload_error(plain: Any, inputs: Any, folder: Path) -> float:
    """Return the difference of a plain Keras 3 model after a round through its file."""
    path, given, found = folder / "plain.keras", folder / "rows.npz", folder / "outputs.npy"
    plain.save(path)
    np.savez(given, **(inputs if isinstance(inputs, dict) else {"x": inputs}))
    child = subprocess.run(
        [sys.executable, "-c", _RELOAD, str(path), str(given), str(found)],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise CheckFailed(f"the .keras file does not load without tfopt: {child.stderr[-300:]}")
    error = float(np.abs(np.load(found) - predicted(plain, inputs)).max())
    if not error <= 1e-5:
        raise CheckFailed(f"the .keras file predicts otherwise without tfopt, by {error:.2g}")
    return error


def predicted(model: Any, inputs: Any) -> np.ndarray:
    return np.asarray(model.predict(inputs, verbose=0))


def half_step(case: Case) -> float:
    """Return how far outputs move, over the largest, when inputs move by half an 8-bit step."""
    if isinstance(case.inputs, dict):
        return 0.0
    rows = case.unseen
    step = (rows.max() - min(rows.min(), 0)) / 255
    moved = rows + np.random.default_rng(1).choice([-0.5, 0.5], rows.shape) * step
    before = predicted(case.model, rows)
    after = predicted(case.model, moved.astype(np.float32))
    return float(np.abs(after - before).max() / np.abs(before).max())


def kernels(model: Any) -> list[np.ndarray]:
    """Return the weights of two and more axes; LayerScale has a kernel only in tf_keras."""
    return [np.asarray(one) for one in model.weights if len(one.shape) >= 2]


def zero_fraction(result: Any, layers: int, weights: int) -> str:
    del layers
    zeros = sum(int(np.count_nonzero(one == 0)) for one in kernels(result))
    found = zeros / weights
    if not SPARSITY - 0.01 <= found <= 1:
        raise CheckFailed(f"{found:.3f} of the weights taken are zero in Keras 3, not {SPARSITY}")
    return f"zero fraction {found:.3f}"


def distinct_values(result: Any, layers: int, weights: int) -> str:
    del weights
    counts = [len(np.unique(one)) for one in kernels(result)]
    clustered = [count for count in counts if count <= CLUSTERS]
    if len(clustered) < layers:
        raise CheckFailed(
            f"{len(clustered)} kernels have {CLUSTERS} values in Keras 3, not {layers}"
        )
    return f"at most {max(clustered)} values in {len(clustered)} kernels"


def emulation(result: Any, layers: int, weights: int) -> str:
    del layers, weights
    ranges = sum("_range" in one.path and "min" in one.path for one in result.weights)
    if not ranges:
        raise CheckFailed("the result has no 8-bit ranges")
    return f"{ranges} ranges"


def pictures(count: int, side: int) -> np.ndarray:
    """Return random pictures with structure: noise at several scales, in [0, 1]."""
    generator = np.random.default_rng(0)
    images = np.zeros((count, side, side, 3), np.float32)
    for cells in (4, 8, 16, 32):
        coarse = generator.normal(size=(count, cells, cells, 3)).astype(np.float32)
        size = -(-side // cells)
        images += np.kron(coarse, np.ones((1, size, size, 1), np.float32))[:, :side, :side]
    low, high = images.min(), images.max()
    return (images - low) / (high - low)


def application(name: str, side: int, *, brightest: float = 1.0) -> Callable[[], Case]:
    """Return what builds a model of ``keras.applications`` with calibrated statistics."""

    def build() -> Case:
        model = getattr(keras3.applications, name)(
            weights=None, classes=CLASSES, input_shape=(side, side, 3)
        )
        images = pictures(TRAINED + 32, side) * brightest
        for norm in normalizations(model):
            norm.momentum = 0.0
            if ends_a_branch(norm):
                norm.gamma.assign(BRANCH_SCALE * np.ones(norm.gamma.shape))
        model(images[:TRAINED], training=True)
        return Case(model, images, np.arange(len(images)) % CLASSES)

    return build


def normalizations(model: Any) -> list[Any]:
    return [one for one in model.layers if isinstance(one, keras3.layers.BatchNormalization)]


def ends_a_branch(layer: Any) -> bool:
    """Return whether a layer's output is added to a shortcut."""
    readers = [node.operation for node in layer._outbound_nodes]
    if len(readers) == 1 and isinstance(readers[0], keras3.layers.Dropout):
        return ends_a_branch(readers[0])
    return any(type(reader).__name__ == "Add" for reader in readers)


def bert() -> Case:
    """Return a tiny BERT classifier of KerasHub with random weights."""
    import keras_hub

    length, words, rows = 16, 50, TRAINED + 32
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=words,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=length,
    )
    model = keras_hub.models.BertTextClassifier(backbone=backbone, num_classes=CLASSES)
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, length + 1, (rows, 1))
    inputs = {
        "token_ids": generator.integers(1, words, (rows, length)).astype("int32"),
        "segment_ids": np.zeros((rows, length), "int32"),
        "padding_mask": (np.arange(length) < lengths).astype("int32"),
    }
    return Case(model, inputs, np.arange(rows) % CLASSES)


MODELS: dict[str, Callable[[], Case]] = {
    "MobileNetV2": application("MobileNetV2", 64),
    "MobileNetV3Small": application("MobileNetV3Small", 64, brightest=255.0),
    "EfficientNetB0": application("EfficientNetB0", 64, brightest=255.0),
    "ResNet50": application("ResNet50", 32),
    "DenseNet121": application("DenseNet121", 32),
    "Xception": application("Xception", 71),
    "ConvNeXtTiny": application("ConvNeXtTiny", 32, brightest=255.0),
    "bert": bert,
}

TECHNIQUES: dict[str, Technique] = {
    "prune": Technique(
        run=lambda model, train: tfopt.prune(
            model, train, sparsity=SPARSITY, epochs=2, batch_size=TRAINED
        ),
        decider=Prune(PruneStep(sparsity=SPARSITY)),
        momentum=0.0,
        achieved=zero_fraction,
    ),
    "cluster": Technique(
        run=lambda model, train: tfopt.cluster(
            model, train, clusters=CLUSTERS, epochs=1, batch_size=TRAINED
        ),
        decider=Cluster(ClusterStep(clusters=CLUSTERS)),
        momentum=0.0,
        achieved=distinct_values,
    ),
    "quantize": Technique(
        run=lambda model, train: tfopt.quantize(model, train, epochs=1, batch_size=TRAINED),
        decider=Quantize(QuantizeStep()),
        momentum=0.99,
        achieved=emulation,
    ),
}


if __name__ == "__main__":
    with quiet_tensorflow():
        sys.exit(main())
