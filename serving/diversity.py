"""Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998, p. 335): of the articles that are left, the next is
the one with the largest

    (1 - diversity) relevance - diversity x likeness to the most alike of those that stand already.

Likeness is the cosine of content vectors, none below 0; of two articles of which one has no content, 1 within the same
category and 0 otherwise. What it costs: `modiste bench diversity`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.retrieval.candidates import Floats

Ints = npt.NDArray[np.int64]

# Candidates, best first, that diversity chooses from: what stands far below is not wanted for being different.
POOL = 100


@dataclass(frozen=True, eq=False, slots=True)
class Likeness:
    """How alike articles are. content: float32[n, c] unit rows, zero where there is none · categories: int[n], -1 where
    unknown."""

    content: Floats
    categories: npt.NDArray[np.integer]

    def among(self, rows: Ints) -> Among:
        content = self.content[rows]
        described = np.asarray((content != 0).any(axis=1), np.bool_)
        return Among(content, self.categories[rows], described)


@dataclass(frozen=True, eq=False, slots=True)
class Among:
    """The same of a few articles. described: bool[P], who has content."""

    content: Floats
    categories: npt.NDArray[np.integer]
    described: npt.NDArray[np.bool_]

    def to(self, place: int) -> Floats:
        """Likeness of each to one of them, float32[P] within 0 and 1."""
        cosine = np.clip(self.content @ self.content[place], 0.0, 1.0)
        if self.described.all():
            return np.asarray(cosine, np.float32)
        category = self.categories[place]
        same = (self.categories == category) & (category >= 0)
        both = self.described & self.described[place]
        return np.asarray(np.where(both, cosine, same), np.float32)


class Spread:
    """Chooses one place after the other of articles that come in the order of their scores.

    Args:
        scores: float[P], those that places go by. alike: of the same articles. diversity: 0..1.
        scale: float[any], whose range is that of relevance, so that a score moved far beyond it counts no more than the
            best of them; without it, or where it is empty, the range of `scores`.
    """

    def __init__(
        self,
        scores: npt.NDArray[np.floating],
        alike: Among,
        diversity: float,
        scale: npt.NDArray[np.floating] | None = None,
    ) -> None:
        self._worth = (1.0 - diversity) * relevance(scores, scores if scale is None or not len(scale) else scale)
        self._alike = alike
        self._diversity = diversity
        self._nearest = np.zeros(len(scores), np.float32)

    def __len__(self) -> int:
        return len(self._worth)

    def put(self, place: int) -> None:
        """This one stands in the list."""
        np.maximum(self._nearest, self._alike.to(place), out=self._nearest)

    def next(self, left: npt.NDArray[np.bool_]) -> int:
        """The place to put next of those `left`, of equal ones the first."""
        value = self._worth - self._diversity * self._nearest
        return int(np.argmax(np.where(left, value, -np.inf)))


def relevance(scores: npt.NDArray[np.floating], scale: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Scores brought to 0..1 by the range of `scale`, float64[P]; those outside it stand at its ends. On Complete
    Journey's week of 2017-12-17 the places of the scores, or their logs, give up more MAP@12 for the same distance
    within a list."""
    low, high = float(np.min(scale)), float(np.max(scale))
    return np.asarray(np.clip((scores - low) / max(high - low, 1e-12), 0.0, 1.0), np.float64)
