"""What is known of one customer: an idempotent, order-insensitive window of events, totals beyond it, and their fold.

The window is the newest events of all that were accepted, ordered by (occurred_at, key) without duplicates. What leaves
it is counted in `past`: totals, and a ledger of (occurred_at, key) by which a duplicate of an event that has left is
recognised and a late new one is told from it. Window, ledger and totals are "the newest W of a set", "the newest L of
the rest" and sums over the rest: none depends on the order of arrival, so duplicates, redelivery and late events end in
one and the same state.

The ledger is bounded as well. What is guaranteed, with W events of window and L of ledger:
- A customer of up to W + L events: exact, whatever the order, repetition and batching.
- Beyond that: exact and order-insensitive while no event arrives with W + L newer ones of its customer known already.
- One that does may be a duplicate or new, nobody can tell: it is refused as `expired` and changes nothing. So an event
  is never counted twice, and the only one ever missed is a new one so late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from streams.events import TYPE_CODES, Event, event_key, to_micros
from streams.totals import Totals, totals_of

# Measured on a year of Complete Journey: half of the households have 404 events or fewer, 19% fill it.
MAX_EVENTS = 1_000
LEDGER = 3_000

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many events a state keeps (`window`) and how many more it recognises (`ledger`); each at least 1."""

    window: int = MAX_EVENTS
    ledger: int = LEDGER


BOUNDS = Bounds()
_FEW = 16  # looking so many keys up one by one is faster than a set of the whole ledger


class Outcome(StrEnum):
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"  # older than a full window: counted in the totals
    EXPIRED = "expired"  # older than a full ledger: duplicate or new, nobody can tell; of no effect
    REJECTED = "rejected"


@dataclass(frozen=True, eq=False, slots=True)
class Past:
    """The events that have left the window.

    totals: of them all · occurred_at: int64[m], keys: uint64[m] of the newest m, sorted by both (the ledger).
    """

    totals: Totals
    occurred_at: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]

    @property
    def horizon(self) -> tuple[int, int] | None:
        """Time and key of the oldest event that can be told from a new one; None while all can."""
        if len(self.totals) <= len(self.keys) or not len(self.keys):
            return None
        return int(self.occurred_at[0]), int(self.keys[0])

    def knows(self, keys: list[int]) -> set[int]:
        """Those of `keys` that stand in the ledger."""
        if len(keys) > _FEW:
            return set(self.keys.tolist()).intersection(keys)
        return {key for key in keys if (self.keys == np.uint64(key)).any()}


@dataclass(frozen=True, eq=False, slots=True)
class CustomerState:
    """Columns of equal length n, the window, sorted by (occurred_at, key); `past` is None until an event has left it.

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
    past: Past | None = None

    def __len__(self) -> int:
        return len(self.article_ids)

    @property
    def as_of(self) -> int | None:
        """Time of the newest event in microseconds, None for an empty state."""
        return int(self.occurred_at[-1]) if len(self) else None

    @property
    def totals(self) -> Totals:
        """Of all events, those of the window and those that have left it."""
        window = totals_of(self.occurred_at, self.types, self.prices, self.quantities)
        return window if self.past is None else self.past.totals + window


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
    """The same customer as known strictly before `until` (microseconds); the same object if nothing is cut off.

    What has left the window is older than all of it, so `past` stays while one event of the window does. Where none
    does, the totals of that moment cannot be told and nothing is known.
    """
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
        state.past if end else None,
    )


def fold(state: CustomerState, events: Sequence[Event], bounds: Bounds = BOUNDS) -> tuple[CustomerState, list[Outcome]]:
    """Add events to a state. Pure; returns the new state (the same object if nothing changed) and one outcome an event.

    An `event_id` names one content for ever: of two that differ, the first to arrive stays.

    Raises:
        ValueError: an event of another customer (a programming error: the caller groups by customer).
    """
    keys = [event_key(event.event_id) for event in events]
    known = set(state.keys.tolist())
    horizon = None
    if state.past is not None:
        known |= state.past.knows(keys)
        horizon = state.past.horizon
    outcomes = []
    fresh: list[tuple[int, int, Event]] = []
    oldest = (int(state.occurred_at[0]), int(state.keys[0])) if len(state) >= bounds.window else None
    for key, event in zip(keys, events, strict=True):
        if event.customer_id != state.customer_id:
            raise ValueError(f"event of customer {event.customer_id!r} folded into {state.customer_id!r}")
        moment = to_micros(event.occurred_at)
        if key in known:
            outcomes.append(Outcome.DUPLICATE)
        elif horizon is not None and (moment, key) < horizon:
            outcomes.append(Outcome.EXPIRED)
        else:
            known.add(key)
            fresh.append((moment, key, event))
            late = oldest is not None and (moment, key) < oldest
            outcomes.append(Outcome.LATE if late else Outcome.APPLIED)
    if not fresh:
        return state, outcomes
    return _merge(state, fresh, bounds), outcomes


def _merge(state: CustomerState, fresh: list[tuple[int, int, Event]], bounds: Bounds) -> CustomerState:
    fresh.sort(key=lambda row: row[:2])
    events = [row[2] for row in fresh]
    occurred_at = _extended(state.occurred_at, [row[0] for row in fresh])
    keys = _extended(state.keys, [row[1] for row in fresh])
    types = _extended(state.types, [TYPE_CODES[e.type] for e in events])
    # + 0.0: of a zero with a sign and one without, equal to everyone, the bytes would depend on the batch.
    prices = _extended(state.prices, [math.nan if e.price is None else e.price + 0.0 for e in events])
    quantities = _extended(state.quantities, [e.quantity for e in events])
    article_ids = state.article_ids + tuple(e.article_id for e in events)
    in_order = not len(state) or (int(state.occurred_at[-1]), int(state.keys[-1])) < fresh[0][:2]
    if not in_order:
        order = np.lexsort((keys, occurred_at))
        occurred_at, keys, types = occurred_at[order], keys[order], types[order]
        prices, quantities = prices[order], quantities[order]
        article_ids = tuple(article_ids[i] for i in order.tolist())
    past = state.past
    start = max(0, len(article_ids) - bounds.window)
    if start:
        leaving = totals_of(occurred_at[:start], types[:start], prices[:start], quantities[:start])
        past = _remember(past, leaving, occurred_at[:start], keys[:start], bounds.ledger)
    return CustomerState(
        state.customer_id,
        occurred_at[start:],
        keys[start:],
        types[start:],
        prices[start:],
        quantities[start:],
        article_ids[start:],
        past,
    )


def _extended(column: npt.NDArray[_Number], values: list[Any]) -> npt.NDArray[_Number]:
    longer = np.empty(len(column) + len(values), column.dtype)
    longer[: len(column)] = column
    longer[len(column) :] = values
    return longer


def _remember(
    past: Past | None,
    leaving: Totals,
    occurred_at: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    ledger: int,
) -> Past:
    totals = leaving
    if past is not None:
        totals = past.totals + leaving
        in_order = not len(past.keys) or (
            (int(past.occurred_at[-1]), int(past.keys[-1])) < (int(occurred_at[0]), int(keys[0]))
        )
        occurred_at = np.concatenate([past.occurred_at, occurred_at])
        keys = np.concatenate([past.keys, keys])
        if not in_order:
            order = np.lexsort((keys, occurred_at))
            occurred_at, keys = occurred_at[order], keys[order]
    start = max(0, len(keys) - ledger)
    return Past(totals, occurred_at[start:], keys[start:])
