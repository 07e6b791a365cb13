"""Open an exported file as a NumPy to NumPy callable. The one door to ai_edge_litert.

The runtime is native code, and a broken file can crash or hang it. So a file is first run in
a child process, and only then does this process load it.
"""

from tfopt.runtimes.child_process import run_child, signal_name
from tfopt.runtimes.litert.flatbuffer import Operator
from tfopt.runtimes.litert.model import LitertModel
from tfopt.runtimes.litert.probe import ProbeResult, open_litert, probe_litert
from tfopt.runtimes.litert.tensors import TensorInfo, signature_name

__all__ = [
    "LitertModel",
    "Operator",
    "ProbeResult",
    "TensorInfo",
    "open_litert",
    "probe_litert",
    "run_child",
    "signal_name",
    "signature_name",
]
