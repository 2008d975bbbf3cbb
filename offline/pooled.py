"""Scores of several steps as one: every (customer, step) counts once, and customers are resampled with all their steps.

The weeks of one customer are no independent witnesses (Field and Welsh 2007, the cluster bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from offline.bootstrap import Bootstrap, Floats, comparison, interval

Column = tuple[str, str]  # contender, metric
_FIRST_ROWS = 1_024


@dataclass(frozen=True, eq=False)
class Pooled:
    """customers · customer_steps: how many scores each mean is of · means: float64[m] · drawn: float64[resamples, m],
    the same customers in a row of all columns."""

    columns: Sequence[Column]
    customers: int
    customer_steps: int
    means: Floats
    drawn: Floats
    _place: dict[Column, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_place", {column: n for n, column in enumerate(self.columns)})

    def mean(self, name: str, metric: str) -> float:
        return round(float(self.means[self._place[name, metric]]), 5)

    def value(self, name: str, metric: str) -> dict[str, float]:
        """mean, and low and high of its 95% interval."""
        low, high = interval(self.drawn[:, self._place[name, metric]])
        return {"mean": self.mean(name, metric), "low": low, "high": high}

    def compare(self, name: str, other: str, metric: str) -> dict[str, Any]:
        """contender, baseline, metric and what Comparison says."""
        pair = [self._place[name, metric], self._place[other, metric]]
        found = comparison(self.customers, self.means[pair], self.drawn[:, pair[0]], self.drawn[:, pair[1]])
        return {"contender": name, "baseline": other, "metric": metric, **found.report()}


class Pool:
    """Sums by customer. What it holds grows with the customers, not with the steps."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._row: dict[str, int] = {}
        self._sums = np.zeros((_FIRST_ROWS, len(self.columns) + 1))  # the last column counts the customer's steps

    def __len__(self) -> int:
        return len(self._row)

    def add(self, customers: Sequence[str], scores: Floats) -> None:
        """One step's scores, float64[n, m] in the order of the columns; a customer may stand there more than once."""
        rows = np.array([self._row.setdefault(customer, len(self._row)) for customer in customers], np.int64)
        while len(self._row) > len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        np.add.at(self._sums, rows, np.column_stack([scores, np.ones(len(rows))]))

    def result(self, seed: int) -> Pooled:
        """In whatever order customers and steps were added, the result is the same up to rounding.

        Raises:
            ValueError: nobody was added.
        """
        order = [self._row[customer] for customer in sorted(self._row)]
        sums = self._sums[order]
        drawn = Bootstrap(len(sums), seed).means(sums)
        total = sums.sum(axis=0)
        return Pooled(self.columns, len(sums), int(total[-1]), total[:-1] / total[-1], drawn[:, :-1] / drawn[:, -1:])
