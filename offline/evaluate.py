"""Judge a bundle on a global time cut: every strategy answers through the real pipeline, with the states of the cut.

Full catalogue, cold customers kept. Customers who bought nothing in the window are left out, as in Kaggle's MAP@12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.clock import ManualClock
from infra.errors import GateError
from offline.metrics import average_precision, hit_rate, ndcg, recall
from offline.progress import Step
from serving.index import VectorIndex, exact_search
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.runtime import Runtime
from streams.events import from_micros
from streams.histories import Histories
from streams.store import StoredCustomer

K = 100
BASELINES = ("popular", "repurchase", "two_tower")
CHUNK = 128
RESAMPLES = 1_000


@dataclass(frozen=True, eq=False)
class Evaluation:
    """metrics: strategy -> name -> mean over customers · interval: 95% bootstrap interval of MAP@12(full) minus
    MAP@12(best baseline), paired by customer · coverage etc. are in the report."""

    customers: int
    cold_customers: int
    metrics: dict[str, dict[str, float]]
    best_baseline: str
    interval: tuple[float, float]


def evaluate(
    runtime: Runtime,
    histories: Histories,
    truth: Mapping[str, Mapping[int, float]],
    cut: int,
    progress: Step,
    *,
    seed: int,
) -> Evaluation:
    """Score `full` and the BASELINES on what was bought after the cut.

    Args:
        histories: states are taken strictly before `cut` (microseconds).
        truth: customer_id -> item_idx bought in the window.
    """
    if not truth:
        raise GateError("nobody bought anything in the evaluation window; choose an earlier --until")
    customers = sorted(truth)
    states = [histories.state(customer, cut) for customer in customers]
    pipeline = Pipeline(runtime, ManualClock(from_micros(cut)))
    per_customer: dict[str, npt.NDArray[np.float64]] = {}
    metrics: dict[str, dict[str, float]] = {}
    for strategy in ("full", *BASELINES):
        rows = []
        shown: set[str] = set()
        for first in range(0, len(customers), CHUNK):
            part = range(first, min(first + CHUNK, len(customers)))
            requests = [
                RecommendationRequest(request_id=str(n), customer_id=customers[n], k=K, strategy=strategy) for n in part
            ]
            stored = [None if (s := states[n]) is None else StoredCustomer(s, 0, None, None) for n in part]
            for n, answer in zip(part, pipeline.recommend(requests, stored), strict=True):
                ids = [item.article_id for item in answer.items]
                shown.update(ids[:12])
                rows.append(_score(ids, truth[customers[n]], runtime.items.index))
            progress.advance(len(part))
        table = np.array(rows)
        per_customer[strategy] = table[:, 0]
        metrics[strategy] = dict(zip(NAMES, np.round(table.mean(axis=0), 5).tolist(), strict=True))
        metrics[strategy]["coverage@12"] = round(len(shown) / len(runtime.items), 5)
    best = max(BASELINES, key=lambda name: metrics[name]["map@12"])
    return Evaluation(
        customers=len(customers),
        cold_customers=sum(state is None for state in states),
        metrics=metrics,
        best_baseline=best,
        interval=bootstrap_interval(per_customer["full"] - per_customer[best], seed),
    )


NAMES = ("map@12", "recall@100", "ndcg@12", "hr@12")


def _score(ids: Sequence[str], bought: Mapping[int, float], index: Mapping[str, int]) -> tuple[float, ...]:
    hits = np.array([index[article] in bought for article in ids], np.bool_)
    n = len(bought)
    return average_precision(hits, n), recall(hits, n, K), ndcg(hits, n, 12), hit_rate(hits, 12)


def bootstrap_interval(differences: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95% percentile interval of the mean, customers drawn with replacement."""
    rng = np.random.default_rng(seed)
    means = [rng.choice(differences, len(differences)).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return round(float(low), 5), round(float(high), 5)


def index_recall(index: VectorIndex, vectors: npt.NDArray[np.float32], queries: npt.NDArray[np.float32]) -> float:
    """Share of the exact 100 nearest that the index finds."""
    if not len(queries):
        return 1.0
    k = min(K, len(vectors))
    found, _ = index.search(queries, k)
    exact = exact_search(vectors, queries, k)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(found, exact, strict=True)]))
