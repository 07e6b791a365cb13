"""Anything that turns inputs into outputs, as a teacher: models, files, functions.

A teacher runs in inference mode and is never a tracked attribute of the distiller, so its
weights are in none of the distiller's lists and its ``trainable`` flags stay as they are.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.distillation.feature_extractor import Tap, named_outputs
from tfopt.distillation.logits import Ending, endings
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import Model, is_keras3, keras
from tfopt.registry import did_you_mean
from tfopt.runtimes import open_litert
from tfopt.runtimes.onnx import open_onnx


class TeacherResult(NamedTuple):
    """What a teacher says about a batch.

    Attributes:
        outputs: Output name to tensor, rows first.
        features: Name to inner tensor, those that were asked for.
    """

    outputs: dict[str, Any]
    features: dict[str, Any]


class Teacher(Protocol):
    """One teacher, bound to the features it shall give."""

    @property
    def name(self) -> str:
        """Return how messages name it."""

    @property
    def is_numpy(self) -> bool:
        """Return whether it runs outside of the TensorFlow graph."""

    @property
    def endings(self) -> Mapping[str, Ending]:
        """Return what is known of its last layers, by output name."""

    def __call__(self, inputs: Any) -> TeacherResult:
        """Return what it says about a batch, in inference mode."""

    def with_features(self, names: Sequence[str]) -> Teacher:
        """Return the same teacher, which also gives these inner tensors.

        Raises:
            ModelError: If one is not there.
        """

    def weights(self) -> list[Any]:
        """Return its variables, as far as they are known."""

    def fingerprint(self) -> str:
        """Return a hash of its content.

        Raises:
            InputError: If the content cannot be seen.
        """


class KerasTeacher:
    """A tf_keras model; one of Keras 3 is converted first."""

    is_numpy = False

    def __init__(self, model: Model, features: Sequence[str] = ()) -> None:
        self.model = model
        self.name = f"teacher {model.name!r}"
        self.endings = endings(model)
        self._features = tuple(features)
        self._tap = Tap(model, features, what="teacher")

    def __call__(self, inputs: Any) -> TeacherResult:
        """Return what it says about a batch."""
        seen = self._tap(inputs, training=False)
        return TeacherResult(dict(seen.outputs), dict(seen.features))

    def with_features(self, names: Sequence[str]) -> KerasTeacher:
        """Return the same teacher with these features."""
        return KerasTeacher(self.model, names)

    def weights(self) -> list[Any]:
        """Return all variables, batch statistics included."""
        return list(self.model.weights)

    def fingerprint(self) -> str:
        """Return a hash of architecture and weights.

        Raises:
            InputError: If the model is subclassed.
        """
        if not getattr(self.model, "_is_graph_network", False):
            raise InputError(
                f"The {self.name} is a subclassed model, whose code cannot be hashed. Wrap it: "
                "CallableTeacher(lambda x: model(x, training=False), key='a name for this version')"
            )
        config = self.model.to_json().encode()
        return _digest([config, digest_of(self.weights()).encode(), *_names(self)])


class _NamedTensors:
    """What teachers share whose features are found among their outputs."""

    name: str

    def __init__(self, features: Sequence[str] = ()) -> None:
        self.endings: Mapping[str, Ending] = {}
        self._features = tuple(features)

    def weights(self) -> list[Any]:
        """Return nothing: what is inside is not seen."""
        return []

    def _result(self, raw: Any) -> TeacherResult:
        outputs = named_outputs(self, raw)
        for name in self._features:
            if name not in outputs:
                raise ModelError(
                    f"The {self.name} gives no tensor {name!r}.{did_you_mean(name, outputs)} It "
                    f"gives: {', '.join(outputs)}."
                )
        return TeacherResult(outputs, {name: outputs[name] for name in self._features})


class CallableTeacher(_NamedTensors):
    """Any function of a batch of inputs.

    It is called with NumPy arrays once. If it returns tensors then, it becomes part of the
    graph; if it returns arrays, it is run outside of it. A dictionary names its outputs.

    Args:
        function: From a batch of inputs to outputs; it must not train or drop anything.
        key: Names this version of it for the cache, which cannot look inside.
        name: How messages name it.
        features: Outputs that serve as features.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        key: str | None = None,
        name: str | None = None,
        features: Sequence[str] = (),
    ) -> None:
        super().__init__(features)
        self._function = function
        self._key = key
        self._own_name = name
        self.name = name or f"teacher {getattr(function, '__name__', type(function).__name__)!r}"
        self._specs: Mapping[str, Any] | None = None
        # A LiteRT or ONNX session serves one caller at a time; two replicas are two threads.
        self._lock = threading.Lock()

    @property
    def is_numpy(self) -> bool:
        """Return whether it was seen to return arrays rather than tensors."""
        return self._specs is not None

    def __call__(self, inputs: Any) -> TeacherResult:
        """Return what it says about a batch; the first time on real values."""
        if not any(tf.is_symbolic_tensor(t) for t in tf.nest.flatten(inputs)):
            return self._run_now(inputs)
        if self._specs is None:
            return self._result(self._function(inputs))
        return self._result(self._run_later(inputs, self._specs))

    def with_features(self, names: Sequence[str]) -> CallableTeacher:
        """Return the same teacher with these features."""
        return CallableTeacher(
            self._function, key=self._key, name=self._own_name, features=tuple(names)
        )

    def fingerprint(self) -> str:
        """Return a hash of its key.

        Raises:
            InputError: If it has none.
        """
        if self._key is None:
            raise InputError(
                f"The {self.name} is a function, and its content cannot be hashed. Name its "
                "version: CallableTeacher(function, key='...')."
            )
        return _digest([b"callable", self._key.encode(), *_names(self)])

    def _run_now(self, inputs: Any) -> TeacherResult:
        # Arrays first: NumPy code fails on tensors, TensorFlow code takes both.
        raw = self._function(tf.nest.map_structure(np.asarray, inputs))
        if all(tf.is_tensor(tensor) for tensor in tf.nest.flatten(raw)):
            return self._result(raw)
        outputs = {name: _floats(array) for name, array in named_outputs(self, raw).items()}
        self._specs = {
            name: tf.TensorSpec([None, *array.shape[1:]], array.dtype)
            for name, array in sorted(outputs.items())
        }
        return self._result({name: tf.constant(array) for name, array in outputs.items()})

    def _run_later(self, inputs: Any, specs: Mapping[str, Any]) -> dict[str, Any]:
        """Put the function into the graph as one operation on NumPy arrays."""

        def run(*arrays: Any) -> list[Any]:
            with self._lock:
                raw = self._function(tf.nest.pack_sequence_as(inputs, arrays))
            found = named_outputs(self, raw)
            return [_floats(found[name]) for name in specs]

        found = tf.numpy_function(
            run, tf.nest.flatten(inputs), [spec.dtype for spec in specs.values()]
        )
        for tensor, spec in zip(found, specs.values(), strict=True):
            tensor.set_shape(spec.shape)
        return dict(zip(specs, found, strict=True))


class FileTeacher(CallableTeacher):
    """A ``.tflite`` or ``.onnx`` file.

    Args:
        path: The file.
        features: Outputs that serve as features.

    Raises:
        InputError: If it is missing or damaged.
        ExportError: If it cannot be run.
        BackendMissing: If the runtime of its kind is not installed.
    """

    def __init__(self, path: Path, features: Sequence[str] = ()) -> None:
        model = open_onnx(path) if path.suffix == ".onnx" else open_litert(path)
        names = [info.name for info in model.outputs]

        def predict(inputs: Any) -> Any:
            found = model.predict(tf.nest.map_structure(np.asarray, inputs))
            return dict(zip(names, found, strict=True)) if len(names) > 1 else found

        super().__init__(predict, name=f"teacher {path.name!r}", features=features)
        self._path = path
        self.output_names = names

    def with_features(self, names: Sequence[str]) -> FileTeacher:
        """Return the same teacher with these features."""
        return FileTeacher(self._path, names)

    def fingerprint(self) -> str:
        """Return a hash of the file."""
        return _digest([_read(self._path), *_names(self)])


class SavedModelTeacher(_NamedTensors):
    """A signature of a SavedModel folder.

    Args:
        path: The folder.
        signature: Name of the signature.
        features: Outputs that serve as features.

    Raises:
        ModelError: If it is no SavedModel, or has no such signature.
    """

    is_numpy = False

    def __init__(
        self, path: str | Path, *, signature: str = "serving_default", features: Sequence[str] = ()
    ) -> None:
        super().__init__(features)
        self._path, self._signature = Path(path), signature
        self.name = f"teacher {str(path)!r}"
        if not (self._path / "saved_model.pb").is_file():
            raise ModelError(f"The {self.name} is no SavedModel: it has no saved_model.pb.")
        try:
            self._loaded = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise ModelError(f"The {self.name} cannot be loaded: {error}") from error
        known = dict(self._loaded.signatures)
        if signature not in known:
            raise ModelError(
                f"The {self.name} has no signature {signature!r}. It has: "
                f"{', '.join(known) or 'none'}."
            )
        self._function = known[signature]
        self._inputs = sorted(self._function.structured_input_signature[1])

    def __call__(self, inputs: Any) -> TeacherResult:
        """Return what it says about a batch."""
        given = dict(inputs) if isinstance(inputs, Mapping) else {}
        if not given and len(self._inputs) == 1:
            given = {self._inputs[0]: tf.nest.flatten(inputs)[0]}
        if sorted(given) != self._inputs:
            raise ModelError(
                f"The {self.name} takes inputs named {self._inputs}. Received: "
                f"{sorted(given) or 'inputs without names'}."
            )
        specs = self._function.structured_input_signature[1]
        cast = {name: tf.cast(value, specs[name].dtype) for name, value in given.items()}
        return self._result(self._function(**cast))

    def with_features(self, names: Sequence[str]) -> SavedModelTeacher:
        """Return the same teacher with these features."""
        return SavedModelTeacher(self._path, signature=self._signature, features=names)

    def weights(self) -> list[Any]:
        """Return the variables of the signature."""
        return list(self._function.variables)

    def fingerprint(self) -> str:
        """Return a hash of all files of the folder."""
        files = [file for file in sorted(self._path.rglob("*")) if file.is_file()]
        parts = [p for f in files for p in (str(f.relative_to(self._path)).encode(), _read(f))]
        return _digest([*parts, self._signature.encode(), *_names(self)])


def as_teacher(teacher: Any) -> Teacher:
    """Return a teacher made of a model, a file or a function.

    Args:
        teacher: A model of either Keras, a SavedModel folder, the path of a ``.tflite`` or
            ``.onnx`` file, a ``CallableTeacher`` or ``SavedModelTeacher``, or a function
            of a batch of inputs.

    Returns:
        The teacher, without features.

    Raises:
        InputError: If it is nothing of these.
        ModelError: If a model cannot be converted or loaded.
        BackendMissing: If the runtime of a file is not installed.
    """
    if isinstance(teacher, KerasTeacher | CallableTeacher | SavedModelTeacher):
        return teacher
    if is_keras3(teacher):
        return KerasTeacher(to_tf_keras(teacher))
    if isinstance(teacher, keras.Model):
        return KerasTeacher(teacher)
    if isinstance(teacher, str | Path):
        return _from_path(Path(teacher))
    if callable(teacher):
        return CallableTeacher(teacher)
    raise InputError(
        "The teacher must be a model, a path or a function of a batch of inputs. Received: "
        f"{type(teacher).__name__}."
    )


def snapshot(model: Model) -> Model:
    """Return an independent copy of a model, such as an earlier self as a teacher.

    Born-again networks (Furlanello et al. 2018, arXiv:1805.04770) need no copy: the trained
    student of one generation is the teacher of a fresh one. Self-distillation from where a
    model stands now does.

    Args:
        model: A Functional or Sequential tf_keras model.

    Raises:
        ModelError: If it is a subclassed model.
    """
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(
            f"The model {model.name!r} is subclassed and cannot be copied. Build a second one and "
            "set_weights()."
        )
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def digest_of(variables: Iterable[Any]) -> str:
    """Return a hash of the values of variables, in order."""
    return _digest(np.ascontiguousarray(variable.numpy()).tobytes() for variable in variables)


def _from_path(path: Path) -> Teacher:
    if path.suffix in (".tflite", ".onnx"):
        return FileTeacher(path)
    if path.is_dir():
        return SavedModelTeacher(path)
    if path.suffix in (".keras", ".h5"):
        raise InputError(
            f"{path} is a Keras file. Load it first: teacher=tfopt.load({str(path)!r})."
        )
    what = "is no model" if path.exists() else "does not exist"
    raise InputError(
        f"The teacher {str(path)!r} {what}. Give a .keras, .h5, .tflite or .onnx file, or a "
        "SavedModel folder."
    )


def _floats(array: Any) -> Any:
    """Return an output as an array; double precision becomes single."""
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _names(teacher: Any) -> list[bytes]:
    return [name.encode() for name in teacher._features]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The teacher {str(path)!r} cannot be read: {error}") from error


def _digest(parts: Iterable[bytes]) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()
