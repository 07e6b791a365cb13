"""What a run tells the person who started it, while it runs and when it ends."""

from tfopt.reporting.console.decision_table import print_decisions
from tfopt.reporting.console.reporter import Reporter, make_reporter

__all__ = ["Reporter", "make_reporter", "print_decisions"]
