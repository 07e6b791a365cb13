"""What of a pretrained layer a narrower one takes over."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfopt.models.transformers.tensors import Array


def factorise(table: Array, rank: int) -> tuple[Array, Array]:
    """Return ``words`` and ``back`` whose product is the nearest matrix of a rank to ``table``.

    Both have the square roots of the singular values (Eckart and Young, 1936).

    Args:
        table: ``(rows, width)``.
        rank: At most ``width``.

    Returns:
        ``(rows, rank)`` and ``(rank, width)``.

    Example:
        >>> words, back = factorise(np.outer([1.0, 2.0, 3.0], [0.0, 1.0]).astype("float32"), 1)
        >>> np.round(words @ back, 4).tolist()
        [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]
    """
    exact = table.astype(np.float64)
    # The eigenvectors of the small Gram matrix are the right singular vectors of the tall table.
    squares, directions = np.linalg.eigh(exact.T @ exact)
    kept = directions[:, ::-1][:, :rank]
    roots = np.sqrt(np.sqrt(np.maximum(squares[::-1][:rank], 1e-30)))
    return (exact @ kept / roots).astype(np.float32), (kept * roots).T.astype(np.float32)


def strongest_neurons(kernel: Array, back: Array, count: int) -> npt.NDArray[np.intp]:
    """Return the numbers of the neurons that a feed-forward part can least do without.

    A neuron's strength is the Euclidean norm of its weights in times that of its weights out:
    the size of what it can add, as in magnitude pruning of whole channels (arXiv:1608.08710).

    Args:
        kernel: Weights in, ``(hidden, neurons)``.
        back: Weights out, ``(neurons, hidden)``.
        count: Neurons to keep, at most all.

    Returns:
        ``count`` numbers, rising.

    Example:
        >>> strongest_neurons(np.eye(3), np.diag([1.0, 3.0, 2.0]), 2).tolist()
        [1, 2]
    """
    strength = np.linalg.norm(kernel, axis=0) * np.linalg.norm(back, axis=1)
    return np.sort(np.argsort(-strength, kind="stable")[:count])
