"""A gradient tape that averages over ranks, for training loops of one's own."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfopt.distributed.horovod.library import hvd
from tfopt.distributed.horovod.reduction import Compression, Operation, Reduction


class DistributedGradientTape:
    """A ``tf.GradientTape`` whose ``gradient`` is that of all ranks.

    Use it with a plain optimizer: a ``DistributedOptimizer`` would send everything twice.
    ``jacobian`` and ``batch_jacobian`` stay those of this rank.

    Args:
        tape: The tape, before or after it recorded. None: a new one.
        op: ``average``, ``sum`` or ``adasum``.
        compression: ``none`` or ``float16``.
        sparse_as_dense: Send the gradient of an embedding as a whole table.
        groups: Groups of gradients that are sent at once; 0: each on its own.
        process_set: The ranks that take part; None: all.

    Raises:
        BackendMissing: If Horovod is missing, or was built without what is asked for.
        InputError: If a setting is impossible.
    """

    def __init__(  # keyword-only options, each with its own default
        self,
        tape: Any = None,
        *,
        op: Operation = "average",
        compression: Compression = "none",
        sparse_as_dense: bool = False,
        groups: int = 1,
        process_set: Any = None,
    ) -> None:
        hvd()
        self._tape = tf.GradientTape() if tape is None else tape
        self._reduction = Reduction(op, compression, sparse_as_dense, groups, process_set)
        self._reduction.require_valid()

    def __enter__(self) -> DistributedGradientTape:
        self._tape.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._tape.__exit__(*raised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tape, name)

    def gradient(self, target: Any, sources: Any, *positional: Any, **named: Any) -> Any:
        """Return the gradients of all ranks; see ``tf.GradientTape.gradient``.

        Args:
            target: As in TensorFlow.
            sources: As in TensorFlow; the same on every rank.
            *positional: As in TensorFlow.
            **named: As in TensorFlow.

        Raises:
            InputError: If XLA compiles the step.
        """
        found = self._tape.gradient(target, sources, *positional, **named)
        flat = tf.nest.flatten(found)
        return tf.nest.pack_sequence_as(found, self._reduction(flat))
