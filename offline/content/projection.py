"""Fewer dimensions: the directions in which the articles of a catalogue differ most (principal components)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serving.content_space import Projection

_CHUNK = 8_192


def fit_projection(vectors: npt.NDArray[np.float32], dim: int) -> Projection:
    """Principal axes of the rows that are not zero; k = min(dim, d).

    With `dim` rows or fewer the mean stays: it would leave one article of a small shop without a direction.
    The sign of an axis is fixed by its largest entry, so equal input gives equal axes.
    """
    d = vectors.shape[1]
    some = np.flatnonzero(vectors.any(axis=1))
    total = np.zeros(d, np.float64)
    second = np.zeros((d, d), np.float64)
    for start in range(0, len(some), _CHUNK):
        part = vectors[some[start : start + _CHUNK]]
        total += part.sum(axis=0, dtype=np.float64)
        second += part.T @ part
    n = max(len(some), 1)
    mean = total / n if len(some) > dim else np.zeros(d)
    _, axes = np.linalg.eigh(second / n - np.outer(mean, mean))
    axes = axes[:, ::-1][:, :dim]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1, 1)
    return Projection(mean.astype(np.float32), np.ascontiguousarray(axes, np.float32))
