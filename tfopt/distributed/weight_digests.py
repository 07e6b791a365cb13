"""Short hashes of weights, and what they tell when ranks or replicas compare them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfopt.errors import VerificationError

Digests = npt.NDArray[np.int64]

_DIGEST_BYTES = 8
_SHOWN = 3


def digest_of(content: bytes) -> int:
    """Return a hash of 8 bytes, as a whole number."""
    short = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(short, "little", signed=True)


def digests_of(variables: Sequence[Any]) -> Digests:
    """Return the hash of each variable's values, of either Keras."""
    return np.array([digest_of(value_of(one).numpy().tobytes()) for one in variables], np.int64)


def require_equal_digests(
    everyone: Sequence[Digests], variables: Sequence[Any], *, who: str, when: str, causes: str
) -> None:
    """Raise unless all hold the same values, bit for bit.

    Args:
        everyone: The hashes of each holder.
        variables: This holder's variables, for their names.
        who: What the holders are: ``ranks`` or ``replicas``.
        when: The moment, for the message: ``after step 1``.
        causes: The usual ones, for the message.

    Raises:
        VerificationError: With the holders and variables that differ.
    """
    if len({len(one) for one in everyone}) > 1:
        numbers = [len(one) for one in everyone]
        raise VerificationError(
            f"The {who} train different models: they have {numbers} variables (number 0 first). "
            "Build the same model on every one."
        )
    table = np.stack(everyone)
    differing = np.flatnonzero((table != table[0]).any(axis=0))
    if not differing.size:
        return
    names = [name_of(variables[index]) for index in differing[:_SHOWN]]
    more = f" and {differing.size - _SHOWN} more" if differing.size > _SHOWN else ""
    holders = [0, *np.flatnonzero((table != table[0]).any(axis=1)).tolist()]
    raise VerificationError(
        f"The weights of {who} {holders} differ {when}: {differing.size} of {len(variables)} "
        f"variables, {', '.join(names)}{more}. Their gradients are not averaged, or they began "
        f"from different weights. Usual causes: {causes}."
    )


def value_of(variable: Any) -> Any:
    """Return the tensor of a variable of either Keras, without the cast of mixed precision."""
    if hasattr(variable, "path"):
        return tf.convert_to_tensor(variable.value)
    return variable.read_value()


def name_of(variable: Any) -> str:
    """Return the name of a variable of either Keras."""
    return str(getattr(variable, "path", variable.name))
