"""What a recipe may not ask of a strategy, said before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

from tfopt.config.schema import Recipe
from tfopt.errors import RecipeError


def require_possible(kind: str, recipe: Recipe) -> None:
    """Raise if the strategy cannot train a stage of the recipe as it promises.

    Args:
        kind: The strategy; with ``auto`` nothing is known yet.
        recipe: The recipe.

    Raises:
        RecipeError: With every setting that does not go, and why.
    """
    if kind not in _PROBLEMS:
        return
    if problems := list(_PROBLEMS[kind](recipe)):
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise RecipeError(
            f"strategy.kind {kind!r} cannot train this recipe: {len(problems)} problem(s)\n"
            f"{lines}\n"
            "Train without them, and then go on from the finished stages with the whole recipe, "
            "--resume --set 'strategy={kind: single}'."
        )


def _against_servers(recipe: Recipe) -> Iterator[str]:
    """Yield what does not work with parameter servers on TensorFlow 2.21."""
    yield from _float32_without_xla(recipe, "variables that lie on servers")
    for number, step in enumerate(recipe.steps):
        place = f"steps[{number}].{step.name}"
        if step.prune is not None:
            yield f"{place}: masks change at exact steps, which asynchronous workers pass over"
        yield from _without_teachers(recipe, number)


def _against_divided_weights(recipe: Recipe) -> Iterator[str]:
    """Yield what does not work on weights that DTensor divides."""
    yield from _float32_without_xla(recipe, "weights divided by DTensor")
    optimizer = recipe.training.optimizer if recipe.training is not None else None
    if optimizer is not None and optimizer.ema is not None:
        yield "train.optimizer.ema: averages of weights divided by DTensor are not kept"
    for number, step in enumerate(recipe.steps):
        yield f"steps[{number}].{step.name}: its layers have no layout in DTensor"


def _float32_without_xla(recipe: Recipe, what: str) -> Iterator[str]:
    train = recipe.training
    fits = {"train": train, **{step.name: step.settings for step in recipe.steps}}
    for name, settings in fits.items():
        if settings is not None and settings.accumulate > 1:
            yield f"{name}.accumulate: batches are not computed in parts with {what}"
    if train is None:
        return
    if train.precision != "float32":
        yield f"train.precision: {train.precision} does not go with {what}"
    if train.jit_compile:
        yield f"train.jit_compile: XLA does not go with {what}"
    if train.transfer is not None:
        yield f"train.transfer: its groups and rates were not tried with {what}"


def _without_teachers(recipe: Recipe, number: int) -> Iterator[str]:
    step = recipe.steps[number]
    if step.distill is not None:
        yield f"steps[{number}].distill: teachers run in fit() of one process"
    elif getattr(step.settings, "teacher", None) is not None:
        yield f"steps[{number}].{step.name}.teacher: teachers run in fit() of one process"


_PROBLEMS = {
    "parameter_server": _against_servers,
    "model_parallel": _against_divided_weights,
}
