"""Several small batches, one update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


class Accumulator:
    """Means of gradients over a number of batches; sent and applied once per number.

    The sums belong to this process and are not saved: a run that is stopped between two updates
    begins the current one again.

    Args:
        steps: Batches in an update, ``>= 2``.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._sums: list[Any] | None = None
        self._count: Any = None

    # Nothing in here is TensorFlow code to convert.
    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]  # ships no types
    def add(self, gradients: Sequence[Any], apply: Callable[[list[Any]], Any]) -> None:
        """Add a batch, and apply the mean if it was the last one of an update.

        Args:
            gradients: Of this batch; None where a variable has none.
            apply: Called with the means, in the same order.
        """
        if self._sums is None:
            with tf.init_scope():
                self._count = tf.Variable(0, dtype=tf.int64, trainable=False)
                self._sums = [
                    None
                    if one is None
                    else tf.Variable(tf.zeros(one.shape, one.dtype), trainable=False)
                    for one in gradients
                ]
        sums = self._sums
        for total, gradient in zip(sums, gradients, strict=True):
            if total is not None:
                total.assign_add(tf.convert_to_tensor(gradient) / self._steps)
        self._count.assign_add(1)

        def update() -> Any:
            apply([None if total is None else total.read_value() for total in sums])
            for total in sums:
                if total is not None:
                    total.assign(tf.zeros_like(total))
            return tf.constant(0)

        # Every rank counts the same batches, so all of them are in the same branch.
        tf.cond(self._count % self._steps == 0, update, lambda: tf.constant(0))
