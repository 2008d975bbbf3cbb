"""Fewer dimensions: the directions in which the articles of a catalogue differ most (principal components)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.content.encoders import unit_rows

_CHUNK = 8_192


@dataclass(frozen=True, eq=False)
class Projection:
    """mean float32[d] · axes float32[d, k], orthonormal columns, the one with the largest variance first."""

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]

    def __call__(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Unit rows float32[n, k] of vectors float32[n, d]; zero rows, which say nothing, stay zero."""
        out = np.zeros((len(vectors), self.axes.shape[1]), np.float32)
        some = np.flatnonzero(vectors.any(axis=1))
        for start in range(0, len(some), _CHUNK):
            rows = some[start : start + _CHUNK]
            out[rows] = unit_rows((vectors[rows] - self.mean) @ self.axes)
        return out


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
