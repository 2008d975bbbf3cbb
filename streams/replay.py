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

from infra.clock import ManualClock
from streams.events import Event, encode_event
from streams.histories import build_histories
from streams.processor import Processor, RawMessage
from streams.state import BOUNDS, Bounds, CustomerState, Outcome
from streams.topics import TRANSACTIONS

BATCH = 2_000
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
