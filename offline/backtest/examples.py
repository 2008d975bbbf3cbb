"""A few customers to look at: what they had bought, what two contenders showed them, and what they then did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.backtest.known import Mask
from offline.backtest.ledger import Ledger
from offline.backtest.plan import Step
from offline.backtest.reveal import truth
from offline.event_log import EventLog

# Drawn at random from each segment, never chosen by how well they are served.
DRAWN = {"frequent": 2, "other": 2, "lapsed": 1, "new": 1}
LENGTH = 12
LOOK_BACK = timedelta(days=28)  # at a time, until enough is found

About = dict[str, Any]


def example_customers(
    ledger: Ledger,
    log: EventLog,
    step: Step,
    contenders: Sequence[str],
    customers: Sequence[str],
    masks: Mapping[str, Mask],
    seed: int,
) -> list[About]:
    """customer, segment, history (newest first, days before the cut), lists (of each contender, with what was bought),
    bought (how many articles in the step).

    Args:
        step: a sealed one.
        customers: who bought something in it; masks: bool[n] of these by segment.
    """
    rng = np.random.default_rng(seed)
    drawn = {
        customers[row]: segment
        for segment, n in DRAWN.items()
        for rows in [np.flatnonzero(masks[segment])]
        for row in np.sort(rng.choice(rows, min(n, len(rows)), replace=False)).tolist()
    }
    wanted = pa.array(list(drawn), pa.string())
    bought = truth(ledger, log, step).bought()
    lists = ledger.predictions(step.number).filter(pc.is_in(pc.field("customer_id"), wanted)).to_pylist()
    shown = {(row["contender"], row["customer_id"]): row["article_ids"][:LENGTH] for row in lists}
    past = _histories(log, step.cut, [customer for customer, segment in drawn.items() if segment != "new"])
    about = _Abouts(log, step.cut)
    return [
        {
            "customer": customer,
            "segment": segment,
            "history": [about(article) | {"days_ago": round(days, 1)} for article, days in past.get(customer, ())],
            "lists": [
                {
                    "contender": name,
                    "shown": [about(a) | {"bought": a in bought[customer]} for a in shown[name, customer]],
                }
                for name in contenders
            ],
            "bought": len(bought[customer]),
        }
        for customer, segment in drawn.items()
    ]


class _Abouts:
    """Title and category of articles as they were known before a cut."""

    def __init__(self, log: EventLog, cut: datetime) -> None:
        table = log.articles(cut).select(["article_id", "title", "category"])
        self._table = table
        self._row = {article: row for row, article in enumerate(table["article_id"].to_pylist())}

    def __call__(self, article: str) -> About:
        found: About = self._table.slice(self._row[article], 1).to_pylist()[0]
        return found


def _histories(log: EventLog, cut: datetime, customers: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    """customer_id -> (article_id, days before the cut) of the newest LENGTH purchases, newest first."""
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    missing = set(customers)
    for customer, article, moment in _backwards(log, cut, missing):
        if len(found[customer]) < LENGTH:
            found[customer].append((article, (cut - moment) / timedelta(days=1)))
        else:
            missing.discard(customer)
    return found


def _backwards(log: EventLog, cut: datetime, customers: set[str]) -> Iterator[tuple[str, str, datetime]]:
    """Their purchases before the cut, newest first, while there are any customers left."""
    end = cut
    while customers and end > log.span[0]:
        wanted = pa.array(sorted(customers), pa.string())
        table = log.read(end - LOOK_BACK, end)
        mine = table.filter(pc.and_(pc.equal(table["type"], "purchase"), pc.is_in(table["customer_id"], wanted)))
        for row in reversed(mine.select(["customer_id", "article_id", "occurred_at"]).to_pylist()):
            yield row["customer_id"], row["article_id"], row["occurred_at"]
        end -= LOOK_BACK
