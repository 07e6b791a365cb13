"""How training is spread over devices and processes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tfopt.config.base import Section

StrategyKind = Literal[
    "auto",
    "single",
    "mirrored",
    "multi_worker",
    "parameter_server",
    "tpu",
    "model_parallel",
    "horovod",
]

_ONE_REPLICA = ("parameter_server", "model_parallel")


class ElasticSettings(Section):
    """How a run goes on while processes are lost and added (``tfopt launch --elastic``).

    Attributes:
        commit_every_steps: Steps between two checkpoints within an epoch: what a lost process
            costs at most. There is one after every epoch too.
        lost_seconds: How long a process may be silent, in seconds, before it is lost.
    """

    commit_every_steps: int = Field(50, ge=1)
    lost_seconds: int = Field(8, gt=2)  # the first probe is sent after 2 s


class StrategySettings(Section):
    """How training is spread; the global batch is ``data.batch_size`` whatever is chosen.

    Attributes:
        kind: ``single``: one process on one device. ``mirrored``: one process on several
            devices. ``multi_worker``: several processes, by tf.distribute and
            ``TF_CONFIG``. ``parameter_server``: asynchronous steps of workers on weights that
            servers hold, by ``TF_CONFIG``. ``tpu``: the cores of a TPU.
            ``model_parallel``: weights divided over the devices of one process, by DTensor.
            ``horovod``: several processes, started by ``horovodrun`` or ``mpirun``. ``auto``
            takes what the process was started by, or ``single``.
        devices: Devices of ``mirrored`` and ``model_parallel``: GPUs, or as many logical CPUs
            where there are none; None takes every GPU.
        model_devices: Devices of ``model_parallel`` among which each weight is divided; batches are
            divided among ``devices / model_devices`` groups of them. None divides over all.
        tpu: Name or ``grpc://host:port`` of the TPU of kind ``tpu``; None is that of this machine.
        learning_rate_scaling: What the learning rates of all stages are multiplied by:
            ``linear`` by the number of replicas, ``sqrt`` by its square root. The global
            batch is the recipe's own number, so ``none`` gives the model of one process.
        timeline: Write Horovod's timeline of all collectives to ``timeline.json`` in the run
            folder. For short runs: a step adds kilobytes.
        elastic: How an elastic run goes on; of no effect under a launcher that is not.
    """

    kind: StrategyKind = "auto"
    devices: int | None = Field(None, ge=1)
    model_devices: int | None = Field(None, ge=1)
    tpu: str | None = Field(None, min_length=1)
    learning_rate_scaling: Literal["none", "linear", "sqrt"] = "none"
    timeline: bool = False
    elastic: ElasticSettings = ElasticSettings()

    @model_validator(mode="after")
    def _settings_fit_the_kind(self) -> StrategySettings:
        if self.devices is not None and self.kind not in ("mirrored", "model_parallel"):
            raise ValueError(
                f"devices is for kinds 'mirrored' and 'model_parallel'; this is {self.kind!r}"
            )
        if self.timeline and self.kind != "horovod":
            raise ValueError(f"timeline is for kind 'horovod'; this is {self.kind!r}")
        if self.tpu is not None and self.kind != "tpu":
            raise ValueError(f"tpu is for kind 'tpu'; this is {self.kind!r}")
        if self.learning_rate_scaling != "none" and self.kind in _ONE_REPLICA:
            raise ValueError(f"learning_rate_scaling has no replicas to count in {self.kind!r}")
        return self

    @model_validator(mode="after")
    def _model_devices_divide(self) -> StrategySettings:
        parts = self.model_devices
        if parts is None:
            return self
        if self.kind != "model_parallel":
            raise ValueError(f"model_devices is for kind 'model_parallel'; this is {self.kind!r}")
        if self.devices is None or self.devices % parts:
            raise ValueError(
                f"model_devices is {parts}, which does not divide devices ({self.devices})"
            )
        return self

    def rate_factor(self, replicas: int) -> float:
        """Return what learning rates are multiplied by."""
        return {"none": 1.0, "linear": float(replicas), "sqrt": replicas**0.5}[
            self.learning_rate_scaling
        ]
