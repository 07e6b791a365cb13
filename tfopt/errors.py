"""The errors tfopt raises, and the exit code each one becomes on the command line."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What ``tfopt`` returns to the shell. Scripts may rely on these numbers."""

    OK = 0
    INTERNAL_ERROR = 1
    BAD_INPUT = 2
    GATE_MISSED = 3
    VERIFICATION_FAILED = 4
    BACKEND_MISSING = 5
    PEERS_LOST = 6
    INTERRUPTED = 130


class TfoptError(Exception):
    """Base of every error that tfopt raises on purpose.

    The message is written for the user: what failed, what was received, what is
    allowed, what to do next. The command line prints it on its own, without a
    traceback unless ``--debug`` is given.
    """

    exit_code = ExitCode.INTERNAL_ERROR


class InputError(TfoptError):
    """A recipe, option, file or array given by the user cannot be used."""

    exit_code = ExitCode.BAD_INPUT


class RecipeError(InputError):
    """A recipe has one or more problems; the message lists them all."""


class DataError(InputError):
    """A data source is missing, broken, or does not fit the model."""


class ModelError(InputError):
    """A model is missing, broken, or of a kind that tfopt cannot process."""


class StorageError(InputError):
    """A file or folder cannot be written: it exists, is read-only, or the disk is full."""


class TrainingError(TfoptError):
    """Training cannot go on: the loss is not finite, or the data ran out."""

    exit_code = ExitCode.VERIFICATION_FAILED


class VerificationError(TfoptError):
    """A step returned normally, but its result is not what the step promised."""

    exit_code = ExitCode.VERIFICATION_FAILED


class ExportError(TfoptError):
    """A model could not be converted, or the converted file cannot be run."""

    exit_code = ExitCode.VERIFICATION_FAILED


class GateMissed(TfoptError):
    """Every step worked, but the metric dropped by more than the gate allows."""

    exit_code = ExitCode.GATE_MISSED


class BackendMissing(TfoptError):
    """An optional package or program is needed; the message names the install command."""

    exit_code = ExitCode.BACKEND_MISSING


class RankFailed(TfoptError):
    """Another process of the run failed; its exit code becomes this one's."""

    exit_code = ExitCode.VERIFICATION_FAILED

    def __init__(self, message: str, *, exit_code: ExitCode = ExitCode.VERIFICATION_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PeersLost(TfoptError):
    """Another process of the run has ended or is cut off; the run can be resumed."""

    exit_code = ExitCode.PEERS_LOST


class Interrupted(TfoptError):
    """The run was stopped from outside and can be resumed."""

    exit_code = ExitCode.INTERRUPTED
