"""Show what the bridge from Keras 3 to tf_keras converts, and how exactly.

    python benchmarks/bridge_coverage.py [--only applications|layers|activations|models]
        [--names MobileNetV2 Dense ...] [--large] [--fast]

Outputs are compared on random inputs, after batch normalization has been given the
statistics of these inputs (otherwise the outputs of random weights hardly depend on the
inputs, and every comparison succeeds). Layers and models with weights are also trained by
one step in each Keras, and the weights compared. Exits with 1 if less is converted, or
less exactly, than promised: all applications, 95% of the layer classes, outputs within
1e-6 relative in float32, weights within 1e-5 after a step.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tfopt.reporting.process_log import quiet_tensorflow

with quiet_tensorflow():
    import keras
    from bridge_checks import check
    from bridge_models import LESS_THAN_FLOAT32, MODELS, WITHOUT_STEP
    from keras import applications, layers
    from layer_case import Case, public_layers, scatter
    from layer_cases import CASES

    from tfopt.errors import TfoptError

PARTS = ("applications", "layers", "activations", "models")
OUTPUT_LIMIT, STEP_LIMIT, CLASS_LIMIT = 1e-6, 1e-5, 0.95

# Too much for a small machine; they run with --large.
LARGE = frozenset(
    {
        *("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge", "VGG16", "VGG19", "NASNetLarge"),
        *("EfficientNetB5", "EfficientNetB6", "EfficientNetB7", "EfficientNetV2L"),
        *("EfficientNetV2M", "ResNet152", "ResNet152V2"),
    }
)
# Pictures of 32 x 32 are legal for most, but their last features are then one pixel: batch
# normalization has two numbers to calibrate on, and its outputs explode. Here it is four pixels
# at least.
SIDE, SIDES = 64, {"Xception": 71, "InceptionV3": 128, "InceptionResNetV2": 128}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        part: Which table.
        name: What was converted; cases of one layer class have one name.
        text: The same with its settings.
        how: What became of it, or why it is refused.
        relative_error: Of outputs; None if it was refused.
        step_error: Of weights after a step; None if there was none.
        counts: Whether its errors are held against ``OUTPUT_LIMIT``.
        is_expected: Whether it went as the table says.
    """

    part: str
    name: str
    text: str
    how: str
    relative_error: float | None = None
    step_error: float | None = None
    counts: bool = True
    is_expected: bool = True

    @property
    def is_converted(self) -> bool:
        """Return whether there is a converted model."""
        return self.relative_error is not None


def main() -> int:
    arguments = _arguments()
    warnings.filterwarnings("ignore")
    rows = []
    tables = {
        "applications": applications_rows(large=arguments.large),
        "layers": layer_rows(eager=arguments.fast),
        "activations": activation_rows(eager=arguments.fast),
        "models": model_rows(eager=arguments.fast),
    }
    for part in PARTS if arguments.only is None else [arguments.only]:
        print(f"\n{part}")
        for run in tables[part]:
            if not arguments.names or run.name in arguments.names:
                rows.append(run())
    return _summary(rows, everything=not arguments.names)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--names", nargs="+", default=())
    parser.add_argument("--large", action="store_true", help="the largest applications too")
    parser.add_argument("--fast", action="store_true", help="training steps run eagerly")
    return parser.parse_args()


@dataclass(frozen=True)
class _Run:
    """One line of a table to be; ``run`` prints and returns it."""

    name: str
    run: Any

    def __call__(self) -> Row:
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        return self.run()


def applications_rows(*, large: bool) -> Iterator[_Run]:
    constructors = {
        name: value
        for name, value in vars(applications).items()
        if inspect.isfunction(value) and name[0].isupper()
    }
    for name, constructor in sorted(constructors.items()):
        if large or name not in LARGE:
            yield _Run(name, lambda name=name, make=constructor: _application(name, make))


def _application(name: str, make: Any) -> Row:
    side = SIDES.get(name, SIDE)
    start = time.perf_counter()
    model = make(input_shape=(side, side, 3), weights=None, classes=10)
    built = time.perf_counter() - start
    try:
        done = check(model, step=False)
    except TfoptError as error:
        print(f"  {name:20} FAILED {error}")
        return Row("applications", name, name, "failed", is_expected=False)
    parity = done.evidence.parity[0]
    print(
        f"  {name:20} built {built:6.2f} s  converted {done.convert_seconds:6.2f} s  "
        f"x{done.convert_seconds / built:4.1f}  layers {done.kinds:14} error "
        f"{parity.relative_error:.1e}  sensitivity {parity.sensitivity:.1e}  "
        f"{done.evidence.parameters:12,} parameters",
        flush=True,
    )
    return Row("applications", name, name, done.kinds, parity.relative_error)


def layer_rows(*, eager: bool) -> Iterator[_Run]:
    missing = sorted(set(public_layers()) - {case.name for case in CASES})
    for name in missing:
        yield _Run(name, lambda name=name: Row("layers", name, name, "no case", is_expected=False))
    for case in CASES:
        yield _Run(case.name, lambda case=case: layer_row(case, eager=eager))


def layer_row(case: Case, *, eager: bool = False) -> Row:
    """Convert one layer; print and return what came of it."""
    try:
        model = case.model()
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        return _refused(case, f"Keras 3 itself: {_line(error)}")
    try:
        done = check(model, step=case.step, eager=eager)
    except TfoptError as error:
        return _refused(case, _line(error))
    own = type(model.layers[-1]).__name__
    found = [one for one in done.evidence.layers if one.class_name == own]
    how = found[-1].how if found else "native"  # an InputLayer is no layer of the report
    note = f" ({found[-1].note})" if how == "fallback" else ""
    row = Row(
        "layers",
        case.name,
        case.text,
        how,
        done.evidence.relative_error,
        done.step_error,
        is_expected=how == case.how,
    )
    return _printed(row, note)


def _refused(case: Case, reason: str) -> Row:
    row = Row("layers", case.name, case.text, "refused", is_expected=case.how == "refused")
    return _printed(row, f" ({reason})")


_NO_ACTIVATIONS = frozenset({"get", "serialize", "deserialize", "threshold"})


def activation_rows(*, eager: bool) -> Iterator[_Run]:
    for name in sorted(vars(keras.activations)):
        function = getattr(keras.activations, name)
        # threshold() takes two more arguments, so that no layer can be given its name.
        if inspect.isfunction(function) and name not in _NO_ACTIVATIONS:
            yield _Run(name, lambda name=name: _activation(name, dense=False, eager=eager))
            yield _Run(name, lambda name=name: _activation(name, dense=True, eager=eager))


def _activation(name: str, *, dense: bool, eager: bool) -> Row:
    inputs = keras.Input((6,))
    outputs = layers.Dense(4, activation=name)(inputs) if dense else layers.Activation(name)(inputs)
    model = keras.Model(inputs, outputs)
    scatter(model)
    text = f"{'Dense' if dense else 'Activation'}({name})"
    try:
        done = check(model, eager=eager)
    except TfoptError as error:
        return _printed(Row("activations", name, text, "failed", is_expected=False), _line(error))
    found = done.evidence.layers[-1]
    row = Row("activations", name, text, found.how, done.evidence.relative_error, done.step_error)
    return _printed(row, f" ({found.note})" if found.how == "fallback" else "")


def model_rows(*, eager: bool) -> Iterator[_Run]:
    for name in MODELS:
        yield _Run(name, lambda name=name: _model(name, eager=eager))


def _model(name: str, *, eager: bool) -> Row:
    model = MODELS[name]()
    try:
        done = check(model, step=name not in WITHOUT_STEP, eager=eager)
    except TfoptError as error:
        return _printed(Row("models", name, name, "failed", is_expected=False), _line(error))
    row = Row(
        "models",
        name,
        name,
        done.kinds,
        done.evidence.relative_error,
        done.step_error,
        counts=name not in LESS_THAN_FLOAT32,
    )
    return _printed(row)


def _printed(row: Row, note: str = "") -> Row:
    errors = "".join(
        f"  {what} {value:.1e}" if value is not None else ""
        for what, value in (("error", row.relative_error), ("step", row.step_error))
    )
    unexpected = "" if row.is_expected else "  UNEXPECTED"
    print(f"  {row.text[:70]:70} {row.how:10}{errors}{unexpected}{note}", flush=True)
    return row


def _summary(rows: Sequence[Row], *, everything: bool) -> int:
    print()
    missed = []
    for part in PARTS:
        found = [row for row in rows if row.part == part]
        if not found:
            continue
        names = {row.name for row in found}
        converted = {row.name for row in found if row.is_converted}
        text = f"{part}: {len(converted)} of {len(names)} converted"
        if part == "layers":
            whole = {row.name for row in found if row.is_converted and row.how != "fallback"}
            text += (
                f" ({len(whole)} native or decomposed, {len(converted - whole)} only as fallback;"
                f" {len(found)} configurations)"
            )
        wanted = CLASS_LIMIT if part == "layers" and everything else 1.0
        if len(converted) < wanted * len(names):
            missed.append(f"{part} converted")
        print(text)
    outputs = [row.relative_error for row in rows if row.is_converted and row.counts]
    steps = [row.step_error for row in rows if row.step_error is not None and row.counts]
    worst_output, worst_step = (max(found, default=0.0) for found in (outputs, steps))
    print(f"worst relative error of {len(outputs)} outputs in float32: {worst_output:.1e}")
    print(f"worst error of {len(steps)} training steps: {worst_step:.1e}")
    missed += ["outputs"] * (not worst_output <= OUTPUT_LIMIT)
    missed += ["training steps"] * (not worst_step <= STEP_LIMIT)
    missed += [f"{row.text}: {row.how}" for row in rows if not row.is_expected]
    for one in missed:
        print(f"MISSED: {one}")
    return 1 if missed else 0


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


if __name__ == "__main__":
    sys.exit(main())
