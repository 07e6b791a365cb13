"""The distiller: a tf_keras model that trains a student beside its teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import tensorflow as tf

from tfopt.bridge.to_tf_keras.convert import to_tf_keras
from tfopt.distillation import checks
from tfopt.distillation.feature_extractor import Tap, named_outputs
from tfopt.distillation.first_batch import TaughtInputs, first_rows, mask_from
from tfopt.distillation.logits import endings
from tfopt.distillation.loss_base import Bench, Compute, DistillationLoss, Seen
from tfopt.distillation.reduction import Average, average, show, sum_of_replicas, weight_for
from tfopt.distillation.schedules import Schedule, require_range, value_at
from tfopt.distillation.soft_targets import SoftTargets
from tfopt.distillation.teachers import Teacher, TeacherResult, as_teacher, digest_of
from tfopt.distillation.vocabulary import require_one_vocabulary
from tfopt.distributed import replica_context
from tfopt.errors import InputError, ModelError, VerificationError
from tfopt.keras2.core import keras

_RESERVED = ("loss", "student_loss")


@dataclass(slots=True)
class _Setup:
    """What Keras must not track: tracked weights would be trained and saved.

    Attributes:
        teachers: The teachers; empty if only cached outputs are given.
        shares: Their weights; they sum to 1.
        losses: The distillation losses.
        alpha: Weight of the hard labels.
        mask: How padding is known.
        tap: The student with the tensors that losses look into.
        computes: The checked losses; None before the first batch.
        user_loss: The compiled hard-label loss.
    """

    teachers: list[Teacher]
    shares: Sequence[float]
    losses: Sequence[DistillationLoss]
    alpha: Schedule
    mask: Any
    tap: Tap
    computes: list[Compute] | None = None
    user_loss: Any = None


class Distiller(keras.Model):
    """Trains a student on labels and on what teachers say: ``compile``, ``fit``, ``evaluate``.

    The loss of a step is ``alpha * hard + (1 - alpha) * sum(weight * part) + regularization``:
    the compiled loss on the labels, each distillation loss, and the student's own
    regularization losses. Without labels, or without a compiled loss, it is
    ``sum(weight * part) + regularization``: the teachers are the only target. Sample and
    class weights scale every part but regularization. Under ``tf.distribute`` each part is
    the mean over the global batch, also where replicas have unequal rows or padding.

    Metrics: ``loss`` (the whole), ``student_loss`` (hard labels alone), one for each
    distillation loss, and the compiled ones on the student.

    Everything is checked on the first batch, before a weight changes: shapes and class
    counts, logits or probabilities on both sides, and that the teachers do not change
    themselves. A cached batch is compared with the teachers once.

    The student is an attribute: ``distiller.student`` is the plain tf_keras model to save,
    strip or export. Saving the distiller is refused; ``save_weights`` works. A Keras 3 student
    is converted, so ``distiller.student`` is a tf_keras twin, and
    ``tfopt.to_keras3(distiller.student)`` leads back; its original is not trained.

    Args:
        student: A model of either Keras; it may be pruned, clustered or quantized.
        teacher: One teacher or a list of them: see ``as_teacher``. None if all data comes
            from a cache.
        losses: Distillation losses: one, a list, or output name to one or a list of those
            that take an ``output``. None: ``SoftTargets()``.
        alpha: Weight of the hard labels in ``[0, 1]``, a number or a schedule.
        teacher_weights: A weight ``> 0`` for each teacher; None: equal. They are scaled to
            sum to 1, and apply to soft targets.
        mask: Name of the input that is 1 at real positions, or a function of the inputs that
            says so. None: the masks that the student's layers pass on.
        name: Name of the model.

    Raises:
        InputError: If settings do not fit together.
        ModelError: If a tensor that a loss names is not there, teacher and student share
            weights, or the student was made under another ``tf.distribute`` strategy.
    """

    def __init__(  # noqa: PLR0913  # keyword-only options, each with its own default
        self,
        student: Any,
        teacher: Any = None,
        *,
        losses: Any = None,
        alpha: Schedule = 0.1,
        teacher_weights: Sequence[float] | None = None,
        mask: Any = None,
        name: str = "distiller",
    ) -> None:
        super().__init__(name=name)
        chosen = _as_losses(losses)
        require_range(alpha, what="alpha", lowest=0, highest=1)
        labels = checks.unique_labels(chosen, reserved=_RESERVED)
        self.student = to_tf_keras(student) if not isinstance(student, keras.Model) else student
        checks.require_scope(self.student)
        teachers = _as_teachers(teacher, chosen)
        checks.require_apart(self.student, teachers)
        names = [layer for loss in chosen for layer in loss.student_tensors()]
        self._setup = _Setup(
            teachers=teachers,
            shares=_shares(teacher_weights, len(teachers)),
            losses=chosen,
            alpha=alpha,
            mask=mask,
            tap=Tap(self.student, names, what="student"),
        )
        self._projections: dict[str, Any] = {}
        self._total = keras.metrics.Mean("loss")
        self._hard_mean = keras.metrics.Mean("student_loss")
        self._means = {label: keras.metrics.Mean(label) for label in labels}
        # With these, Keras names losses and metrics of several outputs as the student does.
        self.output_names = getattr(self.student, "output_names", None)
        self.built = self.student.built

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, metrics: Any = None, **settings: Any
    ) -> None:
        """Set optimizer, hard-label loss and metrics; see ``tf_keras.Model.compile``.

        Args:
            optimizer: As in Keras.
            loss: On the labels; None trains on the teachers alone.
            metrics: On the student's outputs.
            **settings: The other settings of Keras.
        """
        super().compile(optimizer, loss, metrics, **settings)
        self._setup.user_loss = loss
        self._setup.computes = None

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Return the student's outputs."""
        if isinstance(inputs, TaughtInputs):
            inputs = inputs.inputs
        return self.student(inputs, training=training)

    def fit(self, x: Any = None, y: Any = None, *positional: Any, **named: Any) -> Any:
        """Train the student; see ``tf_keras.Model.fit``.

        Args:
            x: As in Keras, or the dataset of a cache.
            y: Labels; None if there are none.
            *positional: As in Keras.
            **named: As in Keras.

        Raises:
            InputError: If losses, data and models do not fit together.
            ModelError: If shapes differ.
            VerificationError: If a teacher's weights changed.
        """
        x = self._prepare(x)
        before = [digest_of(teacher.weights()) for teacher in self._setup.teachers]
        history = super().fit(x, y, *positional, **named)
        after = [digest_of(teacher.weights()) for teacher in self._setup.teachers]
        for teacher, one, other in zip(self._setup.teachers, before, after, strict=True):
            if one != other:
                raise VerificationError(
                    f"The weights of the {teacher.name} changed during fit(). Something else "
                    "trains it, such as a callback; distil from a snapshot of it."
                )
        return history

    def evaluate(self, x: Any = None, y: Any = None, *positional: Any, **named: Any) -> Any:
        """Return all metrics; nothing is changed. See ``tf_keras.Model.evaluate``."""
        return super().evaluate(self._prepare(x), y, *positional, **named)

    def train_on_batch(self, x: Any, *positional: Any, **named: Any) -> Any:
        """Train on one batch; see ``tf_keras.Model.train_on_batch``."""
        return super().train_on_batch(self._prepare(x), *positional, **named)

    def test_on_batch(self, x: Any, *positional: Any, **named: Any) -> Any:
        """Return all metrics of one batch; see ``tf_keras.Model.test_on_batch``."""
        return super().test_on_batch(self._prepare(x), *positional, **named)

    def look_at(self, x: Any) -> None:
        """Check everything on the first rows, as ``fit`` does, and build what is learned.

        Afterwards ``weights`` holds the projections too, so that a checkpoint can be loaded.
        ``compile`` first: what outputs tell may depend on the loss.

        Args:
            x: Data as for ``fit``.

        Raises:
            InputError: If losses, data and models do not fit together.
            ModelError: If shapes differ.
        """
        self._prepare(x)

    @property
    def teachers(self) -> Sequence[Teacher]:
        """Return the teachers."""
        return tuple(self._setup.teachers)

    @property
    def metrics(self) -> list[Any]:
        """Return all metrics, the loss first."""
        own = [self._total, self._hard_mean, *self._means.values()]
        # Keras names its mean of the hard loss "loss" too, and weighs replicas equally.
        other = [m for m in super().metrics if m.name != "loss" and all(m is not n for n in own)]
        return [*own, *other]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Train on a batch; called by Keras, on each replica."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        inputs, taught = self._teach(x)
        with tf.GradientTape() as tape:
            loss, raw = self._look(inputs, taught, y, weight, training=True)
        # minimize() ends in the optimizer's public aggregate_gradients(), where tf.distribute sums
        # over replicas and a Horovod optimizer averages over ranks. Averaging the tape instead
        # would do it twice, and applying past it not at all.
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self._results(y, raw, weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Measure a batch in inference mode; called by Keras, on each replica."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        inputs, taught = self._teach(x)
        _, raw = self._look(inputs, taught, y, weight, training=False)
        return self._results(y, raw, weight)

    def save(self, *positional: Any, **named: Any) -> NoReturn:
        """Refuse: a distiller is a way to train, not a model to keep.

        Raises:
            ModelError: Always.
        """
        self._refuse_saving()

    def export(self, *positional: Any, **named: Any) -> NoReturn:
        """Refuse, as ``save``.

        Raises:
            ModelError: Always.
        """
        self._refuse_saving()

    def get_config(self) -> NoReturn:
        """Refuse, as ``save``; ``keras.models.save_model`` comes here.

        Raises:
            ModelError: Always.
        """
        self._refuse_saving()

    def _refuse_saving(self) -> NoReturn:
        raise ModelError(
            "A distiller holds teachers and cannot be saved. Save the student: "
            "distiller.student.save(path); in ModelCheckpoint set save_weights_only=True."
        )

    def _teach(self, x: Any) -> tuple[Any, Sequence[TeacherResult]]:
        """Return the inputs, and what the teachers say about them."""
        if isinstance(x, TaughtInputs):
            return x.inputs, x.teachers
        return x, [teacher(x) for teacher in self._setup.teachers]

    def _look(
        self, inputs: Any, taught: Sequence[TeacherResult], y: Any, weight: Any, *, training: bool
    ) -> tuple[Any, Any]:
        """Run the student, and return the loss of this replica and its raw outputs."""
        if self._setup.computes is None:
            raise InputError(
                "The distiller has not seen data yet. Call fit(), evaluate(), train_on_batch() or "
                "test_on_batch() rather than train_step()."
            )
        step = self.optimizer.iterations
        mask = mask_from(self._setup.mask, inputs)
        seen = Seen(self._setup.tap(inputs, training=training), taught, mask, step)
        raw = seen.student.raw
        rows = sum_of_replicas(tf.cast(tf.shape(tf.nest.flatten(raw)[0])[0], tf.float32))
        loss = self._parts(seen, checks.by_output(weight, seen.student.outputs))
        if y is not None and self._setup.user_loss is not None:
            hard = self._hard(y, raw, weight)
            show(self._hard_mean, Average(hard, rows))
            alpha = value_at(self._setup.alpha, step)
            loss = alpha * hard + (1 - alpha) * loss
        if self.student.losses:
            own = tf.add_n([tf.cast(one, tf.float32) for one in self.student.losses])
            loss += own / tf.distribute.get_strategy().num_replicas_in_sync
        show(self._total, Average(loss, rows))
        return loss, raw

    def _parts(self, seen: Seen, weights: Any) -> Any:
        """Return this replica's share of the weighted sum of the distillation losses."""
        found = []
        computes = self._setup.computes or []
        for loss, compute in zip(self._setup.losses, computes, strict=True):
            terms = [
                (
                    term.share,
                    average(term.values, weight=weight_for(term.output, weights), mask=term.mask),
                )
                for term in compute(seen)
            ]
            share = tf.add_n([factor * one.share for factor, one in terms])
            show(self._means[loss.label], Average(share, terms[0][1].everywhere))
            found.append(loss.weight * share)
        return tf.add_n(found)

    def _hard(self, y: Any, raw: Any, weight: Any) -> Any:
        """Return this replica's share of the compiled loss.

        Keras divides the mean over a replica's rows by the number of replicas, or Horovod their
        sum. Where rows or
        padding are unequal, the weights make up for it.
        """
        if replica_context.are_several():
            weight = self._balanced(raw, weight)
        return tf.cast(self.compiled_loss(y, raw, weight), tf.float32)

    def _balanced(self, raw: Any, weight: Any) -> Any:
        outputs = named_outputs(self.student, raw)
        weights = checks.by_output(weight, outputs)
        balanced = {}
        for name, tensor in outputs.items():
            loss = keras.losses.get(checks.loss_of(self._setup.user_loss, name, list(outputs)))
            given = weight_for(name, weights)
            if getattr(loss, "reduction", None) == keras.losses.Reduction.SUM:
                balanced[name] = given
                continue
            mask = getattr(tensor, "_keras_mask", None)
            rows = tf.shape(tensor)[:1] if mask is None else tf.shape(mask)
            real = tf.ones(rows) if mask is None else tf.cast(mask, tf.float32)
            here = tf.reduce_sum(real)
            factor = tf.math.divide_no_nan(here, replica_context.mean(here))
            balanced[name] = factor * (tf.ones(tf.shape(tensor)[:1]) if given is None else given)
        flat = [balanced[name] for name in outputs]
        if isinstance(raw, Mapping):
            return balanced
        return flat[0] if not isinstance(raw, list | tuple) else flat

    def _results(self, y: Any, raw: Any, weight: Any) -> dict[str, Any]:
        # A metric that nothing was given to would show 0, which is no measurement.
        if y is None:
            shown = [self._total, *self._means.values()]
            return {metric.name: metric.result() for metric in shown}
        found = dict(self.compute_metrics(None, y, raw, weight))
        if self._setup.user_loss is None:
            del found[self._hard_mean.name]
        return found

    def _prepare(self, x: Any) -> Any:
        """Check everything on the first rows, once; return data to go on with."""
        if self._setup.computes is not None or x is None:
            return x
        with self.distribute_strategy.scope():
            rows, rest = first_rows(x)
            self._resolve(rows)
        return rest

    def _resolve(self, rows: Any) -> None:
        setup = self._setup
        checks.require_taught(rows, setup.teachers)
        require_one_vocabulary(self.student, setup.teachers)
        inputs = rows.inputs if isinstance(rows, TaughtInputs) else rows
        live = [checks.first_lesson(teacher, inputs) for teacher in setup.teachers]
        checks.require_jit(self._jit_compile, setup.teachers)
        taught: Sequence[TeacherResult] = live
        if isinstance(rows, TaughtInputs):
            taught = rows.teachers
            checks.require_same_lesson(setup.teachers, live, taught)
        if len(setup.shares) != len(taught):
            setup.shares = _shares(None, len(taught))
        student = checks.first_pass(setup.tap, inputs)
        checks.require_apart(self.student, setup.teachers)
        first = Seen(student, taught, mask_from(setup.mask, inputs), 0)
        bench = Bench(
            student_name=f"student {self.student.name!r}",
            teacher_names=[teacher.name for teacher in setup.teachers]
            or [f"cached teacher {number}" for number in range(len(taught))],
            student_endings=endings(self.student),
            teacher_endings=[teacher.endings for teacher in setup.teachers] or [{}] * len(taught),
            teacher_shares=setup.shares,
            losses={
                name: checks.loss_of(setup.user_loss, name, list(student.outputs))
                for name in student.outputs
            },
            projections=self._projections,
        )
        checks.require_hard_loss(bench, student)
        setup.computes = [loss.resolve(first, bench) for loss in setup.losses]


def _as_losses(losses: Any) -> list[DistillationLoss]:
    """Return a flat list of losses, those of a mapping bound to their outputs.

    Raises:
        InputError: If something is no distillation loss, or there is none.
    """
    if losses is None:
        return [SoftTargets()]
    if isinstance(losses, Mapping):
        return checks.bound_losses(losses)
    flat = list(losses) if isinstance(losses, list | tuple) else [losses]
    return checks.require_losses(flat)


def _as_teachers(teacher: Any, losses: Sequence[DistillationLoss]) -> list[Teacher]:
    given = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
    found: list[Teacher] = []
    for number, one in enumerate(given if teacher is not None else []):
        names = tuple(dict.fromkeys(n for loss in losses for n in loss.teacher_tensors(number)))
        plain = as_teacher(one)
        found.append(plain.with_features(names) if names else plain)
    return found


def _shares(weights: Sequence[float] | None, teachers: int) -> list[float]:
    if weights is None:
        return [1 / max(1, teachers)] * max(1, teachers)
    if len(weights) != teachers or not all(weight > 0 for weight in weights):
        raise InputError(
            f"teacher_weights needs a number above 0 for each of {teachers} teacher(s). Received: "
            f"{list(weights)}."
        )
    return [weight / sum(weights) for weight in weights]
