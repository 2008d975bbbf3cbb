"""Customer states as bytes: format 3 is written, formats 1 to 3 are read, for ever.

    [3, customer_id, start, unit, steps, keys, types, prices, quantities, digits, ids, past]     in MessagePack

Columns as `streams.columns` packs them; a column that is the same for nearly everyone (all purchases, one piece each)
is empty. So an event of a supermarket has 8 bytes of digest, 2 of price, 3 of article and 1 of time, and the rest of a
state 32. Equal states give equal bytes, so states are compared as bytes.

Format 2 did not tell which articles had been bought before the window. Format 1 told nothing of what had left it:
totals start with the window, and an event that had left it before counts when it is delivered again, once.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import TypeVar

import msgspec
import numpy as np

from infra.errors import DataError
from streams.columns import (
    FIRST_TIME,
    LAST_TIME,
    pack_ids,
    pack_prices,
    pack_quantities,
    pack_times,
    pack_types,
    unpack_ids,
    unpack_prices,
    unpack_quantities,
    unpack_times,
    unpack_types,
)
from streams.events import EVENT_TYPES, PURCHASE
from streams.state import MAX_EVENTS, CustomerState, Past
from streams.totals import NO_TOTALS, Totals

STATE_FORMAT = 3
READ = (1, 2, STATE_FORMAT)


# What a full state of format 1 says of the events before it.
UNTOLD = Past(NO_TOTALS, np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint64), whole=False)


class _Past(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Totals, the ledger, and the articles bought, of which format 2 told nothing; `first` and `last` are those of the
    totals."""

    counts: list[int]
    pieces: list[int]
    spent: list[int]
    first: int
    last: int
    start: int
    unit: int
    steps: list[int] | bytes
    keys: bytes
    bought: bytes = b""
    whole: bool | None = None


class _Packed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    format: int
    customer_id: str
    start: int
    unit: int
    steps: list[int] | bytes
    keys: bytes
    types: bytes
    prices: bytes
    quantities: bytes
    digits: int
    ids: bytes | list[str]
    past: _Past | None


class _PackedOne(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Format 1: plain columns."""

    format: int
    customer_id: str
    occurred_at: bytes
    keys: bytes
    types: bytes
    prices: bytes
    quantities: bytes
    article_ids: list[str]


class _Head(msgspec.Struct, array_like=True, frozen=True):
    format: int


_Column = TypeVar("_Column", bound=Sized)

_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(_Packed)
_unpack_one = msgspec.msgpack.Decoder(_PackedOne)
_unpack_head = msgspec.msgpack.Decoder(_Head)
# The format stands behind the byte that says "array of 12" (of 8, in format 1).
_THREE, _TWO, _ONE = b"\x9c\x03", b"\x9c\x02", b"\x98\x01"


def encode_state(state: CustomerState) -> bytes:
    """The state in format 3."""
    packed = pack_ids(state.article_ids)
    digits, ids = packed if isinstance(packed, tuple) else (0, packed)
    return _pack.encode(
        _Packed(
            STATE_FORMAT,
            state.customer_id,
            *pack_times(state.occurred_at),
            state.keys.astype("<u8", copy=False).tobytes(),
            pack_types(state.types),
            pack_prices(state.prices),
            pack_quantities(state.quantities),
            digits,
            ids,
            None if state.past is None else _pack_past(state.past),
        )
    )


def _pack_past(past: Past) -> _Past:
    totals = past.totals
    return _Past(
        list(totals.counts),
        list(totals.pieces),
        list(totals.spent),
        totals.first or 0,
        totals.last or 0,
        *pack_times(past.occurred_at),
        past.keys.astype("<u8", copy=False).tobytes(),
        past.bought.astype("<u8", copy=False).tobytes(),
        past.whole,
    )


def decode_state(raw: bytes) -> CustomerState:
    """Inverse of `encode_state`, also for what older code wrote; arrays may be read-only views of `raw`.

    Raises:
        DataError: not a state, or of a format that this code does not read.
    """
    try:
        if raw[:2] in (_THREE, _TWO):
            return _decode(_unpack.decode(raw))
        if raw[:2] == _ONE:
            return _decode_one(_unpack_one.decode(raw))
        head = _unpack_head.decode(raw)
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise DataError(f"not a customer state: {error}") from error
    raise DataError(f"customer state of format {head.format}; this code reads {', '.join(map(str, READ))}")


def _decode(packed: _Packed) -> CustomerState:
    keys = np.frombuffer(packed.keys, "<u8")
    n = len(keys)
    ids = packed.ids
    return CustomerState(
        packed.customer_id,
        unpack_times(packed.start, packed.unit, packed.steps, n),
        keys,
        unpack_types(packed.types, n, len(EVENT_TYPES)),
        unpack_prices(packed.prices, n),
        unpack_quantities(packed.quantities, n),
        _of_length(tuple(ids), n) if isinstance(ids, list) else unpack_ids(packed.digits, ids, n),
        None if packed.past is None else _unpack_past(packed.past),
    )


def _decode_one(packed: _PackedOne) -> CustomerState:
    n = len(packed.article_ids)
    times = _of_length(np.frombuffer(packed.occurred_at, "<i8"), n)
    if n and not FIRST_TIME <= int(times.min()) <= int(times.max()) <= LAST_TIME:
        raise ValueError("times out of range")
    return CustomerState(
        packed.customer_id,
        times,
        _of_length(np.frombuffer(packed.keys, "<u8"), n),
        _of_length(unpack_types(packed.types, n, len(EVENT_TYPES)), n),
        _of_length(np.frombuffer(packed.prices, "<f4"), n),
        _of_length(np.frombuffer(packed.quantities, "<u2"), n),
        tuple(packed.article_ids),
        UNTOLD if n >= MAX_EVENTS else None,
    )


def _of_length(column: _Column, n: int) -> _Column:
    if len(column) != n:
        raise ValueError(f"a column of {len(column)} beside one of {n}")
    return column


def _unpack_past(packed: _Past) -> Past:
    keys = np.frombuffer(packed.keys, "<u8")
    times = unpack_times(packed.start, packed.unit, packed.steps, len(keys))
    sums = [_by_type(row) for row in (packed.counts, packed.pieces, packed.spent)]
    if not FIRST_TIME <= packed.first <= packed.last <= LAST_TIME:
        raise ValueError(f"totals from {packed.first} to {packed.last}")
    bought = np.frombuffer(packed.bought, "<u8")
    if (bought[1:] <= bought[:-1]).any():
        raise ValueError("articles that do not ascend")
    whole = not sums[0][PURCHASE] if packed.whole is None else packed.whole
    totals = Totals(sums[0], sums[1], sums[2], packed.first, packed.last) if any(sums[0]) else NO_TOTALS
    return Past(totals, times, keys, bought, whole)


def _by_type(sums: list[int]) -> tuple[int, ...]:
    if len(sums) != len(EVENT_TYPES):
        raise ValueError(f"totals of {len(sums)} types; this code knows {len(EVENT_TYPES)}")
    return tuple(sums)
