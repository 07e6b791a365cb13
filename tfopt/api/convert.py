"""Convert one model file to the other Keras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tfopt.bridge.provenance import conversion_of
from tfopt.bridge.report import Conversion
from tfopt.bridge.to_keras3.convert import to_keras3
from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.compression.keras3 import SAVED_OBJECTS
from tfopt.config.schema import Data
from tfopt.data.load import load_data
from tfopt.errors import InputError
from tfopt.keras2.core import is_keras3
from tfopt.models.load import read_model, save_model
from tfopt.storage import check_target

_CHECK_ROWS = 64
_SHOWN_NOTES = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What a conversion is to do.

    Attributes:
        to: The Keras of the result.
        like: A Keras 3 file whose architecture the result takes; only for ``keras3``.
        check: Data whose evaluation rows both models are compared on.
        trust: Whether Python code in the files may run.
    """

    to: Literal["tf_keras", "keras3"]
    like: Path | None = None
    check: Data | None = None
    trust: bool = False


@dataclass(frozen=True, slots=True)
class Converted:
    """A file that was converted.

    Attributes:
        source: The file that was read.
        saved_by: The Keras that had saved it, with its version.
        target: The file that was written.
        conversion: The evidence.
    """

    source: Path
    saved_by: str
    target: Path
    conversion: Conversion


def convert_file(path: Path, target: Path, request: Request, *, overwrite: bool) -> Converted:
    """Convert a model file to the other Keras, and save it.

    Args:
        path: A model saved by either Keras.
        target: The ``.keras`` or ``.h5`` file to write.
        request: What to convert to, and what to compare on.
        overwrite: Replace an existing file.

    Returns:
        What was read, written and shown.

    Raises:
        InputError: If the model is of that Keras already, or an option does not fit.
        ModelError: If a file cannot be read, or the model has no form in the other Keras.
        VerificationError: If the two models compute something else.
    """
    check_target(target, overwrite=overwrite)
    if request.like is not None and request.to != "keras3":
        raise InputError("--like is for --to keras3: the architecture that the result takes.")
    found = read_model(path, custom_objects=SAVED_OBJECTS, trust=request.trust)
    if is_keras3(found.model) == (request.to == "keras3"):
        raise InputError(
            f"{str(path)!r} was saved by {found.saved_by}, so it is a {request.to} model already."
        )
    rows = None if request.check is None else _rows(request.check)
    model = found.model
    converted = to_tf_keras(model, check=rows) if is_keras3(model) else _back(model, request, rows)
    save_model(converted, target)
    return Converted(path, found.saved_by, target, conversion_of(converted))


def _back(model: Any, request: Request, rows: Any) -> Any:
    if request.like is None:
        return to_keras3(model, check=rows)
    like = read_model(request.like, custom_objects=SAVED_OBJECTS, trust=request.trust)
    if not is_keras3(like.model):
        raise InputError(
            f"--like takes a Keras 3 file; {str(request.like)!r} was saved by {like.saved_by}."
        )
    return to_keras3(model, like=like.model, check=rows)


def _rows(section: Data) -> Any:
    return load_data(section, seed=0).evaluation.sample_inputs(_CHECK_ROWS, seed=0)


def conversion_lines(converted: Converted) -> Iterator[str]:
    """Yield the lines that tell a person what was converted and shown.

    Args:
        converted: The result of ``convert_file``.
    """
    conversion = converted.conversion
    yield f"{converted.source}: saved by {converted.saved_by}"
    yield str(conversion)
    for parity in conversion.parity:
        kind = "given" if parity.on_user_data else "random"
        how = ", batch normalization calibrated on them" if parity.calibrated else ""
        yield (
            f"  {parity.rows} {kind} rows{how}: largest difference {parity.max_abs_error:.2g}, "
            f"{parity.relative_error:.2g} relative (allowed {parity.tolerance:g})"
        )
    for note in conversion.notes[:_SHOWN_NOTES]:
        yield f"  {note}"
    if len(conversion.notes) > _SHOWN_NOTES:
        yield f"  ... and {len(conversion.notes) - _SHOWN_NOTES} more"
    yield f"wrote {converted.target}"
