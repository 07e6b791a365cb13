"""Gradients of this rank in, gradients of all ranks out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # who compiles a graph; not public

from tfopt.distributed.horovod.library import INSTALL, hvd, is_elastic
from tfopt.errors import BackendMissing, InputError

Compression: TypeAlias = Literal["none", "float16"]
Operation: TypeAlias = Literal["average", "sum", "adasum"]

_labels = itertools.count()


def restart_labels() -> None:
    """Number reductions from 0 again, as a process that has just begun does."""
    global _labels
    _labels = itertools.count()


@dataclass(slots=True)
class Reduction:
    """How gradients of several ranks become one.

    Attributes:
        op: ``average``, ``sum``, or ``adasum`` (Maleki et al. 2020, arXiv:2006.02924), which
            needs MPI and a power of two of ranks.
        compression: What is sent; ``float16`` halves the bytes and costs accuracy.
        sparse_as_dense: Whether the gradient of an embedding is sent as a whole table instead of
            the rows in use.
        groups: Groups of dense gradients that are sent at once, ``>= 1``. 0: each on its own.
        process_set: A ``horovod.tensorflow.ProcessSet``: the ranks that take part. None: all.
        label: Part of the name of each collective, equal on all ranks: reductions are numbered
            in the order of their first use.
    """

    op: Operation = "average"
    compression: Compression = "none"
    sparse_as_dense: bool = False
    groups: int = 1
    process_set: Any = None
    label: str = field(default="", compare=False)

    def require_valid(self) -> None:
        """Raise unless the settings are possible here.

        Raises:
            InputError: If a setting is not one of those allowed.
            BackendMissing: If ``adasum`` is asked for, and MPI is not in use.
        """
        _require_choice("op", self.op, get_args(Operation))
        _require_choice("compression", self.compression, get_args(Compression))
        if isinstance(self.groups, bool) or not isinstance(self.groups, int) or self.groups < 0:
            raise InputError(f"groups must be a number >= 0. Received: {self.groups!r}.")
        if self.op == "adasum":
            self._require_adasum()

    def _require_adasum(self) -> None:
        horovod = hvd()
        if horovod.size() > 1 and not horovod.mpi_enabled():
            raise BackendMissing(
                "op='adasum' is an MPI operation of Horovod, and this process uses Gloo. Build MPI "
                f"in ({INSTALL} --mpi), and start with mpirun or horovodrun --mpi."
            )
        if horovod.size() & (horovod.size() - 1):
            raise InputError(f"op='adasum' needs 2, 4, 8, ... ranks. There are {horovod.size()}.")

    # Nothing in here is TensorFlow code to convert.
    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]  # ships no types
    def __call__(self, gradients: Sequence[Any]) -> list[Any]:
        """Return the gradients of all ranks; collective: every rank must call it.

        Args:
            gradients: Tensors, IndexedSlices or None, in the same order on every rank.

        Returns:
            The same, reduced. With one rank nothing is changed.

        Raises:
            InputError: If XLA compiles the step, or replicas of ``tf.distribute`` run it.
        """
        horovod = hvd()
        found = list(gradients)
        if horovod.size() == 1 and not is_elastic():
            return found
        _require_plain_graph()
        if self.sparse_as_dense or self.op == "adasum":
            found = [
                tf.convert_to_tensor(one) if isinstance(one, tf.IndexedSlices) else one
                for one in found
            ]
        # The stock elastic loop of Horovod knows its own errors by this beginning.
        self.label = self.label or f"HorovodAllreduce_tfopt_{next(_labels)}"
        for index, gradient in enumerate(found):
            if isinstance(gradient, tf.IndexedSlices):
                found[index] = self._sparse(gradient, f"{self.label}_rows_{index}")
        dense = [index for index, one in enumerate(found) if isinstance(one, tf.Tensor)]
        for number, group in enumerate(self._groups([found[index] for index in dense])):
            reduced = self._dense(group, f"{self.label}_{number}")
            for index, gradient in zip(dense[: len(reduced)], reduced, strict=True):
                found[index] = gradient
            dense = dense[len(reduced) :]
        return found

    def _groups(self, tensors: list[Any]) -> list[list[Any]]:
        """Return neighbours of one type together, in about ``groups`` runs."""
        if not self.groups or self.op == "adasum":
            return [[one] for one in tensors]
        longest = -(-len(tensors) // self.groups) if tensors else 1
        runs: list[list[Any]] = []
        for one in tensors:
            if runs and len(runs[-1]) < longest and runs[-1][0].dtype == one.dtype:
                runs[-1].append(one)
            else:
                runs.append([one])
        return runs

    def _dense(self, tensors: list[Any], name: str) -> list[Any]:
        horovod = hvd()
        settings = {
            "op": {"average": horovod.Average, "sum": horovod.Sum, "adasum": horovod.Adasum}[
                self.op
            ],
            "compression": {
                "none": horovod.Compression.none,
                "float16": horovod.Compression.fp16,
            }[self.compression],
            "process_set": self._ranks(),
            "name": name,
            # The layers around it may be named otherwise on another rank.
            "ignore_name_scope": True,
        }
        if len(tensors) == 1:
            return [horovod.allreduce(tensors[0], **settings)]
        return list(horovod.grouped_allreduce(tensors, **settings))

    def _sparse(self, slices: Any, name: str) -> Any:
        horovod, ranks = hvd(), self._ranks()
        gathered = [
            horovod.allgather(
                tensor, name=f"{name}_{part}", ignore_name_scope=True, process_set=ranks
            )
            for part, tensor in (("values", slices.values), ("indices", slices.indices))
        ]
        values, indices = gathered
        if self.op == "average":
            # A graph outlives a change of the number of ranks only if it asks for it.
            number = (
                horovod.size_op(process_set_id=ranks.process_set_id)
                if is_elastic()
                else ranks.size()
            )
            values = values / tf.cast(number, values.dtype)
        return tf.IndexedSlices(values, indices, dense_shape=slices.dense_shape)

    def _ranks(self) -> Any:
        return hvd().global_process_set if self.process_set is None else self.process_set


def _require_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}. Received: {value!r}.")


def _require_plain_graph() -> None:
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise InputError(
            "XLA compiles this training step, and Horovod's allreduce has no XLA kernel. Compile "
            "the model with jit_compile=False (Keras 3 chooses True by itself where a GPU is). "
            "Forward and backward pass may be a tf.function(jit_compile=True) inside a custom "
            "train_step."
        )
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise InputError(
            "A Horovod optimizer runs under a tf.distribute strategy with "
            f"{tf.distribute.get_strategy().num_replicas_in_sync} replicas. Use one of the two: "
            "one process per device with Horovod, or the strategy with a plain optimizer."
        )
