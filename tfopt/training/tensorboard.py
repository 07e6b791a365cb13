"""Write epoch logs for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from tfopt.distributed.lost_peers import reason_of
from tfopt.errors import StorageError


class EpochLogs:
    """One folder of TensorBoard logs.

    Args:
        folder: Where to; made if missing.

    Raises:
        StorageError: If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._storage_errors():
            self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, values: Mapping[str, float], epoch: int) -> None:
        """Write the numbers of an epoch, counted from 1.

        Raises:
            StorageError: If they cannot be written.
        """
        with self._storage_errors():
            with self._writer.as_default(step=epoch):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
            self._writer.flush()

    def close(self) -> None:
        """Finish writing.

        Raises:
            StorageError: If what is left cannot be written.
        """
        with self._storage_errors():
            self._writer.close()

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            raise StorageError(
                f"The TensorBoard logs in {self._folder} cannot be written: {reason_of(error)}."
            ) from error
