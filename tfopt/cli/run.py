"""Run a recipe from the command line: the folder, the log, and who speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tfopt.cli.arguments import resume_command, typed
from tfopt.cli.options import RunChoice
from tfopt.config.schema import Recipe
from tfopt.distributed.environment import Place, choose_kind, find_place
from tfopt.distributed.keepalive import guard_process
from tfopt.errors import Interrupted
from tfopt.pipeline.run_directory import MANIFEST, check_run_dir, fresh_folder, latest_folder
from tfopt.reporting.console import Reporter, make_reporter
from tfopt.reporting.console.switching_stream import Voice
from tfopt.reporting.process_log import quiet_tensorflow

_RUNS = Path("runs")


def execute(words: Sequence[str], recipe: Recipe, choice: RunChoice) -> None:
    """Run a recipe as the command line asks for it.

    Args:
        words: What was typed after ``tfopt``.
        recipe: The recipe.
        choice: Where to, whether to resume, and how much to say.

    Raises:
        Interrupted: If it was; the message says how to go on.
        TfoptError: Whatever else stopped the run.
    """
    # What contradicts the launcher or is wrong with the folder is said before TensorFlow loads.
    place = find_place(os.environ)
    choose_kind(recipe.strategy, place)
    if place.serves:
        from tfopt.distributed.tf_distribute.parameter_server import serve

        return serve()
    if place.is_launched:
        guard_process()  # now, as its last words would go to the log later
    is_first = place.rank == 0
    folder = _folder_of(recipe, choice, is_first=is_first)
    if is_first and not place.is_elastic:  # a rank that is added finds a run there
        check_run_dir(folder, resume=choice.resume)
    go_on = f"Go on with: {resume_command(words, folder)}"
    log = folder / "log.txt" if is_first else None
    with quiet_tensorflow(log_to=log, beside=MANIFEST) as stream:
        # Only the first process of a run speaks; the others write into their own logs.
        voice = Voice(stream, sys.stderr)
        reporter = _reporter(voice, place, quiet=choice.quiet)
        try:
            from tfopt.pipeline.runner import RunOptions, run_recipe

            options = RunOptions(
                folder,
                resume=choice.resume,
                command=typed(words),
                keeps_rank_logs=not is_first,
                on_place=voice.speak,
            )
            run_recipe(recipe, options, reporter)
        except (KeyboardInterrupt, Interrupted) as error:
            raise Interrupted(f"Interrupted. {go_on}") from error
        except BrokenPipeError as error:
            raise Interrupted(f"Nobody reads the output any more. {go_on}") from error
        finally:
            with suppress(BrokenPipeError):
                reporter.close()


def _folder_of(recipe: Recipe, choice: RunChoice, *, is_first: bool) -> Path:
    """Return the run folder; the first process tells the others which one it took."""
    if choice.output is not None:
        return choice.output
    if not is_first:
        return _RUNS / recipe.name
    find = latest_folder if choice.resume else fresh_folder
    return find(_RUNS, recipe.name)


def _reporter(voice: Voice, place: Place, *, quiet: bool) -> Reporter:
    """Return what tells of the run: only the first process speaks, the others keep logs."""
    is_first = place.rank == 0
    voice.speak(is_first)
    # Any process of an elastic run may become the first one; a voice is no terminal.
    stream = voice if place.is_elastic else voice.now
    return make_reporter(quiet=quiet and is_first, stream=stream)
