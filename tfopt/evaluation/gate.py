"""Judge an exported file by the drop that was allowed for it."""

from __future__ import annotations

from tfopt.errors import GateMissed, InputError
from tfopt.evaluation.metrics import metric_class
from tfopt.reporting.verdict import meets_gate
from tfopt.results import Artifact


def require_gate(artifact: Artifact, max_drop: float | None) -> None:
    """Raise unless a file meets the gate that was given for it.

    Args:
        artifact: The file, measured.
        max_drop: Largest allowed drop, in metric units; None allows any.

    Raises:
        InputError: If the drop was not measured.
        GateMissed: If it is larger.
    """
    if max_drop is None:
        return
    if artifact.drop is None or artifact.metric_name is None:
        raise InputError(
            f"The drop of {artifact.path} was not measured, so max_drop cannot judge it. Give "
            "labelled data (--data)."
        )
    if not meets_gate(artifact, max_drop):
        label = metric_class(artifact.metric_name).label
        raise GateMissed(
            f"The {label} of {artifact.path} is worse by {artifact.drop:.4f}; the gate allows "
            f"{max_drop:.4f}. The file is kept."
        )
