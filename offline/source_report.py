"""What each candidate source is worth, and what the ranker makes of the candidates: judged before any list is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.contenders import Asked, Chunk, Contender
from offline.reliability import reliability
from offline.truth import Truth
from serving.retrieval.candidates import UNRANKED

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Of the customers with a past, whom alone the ranker serves.

    rows: int64[n] of the truth · hits: float64[n, S] how many of a customer's purchases each source found ·
    without: float64[n, S] the union of all other sources · only: float64[n, S] found by that source alone ·
    union: float64[n] · found: float64[n, S] candidates by source · size: float64[n] candidates in all ·
    probability: float32[.] the ranker's word on every candidate · happened: bool[.] whether it was bought.
    """

    sources: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    hits: Floats
    without: Floats
    only: Floats
    union: Floats
    found: Floats
    size: Floats
    probability: npt.NDArray[np.float32]
    happened: npt.NDArray[np.bool_]

    def report(self, truth: Truth) -> list[dict[str, Any]]:
        """A row a source. recall: mean over customers of the share of purchases that it finds at its depth ·
        lift: recall of the union less that of the union without it · only_share: of all purchases found, the part
        that no other source finds."""
        if not len(self.rows):
            return []
        relevant = truth.relevant[self.rows]
        recall_of_union = float((self.union / relevant).mean())
        total = max(self.union.sum(), 1.0)
        rows = []
        for s, name in enumerate(self.sources):
            others = float((self.without[:, s] / relevant).mean())
            rows.append(
                {
                    "source": name,
                    "candidates": round(float(self.found[:, s].mean()), 1),
                    "recall": round(float((self.hits[:, s] / relevant).mean()), 5),
                    "recall_without": round(others, 5),
                    "lift": round(recall_of_union - others, 5),
                    "only_share": round(float(self.only[:, s].sum() / total), 5),
                }
            )
        return rows

    def summary(self, truth: Truth) -> dict[str, float]:
        """Recall of all sources together, and how many candidates a customer has."""
        return {
            "recall": round(float((self.union / truth.relevant[self.rows]).mean()), 5) if len(self.rows) else 0.0,
            "candidates": round(float(self.size.mean()), 1) if len(self.rows) else 0.0,
        }

    def calibration(self) -> dict[str, Any]:
        """How true the ranker's purchase probabilities are over all candidates."""
        if not len(self.probability):
            return {}
        return reliability(self.probability.astype(np.float64), self.happened.astype(np.float64))


class CandidateJudge:
    """Asks `full` for its candidates, before filters and ranking, chunk by chunk.

    A lot of customers without a past has one list of candidates but a truth each.
    """

    def __init__(self, full: Contender, asked: Asked, truth: Truth) -> None:
        self._pipeline = full.pipeline
        self._truth = truth
        self._members = np.split(np.argsort(asked.lot, kind="stable"), np.cumsum(np.bincount(asked.lot))[:-1])
        self._sources: tuple[str, ...] = ()
        self._at: list[int] = []
        self._size: list[int] = []
        self._hits: list[Floats] = []
        self._only: list[Floats] = []
        self._found: list[Floats] = []
        self._union: list[float] = []
        self._probability: list[npt.NDArray[np.float32]] = []
        self._happened: list[npt.NDArray[np.bool_]] = []

    def add(self, chunk: Chunk) -> None:
        """Judge a chunk of `asked`; the chunks come in its order."""
        catalog, ranker = self._pipeline.runtime.catalog, self._pipeline.runtime.ranker
        asked = self._pipeline.candidates(chunk.requests("full"), chunk.stored)
        for members, (query, found) in zip(self._members[chunk.lots], asked, strict=True):
            self._sources = found.sources
            if query.cold:
                # Whom the popular list answers, the ranker never sees.
                continue
            scores = ranker.score(catalog.features.build(query, found))[:, 0]
            for row in members.tolist():
                bought = self._truth.bought(row, found.item_idx)
                self._count(found.ranks < UNRANKED, bought)
                self._at.append(row)
                self._size.append(len(found))
                self._probability.append(scores)
                self._happened.append(bought)

    def _count(self, by: npt.NDArray[np.bool_], bought: npt.NDArray[np.bool_]) -> None:
        mine = by[bought]
        alone = mine & (mine.sum(axis=1, keepdims=True) == 1)
        self._found.append(by.sum(axis=0).astype(np.float64))
        self._hits.append(mine.sum(axis=0).astype(np.float64))
        self._only.append(alone.sum(axis=0).astype(np.float64))
        self._union.append(float(len(mine)))

    def result(self) -> Candidates:
        back = np.argsort(self._at)
        shape = (-1, len(self._sources))
        only, union = np.array(self._only).reshape(shape)[back], np.array(self._union)[back]
        return Candidates(
            self._sources,
            rows=np.array(self._at, np.int64)[back],
            hits=np.array(self._hits).reshape(shape)[back],
            without=union[:, None] - only,
            only=only,
            union=union,
            found=np.array(self._found).reshape(shape)[back],
            size=np.array(self._size, np.float64)[back],
            probability=np.concatenate(self._probability) if self._probability else np.empty(0, np.float32),
            happened=np.concatenate(self._happened) if self._happened else np.empty(0, np.bool_),
        )
