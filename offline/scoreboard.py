"""The contenders' scores by customer, and every comparison that the report draws from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offline import metrics as measure
from offline.bootstrap import Bootstrap, interval
from offline.contenders import K
from offline.metrics import Floats, Hits, Ints
from offline.truth import Truth

SCORES: dict[str, Callable[[Hits, Ints], Floats]] = {
    "map@12": lambda hits, relevant: measure.average_precision(hits, relevant, 12),
    "recall@100": lambda hits, relevant: measure.recall(hits, relevant, K),
    "ndcg@12": lambda hits, relevant: measure.ndcg(hits, relevant, 12),
    "hr@12": lambda hits, _: measure.hit_rate(hits, 12),
    "recall@12": lambda hits, relevant: measure.recall(hits, relevant, 12),
    "precision@12": lambda hits, _: measure.precision(hits, 12),
}
HEADLINE = ("map@12", "recall@100")


def score(shown: Ints, truth: Truth) -> dict[str, Floats]:
    """SCORES of each customer's list, float64[n] each, from int64[n, K] rows."""
    hits, relevant = truth.hits(shown), truth.relevant
    return {name: np.asarray(of(hits, relevant)) for name, of in SCORES.items()}


@dataclass(frozen=True, eq=False)
class Scoreboard:
    """scores: contender -> metric -> float64[n] · baselines: those of the contenders that `full` is measured by."""

    scores: Mapping[str, Mapping[str, Floats]]
    baselines: Sequence[str]
    seed: int

    def means(self) -> dict[str, dict[str, float]]:
        return {
            name: {metric: round(float(values.mean()), 5) for metric, values in scores.items()}
            for name, scores in self.scores.items()
        }

    def best_baseline(self, metric: str) -> str:
        """Of equals the first."""
        return max(self.baselines, key=lambda name: float(self.scores[name][metric].mean()))

    def compare(self, name: str, others: Sequence[str], metrics: Sequence[str] = HEADLINE) -> list[dict[str, Any]]:
        """One row for each metric and other: contender, baseline, metric and what Comparison says."""
        rows = []
        for metric in metrics:
            mine, theirs = self.scores[name][metric], {o: self.scores[o][metric] for o in others}
            found = Bootstrap(len(mine), self.seed).compare_all({name: mine}, theirs)
            rows += [
                {"contender": name, "baseline": other, "metric": metric, **found[name, other].report()}
                for other in others
            ]
        return rows

    def headline(self) -> list[dict[str, Any]]:
        """`full` against the best baseline of each metric."""
        return [row for metric in HEADLINE for row in self.compare("full", [self.best_baseline(metric)], [metric])]

    def of(self, mask: npt.NDArray[np.bool_]) -> Scoreboard:
        """The same for some of the customers."""
        scores = {name: {metric: v[mask] for metric, v in by.items()} for name, by in self.scores.items()}
        return Scoreboard(scores, self.baselines, self.seed)

    def segment(self, name: str, mask: npt.NDArray[np.bool_], against: Sequence[str]) -> dict[str, Any]:
        """The headline metrics of one segment, and `full` there against some of the baselines."""
        part = self.of(mask)
        return {
            "segment": name,
            "customers": int(mask.sum()),
            "metrics": {c: {m: by[m] for m in HEADLINE} for c, by in part.means().items()},
            "full_over": part.compare("full", against),
        }


def over_random(recall: Floats, expected: float, seed: int) -> dict[str, Any]:
    """Recall float64[n] as a multiple of what K articles drawn at random are expected to find."""
    low, high = interval(Bootstrap(len(recall), seed).means(recall[:, None])[:, 0] / expected)
    return {
        "recall@100": round(float(recall.mean()), 5),
        "over_random": round(float(recall.mean()) / expected, 2),
        "interval": [round(low, 2), round(high, 2)],
    }
