"""Teacher outputs on disk: the teacher runs once, and later epochs only read.

A shard is one file of some rows, named by what went into it: a hash of the teacher, of the
inputs as the teacher saw them, and of the number format. So another teacher, other inputs or
another augmentation find no file and are computed; equal ones are found after a kill too,
because files are written whole or not at all. A file begins with a checksum.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfopt.distillation.first_batch import TaughtInputs, agree
from tfopt.distillation.teachers import Teacher, TeacherResult, as_teacher
from tfopt.errors import DataError, InputError
from tfopt.keras2.core import keras
from tfopt.storage import make_folder, named_errors, remove_partial_files, write_whole

_log = logging.getLogger(__name__)

_SHARD_ROWS = 1024
_DIGEST_BYTES = 32
_PROBE_ROWS = 8
_LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Views:
    """Augmented versions of every row, each computed by the teacher once.

    Each epoch draws one of the versions for each row. Both the cache and ``fit`` call the
    same function with the same seed for the same row and version, so the student sees the
    very input that the teacher saw; a function that ignores its seed is refused.

    Attributes:
        augment: From one row of inputs and an int32 seed of shape ``(2,)`` to the
            row to learn from. Its random numbers must be ``tf.random.stateless_...``.
        count: Versions of each row, ``>= 1``.
        seed: Makes other versions, ``>= 0``.

    Raises:
        InputError: If a number is out of range.
    """

    augment: Callable[[Any, Any], Any]
    count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.seed <= _LARGEST_SEED:
            raise InputError(
                f"Views needs count >= 1 and a seed from 0 to {_LARGEST_SEED}. Received: "
                f"count={self.count}, seed={self.seed}."
            )


class TeacherCache:
    """Inputs, labels and teacher outputs; made by ``cache_teacher``.

    Attributes:
        rows: Number of rows.
        computed_rows: Rows, times views, that a teacher had to run on this time.
        folder: Where the shards are.
    """

    def __init__(
        self, data: _Rows, results: Sequence[TeacherResult], *, batch_size: int, folder: Path
    ) -> None:
        self.rows = data.count
        self.computed_rows = 0
        self.folder = folder
        self._data = data
        # Axes: view, row, and those of the output.
        self._results = tuple(results)
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[Any, Any, tuple[TeacherResult, ...]]]:
        """Yield batches ``(x, y, teacher_outputs)`` of NumPy arrays, in order, view by view."""
        for view in range(self._data.views):
            for start in range(0, self.rows, self._batch_size):
                numbers = np.arange(start, min(start + self._batch_size, self.rows))
                x = self._data.seen(numbers, view)
                y = self._data.labels(numbers)
                taught = tf.nest.map_structure(
                    lambda array, n=numbers, v=view: array[v, n].astype(_wide(array.dtype)),
                    self._results,
                )
                yield x, y, taught

    def dataset(
        self,
        batch_size: int | None = None,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """Return a dataset for ``Distiller.fit`` and ``evaluate``; the teacher is not run.

        Arrays and outputs are held in memory, outputs in the number format of the cache.

        Args:
            batch_size: Rows in a batch; None: that of ``cache_teacher``.
            shuffle: Another order in each epoch; with several views, also a view drawn
                for each row. Otherwise rows in order, in their first view.
            seed: Seed of order and views.
            drop_remainder: Leave out a last batch with fewer rows.

        Returns:
            Batches ``(TaughtInputs, y, sample_weight)``, as much of it as there is.
        """
        numbers = tf.data.Dataset.range(self.rows)
        views = tf.data.Dataset.from_tensors(tf.constant(0, tf.int64)).repeat()
        if shuffle:
            numbers = numbers.shuffle(self.rows, seed=seed, reshuffle_each_iteration=True)
        if shuffle and self._data.views > 1:
            drawn = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
            views = drawn.map(lambda number: number % self._data.views)
        pairs = tf.data.Dataset.zip((numbers, views))
        size = batch_size or self._batch_size
        pairs = pairs.batch(size, drop_remainder=drop_remainder)
        return pairs.map(self.batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def batch(self, numbers: Any, views: Any) -> tuple[Any, ...]:
        """Return a batch as ``dataset`` yields it; also inside of a graph.

        Args:
            numbers: Rows, int64 ``(rows,)``.
            views: View of each row, int64 ``(rows,)``.
        """
        places = tf.stack([views, numbers], axis=1)
        taught = tf.nest.map_structure(lambda array: _look_up(array, places), self._results)
        batch = [TaughtInputs(self._data.look(numbers, views), taught)]
        given = [self._data.y, self._data.weight]
        while given and given[-1] is None:
            given.pop()
        for part in given:
            batch.append(tf.nest.map_structure(lambda array: tf.gather(array, numbers), part))
        return tuple(batch)


def cache_teacher(  # noqa: PLR0913  # keyword-only options, each with its own default
    teacher: Any,
    data: Any,
    folder: str | Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    batch_size: int = 64,
    features: Sequence[str] = (),
    views: Views | None = None,
    teacher_inputs: Any = None,
) -> TeacherCache:
    """Run a teacher over all rows once, and keep what it says.

    What is in the folder and still right is not computed again, so an interrupted call goes
    on where it stopped. A damaged shard is computed again, with a warning on the logger
    ``tfopt``.

    Args:
        teacher: One teacher or a list of them; see ``as_teacher``. A function needs a key:
            ``CallableTeacher(function, key=...)``.
        data: ``x``, ``(x, y)`` or ``(x, y, sample_weight)`` arrays, or a batched, finite
            dataset of these, which is read into memory once.
        folder: Where to keep the outputs; made if missing. Several caches may share it, one
            process at a time.
        dtype: Number format on disk; float16 halves it, and rounds to 11 bits.
        batch_size: Rows for the teacher at once, and of the batches that come back.
        features: Inner tensors of the teachers that losses will look into.
        views: Augmented versions of the rows; None: the rows as they are.
        teacher_inputs: What the teachers read instead of ``x``, row for row: the same texts as
            the ids of another tokenizer, or the same pictures in another size.

    Returns:
        The rows with their outputs. Distil from them with ``teacher=None`` if the teachers
        read something else than the student.

    Raises:
        DataError: If the data is empty, endless or irregular, or the teachers read other rows.
        InputError: If an option is impossible, a teacher's content cannot be hashed, or the
            augmentation ignores its seed or would change the student's inputs alone.
        ModelError: If a teacher cannot take the data.
        StorageError: If the folder cannot be written.
    """
    if dtype not in ("float32", "float16"):
        raise InputError(f"dtype must be 'float32' or 'float16'. Received: {dtype!r}.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1. Received: {batch_size}.")
    folder = Path(folder)
    rows = _Rows(data, views)
    read = rows if teacher_inputs is None else _read_by_teachers(teacher_inputs, rows)
    make_folder(folder)
    remove_partial_files(folder)
    given = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
    teachers = [as_teacher(one) for one in given]
    bound = [one.with_features(features) if features else one for one in teachers]
    shelves = [_Shelf(one, folder, dtype=dtype, batch_size=batch_size) for one in bound]
    parts: list[list[list[TeacherResult]]] = [[] for _ in shelves]
    for view in range(rows.views):
        inputs_of_view = list(read.shards(view))
        for shelf, found in zip(shelves, parts, strict=True):
            found.append([shelf.get(inputs) for inputs in inputs_of_view])
    results = [
        tf.nest.map_structure(
            lambda *views_of: np.stack(views_of),
            *[
                tf.nest.map_structure(lambda *shards: np.concatenate(shards), *one_view)
                for one_view in found
            ],
        )
        for found in parts
    ]
    cache = TeacherCache(rows, results, batch_size=batch_size, folder=folder)
    cache.computed_rows = sum(shelf.computed_rows for shelf in shelves)
    return cache


class _Rows:
    """The rows in memory, and each of their views."""

    def __init__(self, data: Any, views: Views | None) -> None:
        self.x, self.y, self.weight = _arrays(data)
        self.count = _count([self.x, self.y, self.weight])
        self._views = views
        self.views = views.count if views is not None else 1
        # map_fn is slow outside of a graph. One graph: in a new one a random operation may start
        # again with the same number, and would pass for one that is seeded.
        self._graph = tf.function(self.look, reduce_retracing=True)
        if views is not None:
            self._require_seeded()

    @property
    def is_augmented(self) -> bool:
        """Return whether the inputs are changed before they are learned from."""
        return self._views is not None

    def look(self, numbers: Any, views: Any) -> Any:
        """Return inputs as they are learned from; also inside of a graph.

        Args:
            numbers: int64 ``(rows,)``.
            views: int64 ``(rows,)``.
        """
        plain = tf.nest.map_structure(lambda array: tf.gather(array, numbers), self.x)
        chosen = self._views
        if chosen is None:
            return plain

        def augmented(one: Any) -> Any:
            row, number, view = one
            first = tf.cast(view, tf.int32) * 7919 + chosen.seed  # another stream for each view
            return chosen.augment(row, tf.stack([first, tf.cast(number, tf.int32)]))

        return tf.map_fn(augmented, (plain, numbers, views), fn_output_signature=self._row_spec())

    def labels(self, numbers: Any) -> Any:
        """Return the labels of rows, or None."""
        if self.y is None:
            return None
        return tf.nest.map_structure(lambda array: array[numbers], self.y)

    def seen(self, numbers: Any, view: int) -> Any:
        """Return inputs of one view as NumPy arrays."""
        if self._views is None:
            return tf.nest.map_structure(lambda array: array[numbers], self.x)
        views = tf.fill([len(numbers)], tf.constant(view, tf.int64))
        return tf.nest.map_structure(
            lambda tensor: tensor.numpy(), self._graph(tf.constant(numbers), views)
        )

    def shards(self, view: int) -> Iterator[Any]:
        """Yield the inputs of each shard of a view."""
        for start in range(0, self.count, _SHARD_ROWS):
            yield self.seen(np.arange(start, min(start + _SHARD_ROWS, self.count)), view)

    def _row_spec(self) -> Any:
        row = tf.nest.map_structure(lambda array: tf.constant(array[0]), self.x)
        traced = tf.function(self._views.augment).get_concrete_function(  # type: ignore[union-attr]  # there are views
            row, tf.constant([0, 0])
        )
        return tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), traced.structured_outputs
        )

    def _require_seeded(self) -> None:
        numbers = np.arange(min(_PROBE_ROWS, self.count))
        if not agree(self.seen(numbers, 0), self.seen(numbers, 0), tolerance=0.0):
            raise InputError(
                "The augmentation gives another result each time, so the student would not see "
                "what the teacher saw. Draw its random numbers with tf.random.stateless_uniform "
                "and its like from the seed it is given."
            )


def _read_by_teachers(inputs: Any, rows: _Rows) -> _Rows:
    """Return the teachers' rows, as many as the student's."""
    if rows.is_augmented:
        raise InputError(
            "views change what the student reads, and teacher_inputs would stay as they are. "
            "Remove one of the two."
        )
    read = _Rows((inputs,), None)
    if read.count != rows.count:
        raise DataError(
            f"teacher_inputs has {read.count} rows, and the data {rows.count}. Give the same "
            "examples in the same order."
        )
    return read


class _Shelf:
    """The shards of one teacher in one number format."""

    def __init__(self, teacher: Teacher, folder: Path, *, dtype: str, batch_size: int) -> None:
        self.computed_rows = 0
        self._teacher = teacher
        self._dtype = dtype
        self._batch_size = batch_size
        self._folder = folder / f"{teacher.fingerprint()[:24]}-{dtype}"
        make_folder(self._folder)
        # The teacher as one graph; what runs outside of it anyway stays as it is.
        self._run: Any = None

    def get(self, inputs: Any) -> TeacherResult:
        """Return what the teacher says about the rows of a shard."""
        path = self._folder / f"{_hash_of(inputs)}.shard"
        found = _read(path)
        if found is None:
            found = self._compute(inputs)
            write_whole(path, _pack(found))
        return found

    def _compute(self, inputs: Any) -> TeacherResult:
        total = len(tf.nest.flatten(inputs)[0])
        parts = []
        for start in range(0, total, self._batch_size):
            batch = tf.nest.map_structure(
                lambda array, s=start: tf.constant(_single(array[s : s + self._batch_size])), inputs
            )
            raw = self._ask(batch)
            parts.append(tf.nest.map_structure(self._stored, raw))
        self.computed_rows += total
        whole = tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
        for name, array in {**whole.outputs, **whole.features}.items():
            if len(array) != total:
                raise DataError(
                    f"The {self._teacher.name} gives {len(array)} rows of {name!r} for {total}."
                )
        return TeacherResult(*whole)

    def _ask(self, batch: Any) -> TeacherResult:
        if self._run is None:
            first = self._teacher(batch)  # also shows whether it runs outside of the graph
            outside = self._teacher.is_numpy
            self._run = self._teacher if outside else tf.function(self._teacher.__call__)
            return first
        return TeacherResult(*self._run(batch))

    def _stored(self, tensor: Any) -> Any:
        array = np.asarray(tensor)
        if not np.issubdtype(array.dtype, np.floating):
            return array
        if not np.isfinite(array).all():
            raise DataError(f"The {self._teacher.name} gives outputs that are not finite.")
        with np.errstate(over="ignore"):  # told below
            stored = array.astype(self._dtype)
        if not np.isfinite(stored).all():
            raise DataError(
                f"The {self._teacher.name} gives outputs up to {np.abs(array).max():.3g}, beyond "
                "float16. Use dtype='float32'."
            )
        return stored


def _pack(result: TeacherResult) -> bytes:
    """Return the bytes of a shard: the checksum, then an ``.npz``."""
    arrays = {f"output:{name}": array for name, array in result.outputs.items()}
    arrays |= {f"feature:{name}": array for name, array in result.features.items()}
    names, buffer = list(arrays), io.BytesIO()
    # By position: a name may hold what a file name may not.
    np.savez(buffer, np.array(names), *arrays.values())
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content


def _read(path: Path) -> TeacherResult | None:
    """Return what a shard holds, or None if it must be computed."""
    if not path.exists():
        return None
    with named_errors(f"{path} cannot be read"):
        whole = path.read_bytes()
    checksum, content = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        _log.warning("%s is damaged; its rows are computed again", path)
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        names = [str(name) for name in stored["arr_0"]]
        arrays = [stored[f"arr_{number}"] for number in range(1, len(names) + 1)]
    found: dict[str, dict[str, Any]] = {"output": {}, "feature": {}}
    for name, array in zip(names, arrays, strict=True):
        kind, _, own = name.partition(":")
        found[kind][own] = array
    return TeacherResult(found["output"], found["feature"])


def _hash_of(inputs: Any) -> str:
    """Return a hash of arrays: names, types, shapes and values."""
    hasher = hashlib.sha256(repr(tf.nest.map_structure(lambda _: 0, inputs)).encode())
    for array in tf.nest.flatten(inputs):
        hasher.update(f"{array.dtype}{array.shape}".encode())
        if array.dtype == object:  # texts, as a dataset gives them
            for text in array.ravel():
                raw = text if isinstance(text, bytes) else str(text).encode()
                hasher.update(len(raw).to_bytes(8, "little") + raw)
        else:
            hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()[:40]


def _arrays(data: Any) -> tuple[Any, Any, Any]:
    """Return inputs, labels and sample weights as arrays; what is not there is None."""
    if isinstance(data, tf.data.Dataset):
        data = _read_dataset(data)
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    try:
        found = [
            tf.nest.map_structure(lambda v: _single(np.asarray(v)), part)
            if part is not None
            else None
            for part in (x, y, weight)
        ]
    except ValueError as error:
        raise DataError(f"The data is not regular arrays: {error}") from error
    return found[0], found[1], found[2]


def _read_dataset(data: tf.data.Dataset) -> Any:
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError("The dataset is endless, so it cannot be cached. Leave out repeat().")
    batches = list(data.as_numpy_iterator())
    if not batches:
        raise DataError("The data has no rows.")
    try:
        return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *batches)
    except ValueError as error:
        raise DataError(
            f"The dataset must be batched, with rows of one shape in all batches: {error}"
        ) from error


def _count(parts: Sequence[Any]) -> int:
    arrays = [array for part in parts if part is not None for array in tf.nest.flatten(part)]
    counts = {len(array) if array.ndim else 0 for array in arrays}
    if counts in (set(), {0}):
        raise DataError("The data has no rows.")
    if len(counts) > 1:
        raise DataError(f"Inputs, labels and weights differ in their rows: {sorted(counts)}.")
    return counts.pop()


def _look_up(array: Any, places: Any) -> Any:
    found = tf.gather_nd(array, places)
    return tf.cast(found, tf.float32) if found.dtype == tf.float16 else found


def _wide(dtype: Any) -> Any:
    return np.float32 if dtype == np.float16 else dtype


def _single(array: Any) -> Any:
    """Return an array in single precision if it is in double, as Keras feeds it."""
    return array.astype(np.float32) if array.dtype == np.float64 else array
