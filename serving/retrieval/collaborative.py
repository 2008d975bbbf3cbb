"""Matrix factorisation with fold-in: article factors are trained offline, a customer's are solved from live state.

Implicit-feedback ALS (Hu, Koren and Volinsky, ICDM 2008, eq. 4). Its half-step for one customer is a small linear
system, so a purchase of this second is in the vector without any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from infra.errors import BundleError
from serving.history import History
from serving.index import VectorIndex
from serving.retrieval.candidates import Floats, Found, Ints
from serving.retrieval.nearest import nearest
from serving.retrieval.query import Query


@dataclass(frozen=True, eq=False)
class Factors:
    """items: float32[n, f], zero rows for articles never bought · confidence and regularization as in training ·
    interest_days: how fast an act's confidence fades."""

    items: Floats
    confidence: float
    regularization: float
    interest_days: float
    _gram: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_gram", self.items.T @ self.items)

    def fold_in(self, history: History) -> Floats:
        """float32[f]: x = (Y'Y + Y'(C - I)Y + reg I)^-1 Y'C p; zero without a usable act."""
        acted, interest = history.interest(self.interest_days)
        rows = self.items[acted]
        confidence = (self.confidence * interest).astype(np.float32)
        if not rows.any():
            return np.zeros(self.items.shape[1], np.float32)
        return np.linalg.solve(self._system(rows, confidence), rows.T @ confidence).astype(np.float32)

    def credit(self, history: History, wanted: Ints) -> Ints:
        """For each of the articles `wanted`, int64[R], the one acted on that adds most to its score; -1 where none adds
        to it. The score y'x is a sum over the acts, of y'(..)^-1 y_j c_j each (the same paper, section 5)."""
        acted, interest = history.interest(self.interest_days)
        rows = self.items[acted]
        if not rows.any():
            return np.full(len(wanted), -1, np.int64)
        confidence = (self.confidence * interest).astype(np.float32)
        shares = rows @ np.linalg.solve(self._system(rows, confidence), self.items[wanted].T) * confidence[:, None]
        best = np.argmax(shares, axis=0)
        return np.asarray(np.where(shares[best, np.arange(len(wanted))] > 0, acted[best], -1), np.int64)

    def _system(self, rows: Floats, confidence: Floats) -> Floats:
        system = self._gram + (rows.T * (confidence - 1.0)) @ rows
        system[np.diag_indices_from(system)] += self.regularization
        return np.asarray(system, np.float32)

    def extended(self, items: Floats) -> Factors:
        """The same with rows of zeros at the end, which change no sum."""
        extended = copy(self)
        object.__setattr__(extended, "items", items)
        return extended

    def save(self, path: Path) -> None:
        settings = np.array([self.confidence, self.regularization, self.interest_days])
        np.savez(path, items=self.items, settings=settings)

    @classmethod
    def load(cls, path: Path, n_items: int) -> Factors:
        """Read with pickle off.

        Raises:
            BundleError: an array is missing or not of `n_items`.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = {"items", "settings"} - set(stored.files)
            if missing:
                raise BundleError(f"{path.name} lacks {', '.join(sorted(missing))}")
            items, settings = stored["items"], stored["settings"]
        if items.ndim != 2 or len(items) != n_items:
            raise BundleError(f"{path.name} holds factors of shape {items.shape}, items.parquet {n_items} rows")
        if settings.shape != (3,):
            raise BundleError(f"{path.name} holds settings of shape {settings.shape}, not confidence and two more")
        return cls(items, *settings.tolist())


class Collaborative:
    name = "collab"

    def __init__(self, factors: Factors) -> None:
        self._items = factors.items
        self._index = VectorIndex.build(factors.items)

    def extended(self, factors: Factors) -> Collaborative:
        """The same over factors with rows of zeros at the end, which are nobody's nearest."""
        extended = copy(self)
        extended._items = factors.items
        return extended

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        return nearest(self._index, [query.factors for query in queries], k)

    def score(self, query: Query, rows: Ints) -> Floats:
        return np.asarray(self._items[rows] @ query.factors, np.float32)
