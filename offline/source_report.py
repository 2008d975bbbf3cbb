"""What each candidate source is worth, and what the ranker makes of the candidates: judged before any list is cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.contenders import Asked, Contender, K
from offline.progress import Step
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


@dataclass
class _Rows:
    """Counts of one lot, appended lot by lot."""

    hits: list[Floats] = field(default_factory=list)
    without: list[Floats] = field(default_factory=list)
    only: list[Floats] = field(default_factory=list)
    found: list[Floats] = field(default_factory=list)
    union: list[float] = field(default_factory=list)

    def add(self, ranks: npt.NDArray[np.float32], bought: npt.NDArray[np.bool_]) -> None:
        by = ranks < UNRANKED
        mine = by[bought]
        self.found.append(by.sum(axis=0).astype(np.float64))
        self.hits.append(mine.sum(axis=0).astype(np.float64))
        alone = mine & (mine.sum(axis=1, keepdims=True) == 1)
        self.only.append(alone.sum(axis=0).astype(np.float64))
        self.union.append(float(len(mine)))
        self.without.append(len(mine) - self.only[-1])


def judge_candidates(full: Contender, asked: Asked, truth: Truth, progress: Step) -> Candidates:
    """Ask `full` for its candidates, before filters and ranking.

    A lot of customers without a past has one list of candidates but a truth each.
    """
    catalog, ranker = full.pipeline.runtime.catalog, full.pipeline.runtime.ranker
    members = np.split(np.argsort(asked.lot, kind="stable"), np.cumsum(np.bincount(asked.lot))[:-1])
    rows = _Rows()
    at: list[int] = []
    size: list[int] = []
    probability: list[npt.NDArray[np.float32]] = []
    happened: list[npt.NDArray[np.bool_]] = []
    sources: tuple[str, ...] = ()
    lot = 0
    for requests, stored in asked.requests("full", K):
        for query, found in full.pipeline.candidates(requests, stored):
            sources = found.sources
            if query.cold:
                # Whom the popular list answers, the ranker never sees.
                lot += 1
                continue
            scores = ranker.score(catalog.features.build(query, found))[:, 0]
            for row in members[lot].tolist():
                bought = truth.bought(row, found.item_idx)
                rows.add(found.ranks, bought)
                at.append(row)
                size.append(len(found))
                probability.append(scores)
                happened.append(bought)
            lot += 1
        progress.advance(len(requests), "candidates")
    back = np.argsort(at)
    shape = (-1, len(sources))
    return Candidates(
        sources,
        rows=np.array(at, np.int64)[back],
        hits=np.array(rows.hits).reshape(shape)[back],
        without=np.array(rows.without).reshape(shape)[back],
        only=np.array(rows.only).reshape(shape)[back],
        union=np.array(rows.union)[back],
        found=np.array(rows.found).reshape(shape)[back],
        size=np.array(size, np.float64)[back],
        probability=np.concatenate(probability) if probability else np.empty(0, np.float32),
        happened=np.concatenate(happened) if happened else np.empty(0, np.bool_),
    )
