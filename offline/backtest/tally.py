"""The scores of a backtest's steps, summed up while these go by in order of time; no list is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from offline import metrics as measure
from offline.backtest.known import Articles, Known, Mask
from offline.backtest.ledger import Ledger
from offline.backtest.lists import Bought, Lists
from offline.backtest.plan import BacktestPlan, Step
from offline.backtest.reveal import truth
from offline.event_log import EventLog
from offline.metrics import Floats, Ints
from offline.pooled import Column, Pool
from offline.scoreboard import score
from offline.truth import Truth

METRICS = ("map@12", "recall@100", "ndcg@12", "hr@12")
VARIETY = ("coverage@12", "gini@12", "novelty@12", "popular_share@12")
CATEGORIES = 8  # reported by name; the others together
OTHER_CATEGORIES = "all other categories"
NEVER_BOUGHT = "never bought before"

Key = tuple[str, str]  # kind of segment, name


@dataclass(frozen=True, eq=False)
class Sums:
    """One part of the customers or of the purchases. purchases: distinct (customer, article, step)."""

    pool: Pool
    purchases: int = 0


class Tally:
    """Judges step after step.

    everyone: all judged customers · segments: parts of them by (kind, name), in the order in which they are shown.
    """

    def __init__(self, ledger: Ledger, log: EventLog, plan: BacktestPlan) -> None:
        self.names = [contender.name for contender in plan.contenders]
        self.columns: list[Column] = [(name, metric) for name in self.names for metric in METRICS]
        self.everyone = Pool(self.columns)
        self._ledger, self._log = ledger, log
        self._articles = Articles.of(log)
        self._known = Known(log, self._articles)
        self._group, self._groups = _groups(log, plan, self._articles)
        self._parts: dict[Key, Pool] = {}
        self._purchases: Counter[Key] = Counter()
        self._variety: list[Floats] = []
        self._ms: dict[str, list[Floats]] = {name: [] for name in self.names}

    def add(self, step: Step) -> tuple[Bought, Pool]:
        """Judge a sealed step: what there was to find, and the scores of this step alone.

        Raises:
            DataError: it is not sealed, or its lists cannot be.
        """
        self._known.advance(step.cut)
        where = str(self._ledger.directory / f"step-{step.number:04d}.parquet")
        lists = Lists.of(self._ledger.predictions(step.number), self.names, self._articles, where)
        lists.check(self._known.articles, self._articles, step.cut)
        purchases = truth(self._ledger, self._log, step).purchases
        bought = lists.bought(purchases, self._known.articles, self._articles)
        alone = Pool(self.columns)
        shown = {name: rows[bought.rows] for name, rows in lists.shown.items()}
        for pool in (alone, self.everyone):
            self._add(pool, bought.truth, shown)
        for key, keep in self._masks(bought):
            part, rows = bought.truth.of_purchases(keep)
            self._purchases[key] += len(part.keys)
            self._add(self._parts.setdefault(key, Pool(self.columns)), part, {n: s[rows] for n, s in shown.items()})
        self._variety.append(np.array([self._varied(lists.shown[name][:, :12]) for name in self.names]))
        for name, ms in lists.ms.items():
            self._ms[name].append(ms[~np.isnan(ms)])
        return bought, alone

    @property
    def segments(self) -> dict[Key, Sums]:
        """Those that anybody is in."""
        order = ("customers", "category", "channel", "articles")
        found = sorted(self._parts, key=lambda key: order.index(key[0]))
        return {key: Sums(self._parts[key], self._purchases[key]) for key in found if len(self._parts[key])}

    def segments_of(self, customers: Sequence[str]) -> dict[str, Mask]:
        """Kinds of customers, bool[n] each, at the cut of the step added last."""
        return self._known.segments(customers)

    @property
    def variety(self) -> dict[str, dict[str, float]]:
        """contender -> VARIETY, each the mean over the steps."""
        means = np.mean(self._variety, axis=0)
        return {
            name: {metric: round(float(value), 5) for metric, value in zip(VARIETY, row, strict=True)}
            for name, row in zip(self.names, means, strict=True)
        }

    @property
    def milliseconds(self) -> dict[str, Floats]:
        """contender -> of every answer that was measured."""
        return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in self._ms.items()}

    def _add(self, pool: Pool, facts: Truth, shown: Mapping[str, Ints]) -> None:
        if len(facts):
            scores = {name: score(rows, facts) for name, rows in shown.items()}
            pool.add(facts.customers, np.stack([scores[name][metric] for name, metric in self.columns], axis=1))

    def _masks(self, bought: Bought) -> Iterator[tuple[Key, Mask]]:
        """Which purchases each segment holds, bool[p]. Of the kinds customers, category and channel each holds every
        purchase once; a log without channels has none of these."""
        facts = bought.truth
        for name, who in self._known.segments(facts.customers).items():
            yield ("customers", name), who[facts.rows]
        articles = facts.keys % facts.n_items
        for number, name in enumerate(self._groups):
            yield ("category", name), self._group[articles] == number
        channels = np.array([-1 if channel is None else channel for channel in bought.channels], np.int64)
        for channel in np.unique(channels).tolist() if (channels >= 0).any() else ():
            yield ("channel", "unknown" if channel < 0 else f"channel {channel}"), channels == channel
        yield ("articles", NEVER_BOUGHT), ~self._known.ever_bought[articles]

    def _varied(self, shown: Ints) -> tuple[float, ...]:
        """VARIETY of one step's lists, int64[n, 12]."""
        known = self._known.articles
        place = np.append(np.cumsum(known) - 1, -1)[shown]  # the last stands for -1
        novelty = measure.novelty(shown, self._known.share())
        there = shown >= 0
        return (
            measure.coverage(place, int(known.sum())),
            measure.gini(place, int(known.sum())),
            float(np.nanmean(novelty)) if there.any() else 0.0,
            float(self._known.popular()[shown[there]].mean()) if there.any() else 0.0,
        )


def _groups(log: EventLog, plan: BacktestPlan, articles: Articles) -> tuple[Ints, list[str]]:
    """Group of each article, int64[n_articles], and the groups' names: the CATEGORIES that are bought most in the
    backtest, most first, and all others with what has no category."""
    counts = np.zeros(len(articles.categories), np.int64)
    for batch in log.scan(plan.start, plan.end):
        bought = articles.rows(batch.filter(pc.equal(batch["type"], "purchase"))["article_id"], str(log.path))
        category = articles.category[bought]
        counts += np.bincount(category[category >= 0], minlength=len(counts))
    most = [number for number in np.argsort(-counts, kind="stable")[:CATEGORIES].tolist() if counts[number]]
    place = np.full(len(counts) + 1, len(most), np.int64)  # the last stands for -1
    place[most] = np.arange(len(most))
    return place[articles.category], [*(articles.categories[number] for number in most), OTHER_CATEGORIES]
