"""What is known of one customer: an idempotent, order-insensitive window of events, and the fold that grows it.

The window is the `MAX_EVENTS` newest events, ordered by (occurred_at, key) without duplicates. "The newest N of a set"
is associative, commutative and idempotent, so duplicates, redelivery and late events end in one and the same state,
whatever the order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

from infra.errors import DataError
from streams.events import TYPE_CODES, Event, event_key, to_micros

STATE_FORMAT = 1
# Measured on a year of Complete Journey: half of the households have 404 events or fewer, 19% fill it; 31 kB full.
MAX_EVENTS = 1_000


class Outcome(StrEnum):
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"  # older than a full window: known, and of no effect
    REJECTED = "rejected"


@dataclass(frozen=True, eq=False, slots=True)
class CustomerState:
    """Columns of equal length n <= MAX_EVENTS, sorted by (occurred_at, key).

    occurred_at: int64[n] microseconds since 1970 UTC · keys: uint64[n] event digests · types: uint8[n] codes of
    EVENT_TYPES · prices: float32[n], nan where unknown · quantities: uint16[n] · article_ids: n strings.
    """

    customer_id: str
    occurred_at: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    types: npt.NDArray[np.uint8]
    prices: npt.NDArray[np.float32]
    quantities: npt.NDArray[np.uint16]
    article_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.article_ids)

    @property
    def as_of(self) -> int | None:
        """Time of the newest event in microseconds, None for an empty state."""
        return int(self.occurred_at[-1]) if len(self) else None


def empty_state(customer_id: str) -> CustomerState:
    return CustomerState(
        customer_id,
        np.empty(0, np.int64),
        np.empty(0, np.uint64),
        np.empty(0, np.uint8),
        np.empty(0, np.float32),
        np.empty(0, np.uint16),
        (),
    )


def state_before(state: CustomerState, until: int) -> CustomerState:
    """The same customer as known strictly before `until` (microseconds); the same object if nothing is cut off."""
    end = int(np.searchsorted(state.occurred_at, until, side="left"))
    if end == len(state):
        return state
    return CustomerState(
        state.customer_id,
        state.occurred_at[:end],
        state.keys[:end],
        state.types[:end],
        state.prices[:end],
        state.quantities[:end],
        state.article_ids[:end],
    )


def fold(state: CustomerState, events: Sequence[Event]) -> tuple[CustomerState, list[Outcome]]:
    """Add events to a state. Pure; returns the new state (the same object if nothing changed) and one outcome an event.

    An `event_id` names one content for ever: of two that differ, the first to arrive stays.

    Raises:
        ValueError: an event of another customer (a programming error: the caller groups by customer).
    """
    known = set(state.keys.tolist())
    outcomes = []
    fresh: list[tuple[int, int, Event]] = []
    oldest = (int(state.occurred_at[0]), int(state.keys[0])) if len(state) >= MAX_EVENTS else None
    for event in events:
        if event.customer_id != state.customer_id:
            raise ValueError(f"event of customer {event.customer_id!r} folded into {state.customer_id!r}")
        key = event_key(event.event_id)
        moment = to_micros(event.occurred_at)
        if key in known:
            outcomes.append(Outcome.DUPLICATE)
        elif oldest is not None and (moment, key) < oldest:
            outcomes.append(Outcome.LATE)
        else:
            known.add(key)
            fresh.append((moment, key, event))
            outcomes.append(Outcome.APPLIED)
    if not fresh:
        return state, outcomes
    return _merge(state, fresh), outcomes


def _merge(state: CustomerState, fresh: list[tuple[int, int, Event]]) -> CustomerState:
    fresh.sort(key=lambda row: row[:2])
    occurred_at = np.concatenate([state.occurred_at, np.array([row[0] for row in fresh], np.int64)])
    keys = np.concatenate([state.keys, np.array([row[1] for row in fresh], np.uint64)])
    events = [row[2] for row in fresh]
    types = np.concatenate([state.types, np.array([TYPE_CODES[e.type] for e in events], np.uint8)])
    prices = np.concatenate(
        [state.prices, np.array([np.nan if e.price is None else e.price for e in events], np.float32)]
    )
    quantities = np.concatenate([state.quantities, np.array([e.quantity for e in events], np.uint16)])
    article_ids = state.article_ids + tuple(e.article_id for e in events)
    in_order = not len(state) or (int(state.occurred_at[-1]), int(state.keys[-1])) < fresh[0][:2]
    if not in_order:
        order = np.lexsort((keys, occurred_at))
        occurred_at, keys, types = occurred_at[order], keys[order], types[order]
        prices, quantities = prices[order], quantities[order]
        article_ids = tuple(article_ids[i] for i in order.tolist())
    start = max(0, len(article_ids) - MAX_EVENTS)
    return CustomerState(
        state.customer_id,
        occurred_at[start:],
        keys[start:],
        types[start:],
        prices[start:],
        quantities[start:],
        article_ids[start:],
    )


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    format: int
    customer_id: str
    occurred_at: bytes
    keys: bytes
    types: bytes
    prices: bytes
    quantities: bytes
    article_ids: list[str]


_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(_Packed)


def encode_state(state: CustomerState) -> bytes:
    """Little-endian columns in MessagePack. Equal states give equal bytes, so states are compared as bytes."""
    return _pack.encode(
        _Packed(
            STATE_FORMAT,
            state.customer_id,
            state.occurred_at.astype("<i8", copy=False).tobytes(),
            state.keys.astype("<u8", copy=False).tobytes(),
            state.types.tobytes(),
            state.prices.astype("<f4", copy=False).tobytes(),
            state.quantities.astype("<u2", copy=False).tobytes(),
            list(state.article_ids),
        )
    )


def decode_state(raw: bytes) -> CustomerState:
    """Inverse of `encode_state`; the columns are read-only views of `raw`.

    Raises:
        DataError: not a state, or of another format.
    """
    try:
        packed = _unpack.decode(raw)
    except msgspec.DecodeError as error:
        raise DataError(f"not a customer state: {error}") from error
    if packed.format != STATE_FORMAT:
        raise DataError(f"customer state of format {packed.format}; this code reads format {STATE_FORMAT}")
    return CustomerState(
        packed.customer_id,
        np.frombuffer(packed.occurred_at, "<i8"),
        np.frombuffer(packed.keys, "<u8"),
        np.frombuffer(packed.types, np.uint8),
        np.frombuffer(packed.prices, "<f4"),
        np.frombuffer(packed.quantities, "<u2"),
        tuple(packed.article_ids),
    )
