"""History folded again: event by event through the real processor, or all customers at once as columns.

Both end in the states that live traffic would have left, byte for byte; `replay` also leaves them in a store
and sets the clock, `replay_states` is for the millions of events of a whole event log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.clock import ManualClock
from infra.errors import DataError
from streams.events import TYPE_CODES, Event, encode_event, event_key
from streams.processor import Processor, RawMessage
from streams.state import MAX_EVENTS, CustomerState, Outcome
from streams.topics import TRANSACTIONS

BATCH = 2_000
_COLUMNS = ("event_id", "type", "occurred_at", "customer_id", "article_id", "price", "quantity")

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


def replay_states(batches: Iterable[pa.RecordBatch | pa.Table]) -> dict[str, CustomerState]:
    """The state of every customer after all events, equal to `fold` over them in any order.

    Args:
        batches: columns of the event log: event_id, type, customer_id, article_id string; occurred_at
            timestamp[us, UTC]; price float64 or null; quantity int32. Others are ignored. Rows of any order;
            an event_id that a customer has twice counts once, the first row of it.

    Returns: customer_id -> state, ids ascending. Memory is that of the columns read.

    Raises:
        DataError: a column is missing or holds a null or an unknown type.
    """
    tables = [_checked(batch) for batch in batches]
    if not tables:
        return {}
    table = pa.concat_tables(tables).combine_chunks()
    customers, rows = _codes(table["customer_id"])
    articles, article_rows = _codes(table["article_id"])
    types, type_rows = _codes(table["type"])
    unknown = sorted(set(types) - set(TYPE_CODES))
    if unknown:
        raise DataError(f"type {unknown[0]!r}; allowed: {', '.join(TYPE_CODES)}", column="type")
    type_codes = np.array([TYPE_CODES[name] for name in types], np.uint8)
    times = table["occurred_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    keys = np.fromiter((event_key(str(name)) for name in table["event_id"].to_pylist()), np.uint64, table.num_rows)
    prices = _prices(table["price"])
    quantities = table["quantity"].to_numpy().astype(np.uint16)
    order = _order(rows, times, keys)
    bounds = np.searchsorted(rows[order], np.arange(len(customers) + 1))
    names = np.array(articles, dtype=object)
    states: dict[str, CustomerState] = {}
    for code in sorted(range(len(customers)), key=customers.__getitem__):
        end = bounds[code + 1]
        part = order[max(bounds[code], end - MAX_EVENTS) : end]
        states[customers[code]] = CustomerState(
            customers[code],
            times[part],
            keys[part],
            type_codes[type_rows[part]],
            prices[part],
            quantities[part],
            tuple(names[article_rows[part]].tolist()),
        )
    return states


def _checked(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    missing = [name for name in _COLUMNS if name not in batch.schema.names]
    if missing:
        raise DataError(f"missing; events have the columns {', '.join(_COLUMNS)}", column=missing[0])
    table = pa.Table.from_arrays([batch.column(name) for name in _COLUMNS], names=list(_COLUMNS))
    for name in _COLUMNS:
        if name != "price" and table[name].null_count:
            raise DataError("holds a null", column=name)
    return table


def _codes(column: Any) -> tuple[list[str], npt.NDArray[np.int64]]:
    """A string column as its distinct values and the place of each row's value among them."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _prices(column: Any) -> npt.NDArray[np.float32]:
    known: Any = pc.fill_null(column.cast(pa.float64()), float("nan"))
    return np.asarray(known.to_numpy(), np.float32)


def _order(
    rows: npt.NDArray[np.int64], times: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Row numbers by (customer, time, key), without the repetitions of a customer's key."""
    # Stable, so that of equal keys the first row stands first: the one that fold would have kept.
    by_key = np.lexsort((keys, rows))
    repeated = np.zeros(len(rows), np.bool_)
    repeated[by_key[1:]] = (np.diff(rows[by_key]) == 0) & (np.diff(keys[by_key]) == 0)
    order = np.lexsort((keys, times, rows))
    return order[~repeated[order]]
