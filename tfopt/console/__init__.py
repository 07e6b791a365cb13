"""What a run tells the person who started it, while it runs and when it ends."""

from tfopt.console.decisions import print_decisions
from tfopt.console.reporter import Reporter, make_reporter

__all__ = ["Reporter", "make_reporter", "print_decisions"]
