"""Histories and items out of a few lines that a reader can count by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from offline.build_statistics import build_items
from offline.sources.base import ARTICLE_SCHEMA, EVENT_SCHEMA
from serving.items import ItemTable
from streams.events import to_micros
from streams.histories import Histories, build_histories

DAY = 86_400_000_000
CUT = datetime(2020, 3, 1, tzinfo=UTC)
CUT_US = to_micros(CUT)

# days before the cut (negative: after it), customer, article, price of the line, pieces, type
Line = tuple[float, str, str, float | None, int, str]


def bought(days_before: float, customer: str, article: str, price: float | None = 1.0, pieces: int = 1) -> Line:
    return (days_before, customer, article, price, pieces, "purchase")


def viewed(days_before: float, customer: str, article: str, price: float | None = None) -> Line:
    return (days_before, customer, article, price, 1, "view")


def histories_of(lines: Sequence[Line]) -> Histories:
    seen: Counter[Line] = Counter()
    rows = [
        {
            # The same whatever else is in the log: keys order what happens at one time.
            "event_id": f"{line}-{numbered(seen, line)}",
            "type": line[5],
            "occurred_at": CUT - timedelta(days=line[0]),
            "customer_id": line[1],
            "article_id": line[2],
            "price": line[3],
            "quantity": line[4],
            "sales_channel_id": None,
        }
        for line in lines
    ]
    return build_histories([pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)])


def numbered(seen: Counter[Line], line: Line) -> int:
    seen[line] += 1
    return seen[line]


def articles_of(*ids: str, asked: dict[str, float] | None = None) -> pa.Table:
    """An article table where the shop asks a price for the `asked` ones only."""
    rows = [{"article_id": i, "title": i.title(), "price": (asked or {}).get(i)} for i in ids]
    return pa.Table.from_pylist(rows, schema=ARTICLE_SCHEMA)


def items_of(*ids: str) -> ItemTable:
    return ItemTable.from_table(build_items(articles_of(*ids), histories_of([]), CUT_US))
