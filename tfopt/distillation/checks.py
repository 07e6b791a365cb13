"""What is refused before a distillation starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfopt.distillation.feature_extractor import Tap, Tapped
from tfopt.distillation.first_batch import TaughtInputs, agree
from tfopt.distillation.logits import form_of
from tfopt.distillation.loss_base import Bench, DistillationLoss
from tfopt.distillation.soft_targets import loss_name
from tfopt.distillation.teachers import Teacher, TeacherResult
from tfopt.errors import InputError, ModelError
from tfopt.keras2.core import Model, keras

# float16 keeps 11 bits, and a batch of another size sums in another order.
_CACHE_TOLERANCE = 5e-3


def require_losses(losses: Sequence[Any]) -> list[DistillationLoss]:
    """Return distillation losses as a list.

    Raises:
        InputError: If there is none, or something else, or a weight is negative.
    """
    if not losses:
        raise InputError("The distiller needs at least one distillation loss.")
    for loss in losses:
        if not hasattr(loss, "resolve"):
            raise InputError(
                "Distillation losses are SoftTargets, FeatureLoss, CosineLoss, AttentionLoss, "
                f"RelationLoss and ContrastiveLoss. Received: {loss!r}. The loss on labels belongs "
                "in compile(loss=...)."
            )
        if not (np.isfinite(loss.weight) and loss.weight >= 0):
            raise InputError(
                f"{loss.label}: weight must be a number >= 0. Received: {loss.weight}."
            )
    return list(losses)


def bound_losses(losses: Mapping[str, Any]) -> list[DistillationLoss]:
    """Return the losses of a mapping, each bound to the output that it stands under.

    Raises:
        InputError: If one has no ``output`` or names another.
    """
    found = []
    for output, given in losses.items():
        for loss in require_losses(list(given) if isinstance(given, list | tuple) else [given]):
            names: set[str] = (
                {entry.name for entry in fields(loss)} if is_dataclass(loss) else set()
            )
            if "output" not in names or getattr(loss, "output", None) not in (None, output):
                raise InputError(
                    f"losses[{output!r}] must be a loss on that output, such as SoftTargets(). "
                    f"Received: {loss!r}. Give losses on inner tensors in a list."
                )
            found.append(replace(loss, output=output))  # type: ignore[type-var]  # is a dataclass
    return require_losses(found)


def unique_labels(losses: Sequence[DistillationLoss], *, reserved: Sequence[str]) -> list[str]:
    """Return the names of the losses.

    Raises:
        InputError: If two are equal, or one is taken.
    """
    labels = [loss.label for loss in losses]
    for label in labels:
        if label in reserved or labels.count(label) > 1:
            raise InputError(
                f"The name {label!r} of a distillation loss is taken. Give it another: name='...'."
            )
    return labels


def require_scope(student: Model) -> None:
    """Raise unless the student lives under the strategy that the distiller is made under.

    Raises:
        ModelError: If it was made elsewhere: it would train on one replica, or not at all.
    """
    strategy = tf.distribute.get_strategy()
    for variable in student.weights:
        if not strategy.extended.variable_created_in_scope(variable):
            raise ModelError(
                f"The student {student.name!r} and the distiller were made under different "
                "tf.distribute strategies. Make both inside of the same `with strategy.scope():`."
            )


def require_apart(student: Model, teachers: Sequence[Teacher]) -> None:
    """Raise if a teacher has a variable of the student: it would move as the student learns.

    Raises:
        ModelError: If it does.
    """
    own = {id(variable) for variable in student.weights}
    for teacher in teachers:
        shared = [variable.name for variable in teacher.weights() if id(variable) in own]
        if shared:
            raise ModelError(
                f"The {teacher.name} shares {len(shared)} weights with the student, such as "
                f"{shared[0]!r}, so it would change while the student trains. Distil from a copy: "
                "tfopt.distillation.snapshot(model)."
            )


def require_jit(jit_compile: Any, teachers: Sequence[Teacher]) -> None:
    """Raise if XLA shall compile a step in which a teacher leaves the graph.

    Raises:
        InputError: If so.
    """
    outside = [teacher.name for teacher in teachers if teacher.is_numpy]
    if jit_compile and outside:
        raise InputError(
            f"The {outside[0]} runs outside of the graph, which XLA cannot compile. Leave out "
            "jit_compile=True, or cache the teacher."
        )


def require_taught(rows: Any, teachers: Sequence[Teacher]) -> None:
    """Raise if nobody says anything about the data.

    Raises:
        InputError: If there is neither a teacher nor a cache.
    """
    if not teachers and not isinstance(rows, TaughtInputs):
        raise InputError(
            "The distiller has no teacher, and the data holds no outputs of one. Give "
            "Distiller(student, teacher), or the dataset of tfopt.distillation.cache_teacher()."
        )


def first_lesson(teacher: Teacher, inputs: Any) -> TeacherResult:
    """Return what a teacher says about the first rows.

    Raises:
        ModelError: If it cannot take them, changes itself although it is in inference mode,
            or gives no row for each row.
    """
    before = [variable.numpy().copy() for variable in teacher.weights()]
    try:
        found = teacher(inputs)
    except (ValueError, TypeError, tf.errors.OpError, NotImplementedError) as error:
        raise ModelError(
            f"The {teacher.name} cannot take the inputs of the first batch, {_shapes(inputs)}: "
            f"{_first_line(error)}. If it needs them prepared otherwise, give a function: "
            "teacher=lambda x: model(prepare(x), training=False)."
        ) from error
    # A model built by this call has weights only now.
    for variable, old in zip(teacher.weights() if before else [], before, strict=True):
        if not np.array_equal(old, variable.numpy(), equal_nan=old.dtype.kind == "f"):
            raise ModelError(
                f"The {teacher.name} changes {variable.name!r} when it is run in inference mode. "
                "A layer of it was called with training=True; build it without."
            )
    rows = tf.nest.flatten(inputs)[0].shape[0]
    for name, tensor in found.outputs.items():
        if not tensor.shape.rank or tensor.shape[0] != rows:
            raise ModelError(
                f"The {teacher.name} gives output {name!r} of shape {tuple(tensor.shape)} for "
                f"{rows} rows; its first axis must be the rows."
            )
    return found


def first_pass(tap: Tap, inputs: Any) -> Tapped:
    """Return what the student makes of the first rows, in inference mode.

    Raises:
        ModelError: If it cannot take them.
    """
    try:
        return tap(inputs, training=False)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ModelError(
            f"The student cannot take the inputs of the first batch, {_shapes(inputs)}: "
            f"{_first_line(error)}."
        ) from error


def require_same_lesson(
    teachers: Sequence[Teacher], live: Sequence[TeacherResult], cached: Sequence[TeacherResult]
) -> None:
    """Raise if cached outputs are not what the teachers say now.

    Raises:
        InputError: If they differ: another teacher, other inputs, or another augmentation.
    """
    if teachers and len(live) != len(cached):
        raise InputError(
            f"The cache holds outputs of {len(cached)} teacher(s), but the distiller has "
            f"{len(live)}."
        )
    for teacher, now, then in zip(teachers, live, cached, strict=bool(teachers)):
        shared = {name: then.outputs.get(name) for name in now.outputs}
        missing = [name for name in now.features if name not in then.features]
        if missing:
            raise InputError(
                f"The cache of the {teacher.name} holds no feature {missing[0]!r}. Cache it: "
                f"cache_teacher(..., features={list(now.features)})."
            )
        same = None not in shared.values() and agree(
            dict(now.outputs), shared, tolerance=_CACHE_TOLERANCE
        )
        if not same:
            raise InputError(
                f"The cached outputs are not those of the {teacher.name} on these inputs. Use the "
                "dataset of a cache that was made with this teacher."
            )


def by_output(weight: Any, outputs: Mapping[str, Any]) -> Any:
    """Return sample weights as one tensor, or by output name.

    Args:
        weight: One tensor, or a list or mapping of them as the student's outputs.
        outputs: The student's outputs by name.

    Raises:
        InputError: If there are more or fewer than outputs.
    """
    if isinstance(weight, Mapping):
        unknown = sorted(set(weight) - set(outputs))
        if unknown:
            raise InputError(
                f"sample_weight names {unknown}. The student's outputs: {sorted(outputs)}."
            )
        return weight
    if not isinstance(weight, list | tuple):
        return weight
    if len(weight) != len(outputs):
        raise InputError(
            f"sample_weight has {len(weight)} entries for {len(outputs)} output(s): "
            f"{', '.join(outputs)}."
        )
    return dict(zip(outputs, weight, strict=True))


def loss_of(loss: Any, output: str, outputs: Sequence[str]) -> Any:
    """Return the compiled loss of one output, or None."""
    if isinstance(loss, Mapping):
        return loss.get(output)
    if isinstance(loss, list | tuple):
        return loss[list(outputs).index(output)] if len(loss) == len(outputs) else None
    return loss


def require_hard_loss(bench: Bench, student: Tapped) -> None:
    """Raise if the compiled cross-entropy takes probabilities for logits, or the reverse.

    Raises:
        ModelError: If so. Keras computes something then: a softmax of a softmax, or a
            logarithm of logits.
    """
    for output, loss in bench.losses.items():
        name = loss_name(loss)
        if "crossentropy" not in name or isinstance(loss, type):
            continue
        settings = getattr(keras.losses.get(loss), "_fn_kwargs", {})
        from_logits = bool(settings.get("from_logits", getattr(loss, "from_logits", False)))
        kind: Any = "binary" if "binary" in name else "classes"
        ending = bench.student_endings.get(output, "unknown")
        values = student.outputs[output]
        what = f"Output {output!r} of the {bench.student_name}"
        form = form_of(values, kind=kind, ending=ending, stated=None, what=what)
        if form == "probabilities" and from_logits and (ending != "unknown" or kind == "classes"):
            raise ModelError(
                f"{what} gives probabilities, but the compiled {name} has from_logits=True: a "
                "double softmax. Set from_logits=False, or end the student in logits."
            )
        if form == "logits" and ending == "linear" and not from_logits:
            raise ModelError(
                f"{what} gives logits, but the compiled {name} has from_logits=False. Set "
                "from_logits=True."
            )


def _shapes(inputs: Any) -> str:
    return ", ".join(f"{tuple(t.shape)} {t.dtype.name}" for t in tf.nest.flatten(inputs))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
