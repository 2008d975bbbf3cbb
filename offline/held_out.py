"""The days after a bundle's cut, as live traffic: warm states up to the cut, then the real purchases in time order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from offline.event_log import EventLog
from offline.progress import step
from streams.encoder import QueryEncoder
from streams.events import Event, to_micros
from streams.histories import Histories
from streams.store import StateStore, StoredCustomer

CHUNK = 500


async def fill_store(store: StateStore, histories: Histories, until: datetime, encoder: QueryEncoder) -> int:
    """Save every customer's state before `until`, with its embedding: what the worker would have folded.

    A customer who is stored already is left alone, since live events may have come since. Returns how many were saved.
    """
    end = to_micros(until)
    saved = 0
    with step("customers into the store", len(histories.customers)) as progress:
        for first in range(0, len(histories.customers), CHUNK):
            ids = histories.customers[first : first + CHUNK]
            states = [state for c in ids if (state := histories.state(c, end)) is not None]
            vectors = encoder.encode(states)
            updates = [StoredCustomer(s, 0, encoder.space, v) for s, v in zip(states, vectors, strict=True)]
            saved += sum(await store.save(updates))
            progress.advance(len(ids))
    return saved


def purchases(log: EventLog, start: datetime, until: datetime) -> Iterator[Event]:
    """The log's events in [start, until) in time order, constant memory."""
    for batch in log.scan(start=start, until=until):
        for row in batch.to_pylist():
            yield Event(
                event_id=row["event_id"],
                type=row["type"],
                occurred_at=row["occurred_at"],
                customer_id=row["customer_id"],
                article_id=row["article_id"],
                price=row["price"],
                quantity=row["quantity"],
                sales_channel_id=row["sales_channel_id"],
            )


def take(events: Iterator[Event], n: int) -> Sequence[Event]:
    return [event for _, event in zip(range(n), events, strict=False)]
