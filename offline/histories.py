"""The event log as histories, and histories in terms of a catalogue."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt

from offline.event_log import EventLog
from serving.items import ItemTable
from streams.histories import Histories, build_histories


def load_histories(log: EventLog, until: datetime | None = None) -> Histories:
    """Read the log's events strictly before `until`."""
    return build_histories([log.read(until=until)])


def item_column(histories: Histories, items: ItemTable) -> npt.NDArray[np.int64]:
    """item_idx of every event of the histories, -1 for an article that is not among the items; int64[n]."""
    place = np.array([items.index.get(article, -1) for article in histories.article_ids.tolist()], np.int64)
    return place[histories.articles] if len(place) else np.empty(0, np.int64)


def extended(held: Histories, later: Histories) -> Histories:
    """The histories of both, equal to those built from all events at once, at the cost of moving columns.

    Args:
        later: events none of which is earlier than any in `held`.
    """
    customers = sorted({*held.customers, *later.customers})
    row = {name: number for number, name in enumerate(customers)}
    places = dict(zip(held.article_ids.tolist(), range(len(held.article_ids)), strict=True))
    for name in later.article_ids.tolist():
        places.setdefault(name, len(places))
    code = np.array([places[name] for name in later.article_ids.tolist()], np.int32)
    parts = [np.array([row[name] for name in part.customers], np.int64) for part in (held, later)]
    rows_held, rows_later = parts[0][held.customer_rows], parts[1][later.customer_rows]
    fresh = ~_known(held.keys, rows_held, later.keys, rows_later)
    rows = np.concatenate([rows_held, rows_later[fresh]])
    order = np.argsort(rows, kind="stable")  # each part is in its customer's order, and `held` comes first
    return Histories(
        customers=customers,
        row=row,
        offsets=np.searchsorted(rows[order], np.arange(len(customers) + 1)),
        occurred_at=np.concatenate([held.occurred_at, later.occurred_at[fresh]])[order],
        keys=np.concatenate([held.keys, later.keys[fresh]])[order],
        types=np.concatenate([held.types, later.types[fresh]])[order],
        prices=np.concatenate([held.prices, later.prices[fresh]])[order],
        quantities=np.concatenate([held.quantities, later.quantities[fresh]])[order],
        articles=np.concatenate([held.articles, code[later.articles[fresh]]])[order].astype(np.int32),
        article_ids=np.array(list(places), dtype=object),
    )


def _known(
    held: npt.NDArray[np.uint64],
    held_rows: npt.NDArray[np.int64],
    later: npt.NDArray[np.uint64],
    later_rows: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Which of the later events (key, customer's row) a customer has already; bool[n]."""
    if not len(later) or not len(held):
        return np.zeros(len(later), np.bool_)
    # Looked up the other way round: `later` is a week, `held` all the years before it.
    sought = np.sort(later)
    same = sought[np.minimum(np.searchsorted(sought, held), len(sought) - 1)] == held
    known = np.isin(later, held[same])
    if known.any():
        pairs = set(zip(held_rows[same].tolist(), held[same].tolist(), strict=True))
        mine = zip(later_rows[known].tolist(), later[known].tolist(), strict=True)
        known[known] = [pair in pairs for pair in mine]
    return known
