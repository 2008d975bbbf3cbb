"""Judge a bundle on a global time cut: every contender answers through the real pipeline, with the states of the cut.

Full catalogue, cold customers and cold articles kept and reported apart too. Customers who bought nothing in the
window are left out, as in Kaggle's MAP@12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.errors import GateError
from offline import metrics as measure
from offline.contenders import WITHOUT_RANKER, Contender, K, ablation_name, ask, contenders, peer_name, shown
from offline.example_customers import example_customers
from offline.histories import item_column
from offline.metrics import Ints
from offline.progress import Step
from offline.scoreboard import Scoreboard, over_random, score
from offline.segments import activity, segments
from offline.source_report import CandidateJudge
from offline.truth import Truth
from serving.index import VectorIndex, exact_search
from serving.items import ItemTable
from serving.ranking import Ranker
from serving.runtime import Runtime
from streams.distinct import distinct
from streams.events import PURCHASE
from streams.histories import Histories

STALE_DAYS = (1, 7)
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True, eq=False)
class Evaluation:
    """metrics: contender -> name -> mean over customers · best_baseline: by MAP@12 · interval: 95% bootstrap interval
    of MAP@12(full) minus MAP@12(best baseline), paired by customer · details: everything else the report shows ·
    judged: the customers, and board: their scores in that order, for those who pool evaluations."""

    customers: int
    cold_customers: int
    metrics: dict[str, dict[str, float]]
    best_baseline: str
    interval: tuple[float, float]
    details: dict[str, Any] = field(default_factory=dict)
    judged: Sequence[str] = ()
    board: Scoreboard | None = None

    def report(self) -> dict[str, Any]:
        return {
            "customers": self.customers,
            "cold_customers": self.cold_customers,
            "metrics": self.metrics,
            "best_baseline": self.best_baseline,
            "map@12_gain_interval_95": list(self.interval),
            **self.details,
        }


def evaluate(
    runtime: Runtime,
    histories: Histories,
    truth: Mapping[str, Mapping[int, float]],
    cut: int,
    progress: Step,
    *,
    seed: int,
    ranker: str = "mmoe",
    peers: Mapping[str, Ranker] | None = None,
    ablations: bool = True,
) -> Evaluation:
    """Score `full`, every other strategy, the peer rankers and the ablations on what was bought after the cut.

    Args:
        histories: states are taken strictly before `cut` (microseconds).
        truth: customer_id -> item_idx bought in the window.
        ranker: name of the runtime's own ranker.
        peers: rankers to judge beside it, by name.
        ablations: whether `full` is judged without each of its sources too.
    """
    facts = Truth.of(truth, len(runtime.items))
    if not len(facts):
        raise GateError("nobody bought anything in the evaluation window; choose an earlier --until")
    asked = ask(runtime, histories, facts.customers, cut)
    everyone = contenders(runtime, cut, peers or {}, ablations=ablations)
    full = everyone[0]
    stale = [days for days in STALE_DAYS if len(histories) and int(np.min(histories.occurred_at)) < cut - days * DAY]
    progress.expect(len(asked.first) * (len(everyone) + 1) + len(facts) * len(stale))
    judge = CandidateJudge(full, asked, facts)
    lists = shown(everyone, asked, progress, judge.add)
    candidates = judge.result()
    baselines = [c.name for c in everyone if c.baseline]
    board = Scoreboard({name: score(rows, facts) for name, rows in lists.items()}, baselines, seed)
    buyers, shoppers = buyers_before(histories, runtime.items, cut)
    best = board.best_baseline("map@12")
    headline = board.headline()
    metrics = board.means()
    for name, rows in lists.items():
        metrics[name] |= _variety(rows[:, :12], runtime.items, (buyers + 1) / (shoppers + 1))
    masks = segments(*activity(histories, facts.customers, cut))
    against = list(dict.fromkeys(["popular", best, board.best_baseline("recall@100")]))
    without = [name for s in runtime.catalog.sources if (name := ablation_name(s.name)) in lists]
    details = {
        "headline": headline,
        "comparisons": board.compare("full", baselines),
        "segments": [board.segment(name, mask, against) for name, mask in masks.items()],
        "cold_articles": _cold_articles(lists, facts, buyers == 0, asked.known, seed),
        "sources": candidates.report(facts),
        "candidates": candidates.summary(facts),
        "ablations": board.compare("full", [*without, WITHOUT_RANKER]),
        "rankers": {"serving": ranker, "peers": _peers(board, list(peers or {}))},
        "staleness": _staleness(board, full, histories, facts, (cut, stale), progress),
        "calibration": candidates.calibration(),
        "examples": example_customers(full, asked, facts, cut, masks, seed),
    }
    return Evaluation(
        customers=len(facts),
        cold_customers=sum(state is None for state in asked.stored),
        metrics=metrics,
        best_baseline=best,
        interval=headline[0]["difference_interval"],
        details=details,
        judged=facts.customers,
        board=board,
    )


def _peers(board: Scoreboard, peers: list[str]) -> list[dict[str, Any]]:
    """`full` beside each ranker that does not serve, and the first of these beside the others."""
    names = [peer_name(name) for name in peers]
    return [*board.compare("full", names), *(board.compare(names[0], names[1:]) if names else [])]


def _variety(shown: Ints, items: ItemTable, share: npt.NDArray[np.float64]) -> dict[str, float]:
    """What the shop shows as a whole, and how surprising and mixed its lists are; empty lists count for nothing."""
    kind = items.codes["category"]
    values = {
        "coverage@12": measure.coverage(shown, len(items)),
        "gini@12": measure.gini(shown, len(items)),
        "novelty@12": _mean(measure.novelty(shown, share)),
        "diversity@12": _mean(measure.diversity(shown, kind)),
    }
    return {name: round(value, 5) for name, value in values.items()}


def _mean(values: npt.NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else 0.0


def buyers_before(histories: Histories, items: ItemTable, cut: int) -> tuple[npt.NDArray[np.int64], int]:
    """Distinct customers who bought each article before `cut`, int64[n_items], and how many bought anything."""
    column = item_column(histories, items)
    use = (histories.occurred_at < cut) & (histories.types == PURCHASE) & (column >= 0)
    pairs = distinct(histories.customer_rows[use] * len(items) + column[use])
    return np.bincount(pairs % len(items), minlength=len(items)), len(distinct(pairs // len(items)))


def _cold_articles(
    lists: Mapping[str, Ints],
    facts: Truth,
    cold: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
    seed: int,
) -> dict[str, Any]:
    """Recall@100 of each contender over the articles that nobody had bought before the cut, from the same lists over
    the full catalogue, against K articles drawn at random: for all customers, and for those with a past, whom alone a
    source can lead to an article that is not popular."""
    bought, rows = facts.of_articles(cold)
    expected = min(K, facts.n_items) / facts.n_items
    among_new = min(K, int(cold.sum())) / max(int(cold.sum()), 1)
    found = {"articles": int(cold.sum()), "customers": len(bought), "purchases": len(bought.keys)}
    if not len(bought):
        return found
    recalls = {name: measure.recall(bought.hits(shown[rows]), bought.relevant, K) for name, shown in lists.items()}
    past = known[rows]
    return found | {
        "random": round(expected, 6),
        "random_among_new": round(among_new, 6),
        "contenders": {name: over_random(recall, expected, seed) for name, recall in recalls.items()},
        "known_customers": int(past.sum()),
        "known": {name: over_random(recall[past], expected, seed) for name, recall in recalls.items() if past.any()},
    }


def _staleness(
    board: Scoreboard,
    full: Contender,
    histories: Histories,
    facts: Truth,
    when: tuple[int, list[int]],
    progress: Step,
) -> list[dict[str, Any]]:
    """`full` with the state of the cut over `full` with the state of some days before it; the question, the bundle and
    the time of the question stay."""
    cut, stale = when
    rows = []
    for days in stale:
        asked = ask(full.pipeline.runtime, histories, facts.customers, cut - days * DAY)
        old = shown([full], asked, progress)[full.name]
        both = {"full": board.scores["full"], "stale": score(old, facts)}
        compared = Scoreboard(both, ["stale"], board.seed).compare("full", ["stale"])
        rows += [{"days": days, **row} for row in compared]
    return rows


def index_recall(index: VectorIndex, vectors: npt.NDArray[np.float32], queries: npt.NDArray[np.float32]) -> float:
    """Share of the exact 100 nearest that the index finds."""
    if not len(queries):
        return 1.0
    k = min(K, len(vectors))
    found, _ = index.search(queries, k)
    exact = exact_search(vectors, queries, k)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(found, exact, strict=True)]))
