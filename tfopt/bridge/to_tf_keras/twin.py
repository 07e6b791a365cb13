"""What a rule of the bridge returns: the tf_keras twin of one Keras 3 layer.

A rule takes a built Keras 3 layer and the names in use, and returns a ``Twin``. The
walker calls the twin wherever the Keras 3 graph calls the layer; when the whole graph
stands, the links say which weight is which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tfopt.errors import ModelError

How: TypeAlias = Literal["native", "decomposed", "operation", "fallback"]


@dataclass(frozen=True, slots=True)
class Link:
    """One weight of the Keras 3 model and the weight of the tf_keras model that holds it.

    Attributes:
        source: The Keras 3 variable.
        target: The tf_keras variable; None if the value became a setting of the twin, as
            the mean of Normalization does.
        permutation: Axes of ``source`` are put in this order before it takes the shape
            of ``target``; None keeps them.
        read: What is copied instead of ``source`` as it is, for a weight that Keras 3
            computes from several (LoRA, integers with scales); such a link is one-way.
    """

    source: Any
    target: Any
    permutation: tuple[int, ...] | None = None
    read: Callable[[], npt.NDArray[Any]] | None = None

    def forward(self) -> None:
        """Copy the Keras 3 weight into the tf_keras weight.

        Raises:
            ModelError: If the number of entries differs.
        """
        if self.target is None:
            return
        value = np.asarray(self.source) if self.read is None else self.read()
        if value.size != np.prod(self.target.shape, dtype=np.int64):
            raise ModelError(
                f"Weight {self.source.path!r} of the Keras 3 model has the shape {value.shape}, "
                f"and its twin {self.target.name!r} has {tuple(self.target.shape)}."
            )
        if self.permutation is not None:
            value = value.transpose(self.permutation)
        self.target.assign(value.reshape(self.target.shape))

    def backward(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a value of ``target`` in the shape of ``source``.

        Args:
            value: Any array with as many entries.

        Returns:
            The same entries, as the Keras 3 layer wants them.
        """
        shape = tuple(self.source.shape)
        if self.permutation is None:
            return value.reshape(shape)
        permuted = value.reshape([shape[axis] for axis in self.permutation])
        return permuted.transpose(np.argsort(self.permutation))


def _no_links() -> Sequence[Link]:
    return ()


@dataclass(frozen=True, slots=True)
class Twin:
    """What stands in the tf_keras graph for one Keras 3 layer or operation.

    Attributes:
        call: Called with the arguments of the Keras 3 call, symbolic tensors of tf_keras
            in place of those of Keras 3; ``training`` is never among them.
        how: ``native`` is the tf_keras layer of the same meaning; ``decomposed`` several
            plain layers; ``operation`` a ``keras.ops`` node; ``fallback`` the Keras 3
            layer itself, run on weights that tf_keras owns.
        links: Called once the graph stands; every weight of the Keras 3 layer is the
            source of exactly one link.
        note: What the user should know, such as what was merged; empty for nothing.
    """

    call: Callable[..., Any]
    how: How
    links: Callable[[], Sequence[Link]] = _no_links
    note: str = ""


def plain_name(name: str) -> str:
    """Return a name in the characters that name scopes of TensorFlow take.

    Args:
        name: Any name; Keras 3 refuses only ``/``.
    """
    plain = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
    return plain if re.match(r"[A-Za-z0-9.]", plain) else f"layer{plain}"


class Names:
    """The layer names of the model that is being built; each is given once.

    Names stay unique over all nested models, since compression opens them: a nested layer
    whose name is taken, or wanted by the outer model, gets its model's name in front.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._reserved: frozenset[str] = frozenset()
        self._scope: tuple[str, ...] = ()
        # Layers whose weights several Keras 3 layers use (a tied embedding, and the head that
        # projects back through it), by the id of the Keras 3 layer that owns the weights.
        self.owners: dict[int, Any] = {}
        # Ids of the embeddings that some layer of the model calls in reverse; None: not known.
        self.reversed_embeddings: frozenset[int] | None = None

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for the layers of the outermost model."""
        self._reserved = frozenset(map(plain_name, names))

    @contextmanager
    def within(self, model_name: str) -> Iterator[None]:
        """Give names to the layers of a nested model for a while."""
        outer, self._scope = self._scope, (*self._scope, model_name)
        try:
            yield
        finally:
            self._scope = outer

    def take(self, name: str) -> str:
        """Return ``name``, or one made from it that is free.

        Args:
            name: The wanted name.

        Returns:
            A name that no other layer has, made of the characters that tf_keras takes.
        """
        name = plain_name(name)
        if self._scope and (name in self._taken or name in self._reserved):
            name = plain_name("_".join((*self._scope, name)))
        candidate, number = name, 1
        while candidate in self._taken:
            candidate, number = f"{name}_{number}", number + 1
        self._taken.add(candidate)
        return candidate


Rule: TypeAlias = Callable[[Any, Names], Twin]
"""Given a built Keras 3 layer and the names in use, return its twin."""
