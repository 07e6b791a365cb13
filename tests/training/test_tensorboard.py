"""TensorBoard logs."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from tfopt.errors import StorageError
from tfopt.training.tensorboard import EpochLogs


def test_every_epoch_can_be_read_back(tmp_path: Path) -> None:
    logs = EpochLogs(tmp_path / "logs")
    for epoch in (1, 2):
        logs.write({"loss": 0.5 * epoch, "accuracy": float("nan")}, epoch)
    logs.close()
    (file,) = (tmp_path / "logs").iterdir()
    found = [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "loss"
    ]
    assert found == [(1, "loss", 0.5), (2, "loss", 1.0)]


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = EpochLogs(tmp_path)

    def full(*_: object) -> None:
        # What the writer raised on a full file system of 400 kB.
        raise tf.errors.UnknownError(
            None,
            None,
            "{{function_node __wrapped__Flush_device_/CPU:0}} a.v2; No space left on device",
        )

    monkeypatch.setattr(logs._writer, "flush", full)
    with pytest.raises(StorageError, match=r"cannot be written: a.v2; No space left on device\.$"):
        logs.write({"loss": 1.0}, 1)
