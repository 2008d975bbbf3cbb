"""Events of one customer on their way into its state, as columns: what every entrance hands to the one fold.

Live traffic brings `Event`s, parsed one by one; an event log brings Arrow batches, which become the same columns
without an object or a line of JSON an event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import DataError
from streams.events import MAX_ID, MAX_PRICE, MAX_QUANTITY, TYPE_CODES, Event, id_key, to_micros

COLUMNS = ("event_id", "type", "occurred_at", "customer_id", "article_id", "price", "quantity")
_TIME = pa.timestamp("us", "UTC")


class Arrivals(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Columns of n events of one customer in the order in which they came, as `streams.state.CustomerState` has them.

    occurred_at: int64[n] microseconds · keys: uint64[n] · types: uint8[n] · prices: float32[n], nan where unknown ·
    quantities: uint16[n] · article_ids: n strings.
    """

    occurred_at: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    types: npt.NDArray[np.uint8]
    prices: npt.NDArray[np.float32]
    quantities: npt.NDArray[np.uint16]
    article_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.article_ids)

    def part(self, start: int, end: int) -> Arrivals:
        """The events from `start` up to `end`."""
        return Arrivals(
            self.occurred_at[start:end],
            self.keys[start:end],
            self.types[start:end],
            self.prices[start:end],
            self.quantities[start:end],
            self.article_ids[start:end],
        )

    def take(self, rows: npt.NDArray[np.int64]) -> Arrivals:
        """The events of `rows`, in that order."""
        return Arrivals(
            self.occurred_at[rows],
            self.keys[rows],
            self.types[rows],
            self.prices[rows],
            self.quantities[rows],
            [self.article_ids[row] for row in rows.tolist()],
        )


def arrivals_of(events: Sequence[Event]) -> Arrivals:
    """The columns of events of one customer."""
    return Arrivals(
        np.array([to_micros(e.occurred_at) for e in events], np.int64),
        np.array([id_key(e.event_id) for e in events], np.uint64),
        np.array([TYPE_CODES[e.type] for e in events], np.uint8),
        # + 0.0: of a zero with a sign and one without, equal to everyone, the bytes would depend on the batch.
        np.array([math.nan if e.price is None else e.price + 0.0 for e in events], np.float32),
        np.array([e.quantity for e in events], np.uint16),
        [e.article_id for e in events],
    )


def arrivals_by_group(groups: Mapping[str, Sequence[Event]]) -> dict[str, Arrivals]:
    """`arrivals_of` for every group. The columns of all are made at once: most customers bring one event."""
    whole = arrivals_of([event for events in groups.values() for event in events])
    found: dict[str, Arrivals] = {}
    start = 0
    for name, events in groups.items():
        end = start + len(events)
        found[name] = whole.part(start, end)
        start = end
    return found


def event_columns(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    """The columns of the event log that a state is made of, in one chunk each.

    Raises:
        DataError: one is missing or holds a null (a price may).
    """
    missing = [name for name in COLUMNS if name not in batch.schema.names]
    if missing:
        raise DataError(f"missing; events have the columns {', '.join(COLUMNS)}", column=missing[0])
    table = pa.Table.from_arrays([batch.column(name) for name in COLUMNS], names=list(COLUMNS))
    for name in COLUMNS:
        if name != "price" and table[name].null_count:
            raise DataError("holds a null", column=name)
    return table.combine_chunks()


def all_admitted(table: pa.Table, latest: datetime) -> bool:
    """Whether `streams.processor.admitted` would take every row; it also says which it does not, and why."""
    if not table.num_rows:
        return True
    times = pc.min_max(table["occurred_at"].cast(_TIME).cast(pa.int64())).as_py()
    quantities, prices = pc.min_max(table["quantity"]).as_py(), table["price"].cast(pa.float64())
    given = prices.drop_null().to_numpy()
    return (
        all(_ids_sound(table[name]) for name in ("event_id", "customer_id", "article_id"))
        and set(pc.unique(table["type"]).to_pylist()) <= TYPE_CODES.keys()
        and times["min"] >= 0
        and times["max"] <= to_micros(latest)
        and quantities["min"] >= 1
        and quantities["max"] <= MAX_QUANTITY
        and bool(((given >= 0.0) & (given <= MAX_PRICE) | np.isnan(given)).all())
    )


def _ids_sound(column: Any) -> bool:
    lengths = pc.min_max(pc.utf8_length(column)).as_py()
    return bool(lengths["min"] >= 1 and lengths["max"] <= MAX_ID)


def arrivals_by_customer(table: pa.Table) -> dict[str, Arrivals]:
    """The rows of `event_columns`, all admitted, by customer; a customer's rows in their order, or sorted by
    (occurred_at, key) where no key comes twice, which folds to the same and faster.
    """
    customers, rows = coded(table["customer_id"])
    articles, article_rows = coded(table["article_id"])
    types, type_rows = coded(table["type"])
    keys, times = id_keys(table["event_id"]), times_of(table["occurred_at"])
    order = np.lexsort((keys, times, rows))
    if _repeats(rows, keys):
        order = np.argsort(rows, kind="stable")
    type_codes = np.array([TYPE_CODES[name] for name in types], np.uint8)
    article_ids = np.array(articles, dtype=object)
    whole = Arrivals(
        times[order],
        keys[order],
        type_codes[type_rows[order]],
        prices_of(table["price"])[order],
        table["quantity"].to_numpy().astype(np.uint16)[order],
        article_ids[article_rows[order]].tolist(),
    )
    ends = np.cumsum(np.bincount(rows, minlength=len(customers))).tolist()
    return {customer: whole.part(start, end) for customer, start, end in zip(customers, [0, *ends], ends, strict=False)}


def _repeats(rows: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]) -> bool:
    """Whether a customer has a key twice. Nearly never has anyone, so all keys are looked at first."""
    ascending = np.sort(keys)
    if not (ascending[1:] == ascending[:-1]).any():
        return False
    by_key = np.lexsort((keys, rows))
    return bool(((np.diff(rows[by_key]) == 0) & (np.diff(keys[by_key]) == 0)).any())


def coded(column: Any) -> tuple[list[str], npt.NDArray[np.int64]]:
    """A string column as its distinct values and the place of each row's value among them."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def id_keys(column: Any) -> npt.NDArray[np.uint64]:
    """`id_key` of a column of ids."""
    digests = [blake2b(name, digest_size=8).digest() for name in column.cast(pa.binary()).to_pylist()]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64, copy=False)


def times_of(column: Any) -> npt.NDArray[np.int64]:
    """A column of times as microseconds."""
    return np.asarray(column.cast(_TIME).cast(pa.int64()).to_numpy(), np.int64)


def prices_of(column: Any) -> npt.NDArray[np.float32]:
    """A column of prices as a state has them: nan where unknown, zeros without a sign."""
    known: Any = pc.fill_null(column.cast(pa.float64()), float("nan"))
    return np.asarray(known.to_numpy(), np.float32) + np.float32(0.0)
