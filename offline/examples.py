"""Point-in-time ranking examples: at each cut the state, the statistics and the candidates of that moment, labelled by
what the customer did in the horizon after it. Retrieval and features are the code that serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.histories import item_column
from offline.progress import Step
from serving.items import ItemTable
from serving.pipeline import query_vectors, retrieve
from serving.retrieval.query import Query
from serving.runtime import Catalog
from streams.bundle_contract import FEATURES
from streams.events import PURCHASE, TYPE_CODES
from streams.histories import Histories
from streams.state import CustomerState
from streams.store import StoredCustomer

CHUNK = 256

TASKS = ("purchase", "repurchase", "spend")
FUNNEL = ("view", "cart")  # wide to narrow; every purchase counts as both


@dataclass(frozen=True, eq=False)
class Examples:
    """One row a candidate, rows of a group together, groups of a cut together, cuts ascending.

    features: float32[n, F] · labels: float32[n, T] in the order of `tasks`: `spend` is log1p of the amount in the
    horizon, 0 where not bought; the others are 0 or 1, and purchase <= cart <= view · group: int64[n] running number of
    (cut, customer) · cut: int64[n] microseconds · tasks: TASKS, then those of FUNNEL that the log knows.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]
    group: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]
    tasks: tuple[str, ...] = TASKS

    def __len__(self) -> int:
        return len(self.group)

    def label(self, task: str) -> npt.NDArray[np.float32]:
        """float32[n] of one task."""
        return self.labels[:, self.tasks.index(task)]

    def rows(self, chosen: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Examples:
        """The chosen rows, in their order; a view where a mask chooses rows in a row, as whole weeks are."""
        part: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice = chosen
        if chosen.dtype == np.bool_:
            found = np.flatnonzero(chosen)
            if len(found) and found[-1] - found[0] + 1 == len(found):
                part = slice(int(found[0]), int(found[-1]) + 1)
        return Examples(self.features[part], self.labels[part], self.group[part], self.cut[part], tasks=self.tasks)

    @classmethod
    def empty(cls, n_features: int, tasks: tuple[str, ...] = TASKS) -> Examples:
        none = np.empty(0, np.int64)
        return cls(
            np.empty((0, n_features), np.float32), np.empty((0, len(tasks)), np.float32), none, none, tasks=tasks
        )

    @classmethod
    def drain(cls, parts: list[Examples]) -> Examples:
        """Parts of the same tasks one after the other; their groups stay apart. Empties the list as it goes: each week
        of a year is a few hundred megabytes, which need not be held twice."""
        rows = sum(map(len, parts))
        joined = cls(
            np.empty((rows, parts[0].features.shape[1]), np.float32),
            np.empty((rows, len(parts[0].tasks)), np.float32),
            np.empty(rows, np.int64),
            np.empty(rows, np.int64),
            tasks=parts[0].tasks,
        )
        start = groups = 0
        while parts:
            part = parts.pop(0)
            place = slice(start, start + len(part))
            joined.features[place], joined.labels[place] = part.features, part.labels
            joined.group[place], joined.cut[place] = part.group + groups, part.cut
            start += len(part)
            groups += int(np.max(part.group)) + 1 if len(part) else 0
        return joined


def purchases_between(histories: Histories, items: ItemTable, start: int, end: int) -> dict[str, dict[int, float]]:
    """customer_id -> item_idx -> amount paid, for purchases in [start, end) microseconds."""
    column = item_column(histories, items)
    use = (
        (histories.occurred_at >= start) & (histories.occurred_at < end) & (histories.types == PURCHASE) & (column >= 0)
    )
    bought: dict[str, dict[int, float]] = {}
    amounts = np.nan_to_num(histories.prices[use], nan=0.0)
    for row, item, amount in zip(
        histories.customer_rows[use].tolist(), column[use].tolist(), amounts.tolist(), strict=True
    ):
        mine = bought.setdefault(histories.customers[row], {})
        mine[item] = mine.get(item, 0.0) + amount
    return bought


def unknown_purchases(histories: Histories, items: ItemTable, start: int, end: int) -> int:
    """Distinct (customer, article) purchases in [start, end) microseconds of articles that are not among the items."""
    use = (histories.occurred_at >= start) & (histories.occurred_at < end) & (histories.types == PURCHASE)
    use &= item_column(histories, items) < 0
    return len(np.unique(np.stack([histories.customer_rows[use], histories.articles[use]]), axis=1).T)


def touched_between(
    histories: Histories, items: ItemTable, start: int, end: int, types: Sequence[int]
) -> dict[str, set[int]]:
    """customer_id -> item_idx of the articles with an event of these types in [start, end) microseconds."""
    column = item_column(histories, items)
    use = (histories.occurred_at >= start) & (histories.occurred_at < end) & (column >= 0)
    use &= np.isin(histories.types, types)
    touched: dict[str, set[int]] = {}
    for row, item in zip(histories.customer_rows[use].tolist(), column[use].tolist(), strict=True):
        touched.setdefault(histories.customers[row], set()).add(item)
    return touched


def funnel_of(histories: Histories) -> tuple[str, ...]:
    """Those of FUNNEL that the histories hold events of."""
    present = np.unique(histories.types).tolist()
    return tuple(name for name in FUNNEL if TYPE_CODES[name] in present)


def build_examples(
    histories: Histories,
    catalog: Catalog,
    cut: int,
    horizon: int,
    progress: Step,
    *,
    limit: int,
    seed: int,
) -> Examples:
    """Examples of one cut, for the customers who have a past and bought something in the horizon; where the log knows
    views or carts, customers who only looked follow up to the limit. A probability learned from them is therefore that
    of a customer who comes back within the horizon.

    Args:
        horizon: microseconds after `cut` in which events count.
        limit: at most so many customers, drawn at random, buyers first.
    """
    end = cut + horizon
    bought = purchases_between(histories, catalog.items, cut, end)
    funnel = funnel_of(histories)
    # What stands after a stage in the funnel passed through it, whether or not the shop saw it.
    touched = [
        touched_between(histories, catalog.items, cut, end, [PURCHASE, *(TYPE_CODES[t] for t in funnel[stage:])])
        for stage in range(len(funnel))
    ]
    states = {c: histories.state(c, cut) for c in sorted(set(bought).union(*touched))}
    known = [c for c, state in states.items() if state is not None]
    rng = np.random.default_rng(seed)
    drawn = _draw([c for c in known if c in bought], [c for c in known if c not in bought], limit, rng)
    tasks = TASKS + funnel
    parts: list[npt.NDArray[np.float32]] = []
    labels: list[npt.NDArray[np.float32]] = []
    groups: list[npt.NDArray[np.int64]] = []
    for first in range(0, len(drawn), CHUNK):
        chunk = drawn[first : first + CHUNK]
        queries = _queries(catalog, chunk, [states[customer] for customer in chunk], cut)
        for customer, query, found in zip(chunk, queries, retrieve(catalog, queries), strict=True):
            parts.append(catalog.features.build(query, found))
            labels.append(_labels(found.item_idx, query, bought.get(customer, {}), [t.get(customer) for t in touched]))
            groups.append(np.full(len(found), len(groups), np.int64))
        progress.advance(len(chunk))
    if not parts:
        return Examples.empty(len(FEATURES), tasks)
    group = np.concatenate(groups)
    return Examples(np.concatenate(parts), np.concatenate(labels), group, np.full(len(group), cut), tasks=tasks)


def _queries(
    catalog: Catalog, customers: Sequence[str], states: Sequence[CustomerState | None], cut: int
) -> list[Query]:
    vectors = query_vectors(catalog, [None if state is None else StoredCustomer(state, 0) for state in states])
    return [
        catalog.query(state, vector, catalog.segments.get(customer), cut)
        for customer, state, vector in zip(customers, states, vectors, strict=True)
    ]


def _draw(first: list[str], others: list[str], limit: int, rng: np.random.Generator) -> list[str]:
    """At most `limit` customers, all of the first before any of the others, in their order within each."""
    chosen = [first[i] for i in np.sort(rng.choice(len(first), min(limit, len(first)), replace=False))]
    more = min(limit - len(chosen), len(others))
    return chosen + [others[i] for i in np.sort(rng.choice(len(others), more, replace=False))]


def _labels(
    rows: npt.NDArray[np.int64],
    query: Query,
    bought: Mapping[int, float],
    touched: Sequence[set[int] | None],
) -> npt.NDArray[np.float32]:
    """float32[C, T] in the order of TASKS + funnel."""
    paid = np.array([bought.get(item, -1.0) for item in rows.tolist()])
    purchase = paid >= 0
    again = purchase & np.isin(rows, query.history.items)
    funnel = [np.isin(rows, list(articles or ())) for articles in touched]
    return np.stack([purchase, again, np.log1p(np.maximum(paid, 0)), *funnel], axis=1).astype(np.float32)
