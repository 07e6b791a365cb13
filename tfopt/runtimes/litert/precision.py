"""Check on the converted file itself that the asked precision came about.

The converter returns normally when it did not: footguns F17, F33 and F40.
"""

from __future__ import annotations

from tfopt.errors import VerificationError
from tfopt.runtimes import LitertModel, Operator

_NAMED_OPERATORS = 5
# tensorflow 2.21, lite/python/lite.py: weights with fewer elements are left alone.
_SMALLEST_DYNAMIC_WEIGHT = 1024


def require_precision(model: LitertModel, precision: str) -> tuple[str, ...]:
    """Raise unless the file has the asked precision.

    Args:
        model: The converted file.
        precision: A precision of the recipe.

    Returns:
        Notes for the user, such as the operators left in floating point.

    Raises:
        VerificationError: If the file is not what was asked for; the message says what
            it is.
    """
    if precision in {"int8", "int8_io", "int16x8"}:
        return _require_integer(model, precision)
    constants = model.constant_elements()
    if precision == "float16" and constants.get("float32") and not constants.get("float16"):
        raise VerificationError(
            f"{model.path} was to hold float16 weights, but holds none: {_summary(model)}."
        )
    if precision == "dynamic" and constants.get("float32") and not _int8_weights(model):
        raise VerificationError(
            f"{model.path} was to hold int8 weights (dynamic range), but the converter leaves "
            f"weights of fewer than {_SMALLEST_DYNAMIC_WEIGHT:,} elements in float32, and so all "
            f"of this model's: {_summary(model)}. Use float16 or int8."
        )
    return ()


def precision_of(model: LitertModel) -> str:
    """Return the precision of the recipe that a file is nearest to.

    Example: a file with an int16 operator is ``int16x8``; one with float16 weights only
    is ``float16``.
    """
    working = [op for op in model.operators() if op.is_compute and op.is_integer]
    if any(_is_wide_enough(op, "int16x8") for op in working):
        return "int16x8"
    if any(_is_wide_enough(op, "int8") for op in working):
        ends = [info.dtype for info in (*model.inputs, *model.outputs)]
        return "int8" if any(dtype.startswith("float") for dtype in ends) else "int8_io"
    if _int8_weights(model):
        return "dynamic"
    return "float16" if model.constant_elements().get("float16") else "float32"


def float_operators(model: LitertModel) -> tuple[str, ...]:
    """Return the compute operators that touch a floating tensor: ``NAME (output)``."""
    return tuple(
        f"{op.name} ({op.output})"
        for op in model.operators()
        if op.is_compute and not op.is_integer
    )


def integer_operator_fraction(model: LitertModel) -> float | None:
    """Return the share of compute operators on integers, in ``[0, 1]``; None without any.

    ``tfopt.runtimes.Operator`` defines both words.
    """
    compute = [op for op in model.operators() if op.is_compute]
    return sum(op.is_integer for op in compute) / len(compute) if compute else None


def _require_integer(model: LitertModel, precision: str) -> tuple[str, ...]:
    compute = [op for op in model.operators() if op.is_compute]
    working = [op for op in compute if op.is_integer and _is_wide_enough(op, precision)]
    if not working:
        raise VerificationError(
            f"{model.path} was to be {precision}, but none of its {len(compute)} compute operators "
            f"works on {'int16' if precision == 'int16x8' else 'int8'}: {_summary(model)}. The "
            "converter found no integer ranges, or lacks integer kernels for all of these."
        )
    if model.constant_elements().get("float32", 0) and not _int8_weights(model):
        raise VerificationError(
            f"{model.path} was to be {precision}, but none of its weights is int8: "
            f"{_summary(model)}."
        )
    if precision == "int8_io":
        _require_integer_interface(model)
    left = float_operators(model)
    if not left:
        return ()
    named = ", ".join(left[:_NAMED_OPERATORS])
    more = f" and {len(left) - _NAMED_OPERATORS} more" if len(left) > _NAMED_OPERATORS else ""
    return (
        f"{len(left)} of {len(compute)} compute operators stay in floating point: {named}{more}",
    )


def _is_wide_enough(op: Operator, precision: str) -> bool:
    wanted = {"int16"} if precision == "int16x8" else {"int8", "uint8"}
    return bool(wanted & {*op.input_types, *op.output_types})


def _require_integer_interface(model: LitertModel) -> None:
    floating = [i.name for i in (*model.inputs, *model.outputs) if i.dtype.startswith("float")]
    if floating:
        raise VerificationError(
            f"{model.path} was to take and give integers, but {', '.join(floating)} stayed in "
            "floating point. Use precision int8, which keeps floats at the ends."
        )


def _int8_weights(model: LitertModel) -> int:
    constants = model.constant_elements()
    return constants.get("int8", 0) + constants.get("uint8", 0) + constants.get("int4", 0)


def _summary(model: LitertModel) -> str:
    constants = model.constant_elements()
    counts = [f"{count:,} {kind}" for kind, count in sorted(constants.items())]
    return f"constants {', '.join(counts) or 'none'}"
