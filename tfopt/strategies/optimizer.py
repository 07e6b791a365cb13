"""The path that ``.keras`` files compiled with version 0.1.0 store."""

from tfopt.distributed.horovod.optimizer import DistributedOptimizer

__all__ = ["DistributedOptimizer"]
