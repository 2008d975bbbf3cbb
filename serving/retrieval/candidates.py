"""What retrieval hands on: rows, and for each source its score and rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Found = tuple[Ints, Floats]  # rows best first, no row twice, and their scores
UNRANKED = 10_000
NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, eq=False, slots=True)
class CandidateSet:
    """item_idx: int64[C], no row twice · ranks: float32[C, S] from 0, UNRANKED where a source did not find it; S in
    the order of `sources`."""

    sources: tuple[str, ...]
    item_idx: Ints
    ranks: Floats

    def __len__(self) -> int:
        return len(self.item_idx)

    def keep(self, mask: npt.NDArray[np.bool_]) -> CandidateSet:
        return self if mask.all() else CandidateSet(self.sources, self.item_idx[mask], self.ranks[mask])

    def with_rows(self, rows: Ints) -> CandidateSet:
        """With `rows`, which are not among them, at their end: found by no source."""
        if not len(rows):
            return self
        nowhere = np.full((len(rows), len(self.sources)), UNRANKED, np.float32)
        return CandidateSet(self.sources, np.concatenate([self.item_idx, rows]), np.concatenate([self.ranks, nowhere]))

    def found_by(self, row: int) -> str:
        """Names of the sources that found a candidate, best rank first, joined by '+'."""
        found = sorted((rank, s) for s, rank in enumerate(self.ranks[row].tolist()) if rank < UNRANKED)
        return "+".join(self.sources[s] for _, s in found)


def best(rows: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], k: int) -> Found:
    """The k rows of highest score, best first; equal scores in the order given."""
    if len(scores) > 4 * k:
        # Sorting thousands to keep dozens would cost more than all else a source does.
        kept = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:k]
    return rows[order].astype(np.int64), scores[order].astype(np.float32)


def merge(sources: Sequence[str], found: Sequence[Found]) -> CandidateSet:
    """Union of what the sources found, in order of first appearance source by source."""
    rows = np.concatenate([items for items, _ in found]) if found else np.empty(0, np.int64)
    sizes = [len(items) for items, _ in found]
    unique, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    appeared = np.argsort(first)
    place = np.empty(len(unique), np.int64)  # of each sorted row in order of appearance
    place[appeared] = np.arange(len(unique))
    ranks = np.full((len(unique), len(sources)), UNRANKED, np.float32)
    ranks[place[inverse], np.repeat(np.arange(len(sources)), sizes)] = np.concatenate([*map(np.arange, sizes), []])
    return CandidateSet(tuple(sources), unique[appeared], ranks)
