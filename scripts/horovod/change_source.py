"""Change the communication loop of Horovod 0.28.1 for busy cores; see decision 0021.

    python scripts/horovod/change_source.py horovod-0.28.1

``install_horovod.sh --busy-cores`` does this before it compiles. A source that is not the known one
is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple


class Change(NamedTuple):
    """Text that comes after a place in a file; the place is there once."""

    file: str
    after: str
    added: str


CHANGES = (
    # Gloo's thread looks after a connection only if it gets its lock at once. If not, it asks the
    # kernel again, which answers at once that there is still something to do. On a core that it
    # shares with the thread that has the lock, it so keeps the lock from being given back, until
    # the scheduler takes the core away: 4 ms later. Waiting for the lock would be a deadlock with
    # a thread that closes the connection.
    Change(
        "third_party/gloo/gloo/transport/tcp/pair.cc",
        "(m_, std::try_to_lock);\n  if (!lock) {\n",
        "    std::this_thread::sleep_for(std::chrono::microseconds(20));\n",
    ),
    Change(
        "third_party/gloo/gloo/transport/tcp/pair.cc",
        "#include <algorithm>\n",
        "#include <chrono>\n#include <thread>\n",
    ),
    # Every cycle (1 ms) all ranks ask each other what they have, which takes a tenth of a core
    # away from the step that is being computed. A rank that has nothing now asks in every tenth
    # cycle only, and as soon as it has something. Not so with process sets: a collective of some
    # ranks waits for the cycle of the others.
    Change(
        "horovod/common/operations.cc",
        "  state.last_cycle_start = std::chrono::steady_clock::now();\n",
        """\
  static const int idle_cycles = GetIntEnvOrDefault("HOROVOD_IDLE_CYCLES", 10);
  const double at_most_us = std::min(
      1e5, state.parameter_manager.CycleTimeMs() * 1000. * (idle_cycles - 1));
  TensorQueue::WaitForArrival(std::chrono::microseconds(long(at_most_us)), [&state] {
    return state.shut_down || state.dynamic_process_sets ||
           state.process_set_table.Ids().size() > 1 ||
           !state.process_set_table.Get(0).tensor_queue.IsEmpty();
  });
""",
    ),
    Change(
        "horovod/common/tensor_queue.h",
        "  void RemoveJoinTensor();\n",
        """
  bool IsEmpty() const {
    std::lock_guard<std::mutex> guard(mutex_);
    return tensor_table_.empty();
  }

  template <class Time, class Predicate>
  static void WaitForArrival(Time at_most, Predicate has_work) {
    std::unique_lock<std::mutex> lock(waiting().mutex);
    waiting().arrived.wait_for(lock, at_most, has_work);
  }
""",
    ),
    Change(
        "horovod/common/tensor_queue.h",
        "protected:\n",
        """\
  struct Waiting {
    std::mutex mutex;
    std::condition_variable arrived;
  };

  // Never destroyed: a thread may wait when the process ends.
  static Waiting& waiting() {
    static Waiting* one = new Waiting;
    return *one;
  }

  // Who waits looks at the queues under the same mutex, so that no arrival is missed.
  struct Arrival {
    ~Arrival() {
      { std::lock_guard<std::mutex> guard(waiting().mutex); }
      waiting().arrived.notify_all();
    }
  };

""",
    ),
    Change(
        "horovod/common/tensor_queue.h",
        "#include <iostream>\n",
        "#include <condition_variable>\n",
    ),
    Change(
        "horovod/common/tensor_queue.cc",
        "TensorQueue::AddToTensorQueue(TensorTableEntry& e, Request& message) {\n",
        "  Arrival arrival;  // ends after the guard\n",
    ),
    Change(
        "horovod/common/tensor_queue.cc",
        "                                          std::vector<Request>& messages) {\n",
        "  Arrival arrival;  // ends after the guard\n",
    ),
)


def change(source: Path) -> None:
    """Make all changes in an unpacked source.

    Raises:
        SystemExit: If a file is not the known one.
    """
    for one in CHANGES:
        file = source / one.file
        text = file.read_text()
        if one.after + one.added in text:
            sys.exit(f"{file} has been changed already: unpack the source again.")
        if (count := text.count(one.after)) != 1:
            sys.exit(f"{file} is not that of Horovod 0.28.1: it has {one.after!r} {count} times.")
        file.write_text(text.replace(one.after, one.after + one.added))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    change(Path(sys.argv[1]))
