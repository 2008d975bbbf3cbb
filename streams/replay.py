"""History folded again: event by event through the real processor, or all customers at once as columns.

Both end in the states that live traffic would have left, byte for byte; `replay` also leaves them in a store
and sets the clock, `replay_states` is for the millions of events of a whole event log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from infra.clock import ManualClock
from streams.arrivals import event_columns
from streams.events import Event, encode_event
from streams.histories import build_histories
from streams.processor import Processor, RawMessage
from streams.state import BOUNDS, Bounds, CustomerState, Outcome
from streams.topics import TRANSACTIONS

BATCH = 2_000
COLUMN_BATCH = 50_000
_T = TypeVar("_T")


async def replay(
    events: Iterable[Event], processor: Processor, clock: ManualClock, *, batch_size: int = BATCH
) -> Counter[Outcome]:
    """Put events through a processor in the order given; the clock stands at each batch's newest event.

    Returns how many ended in each outcome.

    Raises:
        Unavailable: the processor's store stays away.
    """
    outcomes: Counter[Outcome] = Counter()
    offset = 0
    for batch in _batches(events, batch_size):
        newest = max(event.occurred_at for event in batch)
        if newest > clock.now():
            clock.set(newest)
        messages = [
            RawMessage(TRANSACTIONS, 0, offset + i, event.customer_id.encode(), encode_event(event))
            for i, event in enumerate(batch)
        ]
        offset += len(messages)
        outcomes.update(result.outcome for result in await processor.process(messages))
    return outcomes


async def replay_columns(
    batches: Iterable[pa.RecordBatch], processor: Processor, clock: ManualClock, *, batch_size: int = COLUMN_BATCH
) -> Counter[Outcome]:
    """`replay` of an event log's columns: same outcomes, same bytes in the store, no object and no JSON an event.

    A state and its embedding are written once a batch and customer, so larger batches are faster; what is stored at the
    end is the same. Memory holds one batch more than the store, however long the history is.

    Args:
        batches: columns of `streams.arrivals.COLUMNS` in time order, such as `EventLog.scan` gives; others are ignored.
        batch_size: events that are folded at a time.

    Raises:
        DataError: a column is missing or holds a null. Unavailable: the processor's store stays away.
    """
    outcomes: Counter[Outcome] = Counter()
    for table in _tables(batches, batch_size):
        newest = pc.max(table["occurred_at"]).as_py()
        if newest is not None and newest > clock.now():
            clock.set(newest)
        outcomes.update(await processor.process_columns(table))
    return outcomes


def _tables(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """Tables of `size` rows, the last one of fewer."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        start = 0
        while rows + batch.num_rows - start >= size:
            held.append(batch.slice(start, size - rows))
            yield event_columns(pa.Table.from_batches(held))
            start += size - rows
            held, rows = [], 0
        held.append(batch.slice(start))
        rows += batch.num_rows - start
    if rows:
        yield event_columns(pa.Table.from_batches(held))


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def replay_states(batches: Iterable[pa.RecordBatch | pa.Table], bounds: Bounds = BOUNDS) -> dict[str, CustomerState]:
    """The state of every customer after all events, equal to `fold` over them in any order within its guarantee.

    Args:
        batches: columns of the event log: event_id, type, customer_id, article_id string; occurred_at
            timestamp[us, UTC]; price float64 or null; quantity int32. Others are ignored. Rows of any order;
            an event_id that a customer has twice counts once, the first row of it.

    Returns: customer_id -> state, ids ascending. Memory is that of the columns read.

    Raises:
        DataError: a column is missing or holds a null or an unknown type.
    """
    histories = build_histories(batches)
    states = ((customer, histories.state(customer, None, bounds)) for customer in histories.customers)
    return {customer: state for customer, state in states if state is not None}
