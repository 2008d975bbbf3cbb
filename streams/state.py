"""What is known of one customer: an idempotent, order-insensitive window of events, totals beyond it, and their fold.

The window is the newest events of all that were accepted, ordered by (occurred_at, key) without duplicates. What leaves
it is counted in `past`: totals, the articles that were bought, and a ledger of (occurred_at, key) by which a duplicate
of an event that has left is recognised and a late new one is told from it. Window, ledger, totals and articles are "the
newest W of a set", "the newest L of the rest", sums and a set over the rest: none depends on the order of arrival, so
duplicates, redelivery and late events end in one and the same state.

The ledger is bounded as well. What is guaranteed, with W events of window and L of ledger:
- A customer of up to W + L events: exact, whatever the order, repetition and batching.
- Beyond that: exact and order-insensitive while no event arrives with W + L newer ones of its customer known already.
- One that does may be a duplicate or new, nobody can tell: it is refused as `expired` and counts nowhere. So an event
  is never counted twice, and the only one ever missed is a new one so late.
- Which articles were bought is a set, that takes an article as often as it is told: a purchase is remembered there even
  where it is too late to be counted. Of those bought before the window the state keeps the ones with the smallest keys,
  and says where that is not all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

from streams.arrivals import Arrivals, arrivals_of
from streams.distinct import among_ascending, distinct
from streams.events import PURCHASE, Event, id_key
from streams.totals import Totals, totals_of

# Measured on a year of Complete Journey: half of the households have 404 events or fewer, 19% fill it.
MAX_EVENTS = 1_000
LEDGER = 3_000
# Of the households of that year one bought 2,146 different articles, the most.
BOUGHT = 8_192


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many events a state keeps (`window`), how many more it recognises (`ledger`), and of how many articles it
    knows that they were bought before (`bought`); each at least 1."""

    window: int = MAX_EVENTS
    ledger: int = LEDGER
    bought: int = BOUGHT


BOUNDS = Bounds()
# Looking so many keys up one by one is faster than making a list of the whole ledger, and slower than one of a window
# that is so short.
_FEW, _SHORT = 16, 128


def _among(column: npt.NDArray[np.uint64], keys: list[int]) -> set[int]:
    """Those of `keys` that stand in `column`."""
    if len(keys) > _FEW or len(column) <= _SHORT:
        return set(keys).intersection(column.tolist())
    return {key for key in keys if (column == np.uint64(key)).any()}


class Outcome(StrEnum):
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"  # older than a full window: counted in the totals
    EXPIRED = "expired"  # older than a full ledger: duplicate or new, nobody can tell; counted nowhere
    REJECTED = "rejected"


@dataclass(frozen=True, eq=False, slots=True)
class Past:
    """The events that have left the window; of those that came too late even to be counted, what was bought.

    totals: of them all · occurred_at: int64[m], keys: uint64[m] of the newest m, sorted by both (the ledger) ·
    bought: uint64[b] keys of the articles purchased, ascending, the smallest where they are too many · whole: `bought`
    has them all.
    """

    totals: Totals
    occurred_at: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    bought: npt.NDArray[np.uint64]
    whole: bool

    @property
    def horizon(self) -> tuple[int, int] | None:
        """Time and key of the oldest event that can be told from a new one; None while all can."""
        if len(self.totals) <= len(self.keys) or not len(self.keys):
            return None
        return int(self.occurred_at[0]), int(self.keys[0])

    def knows(self, keys: list[int]) -> set[int]:
        """Those of `keys` that stand in the ledger."""
        return _among(self.keys, keys)


class CustomerState(msgspec.Struct, frozen=True, eq=False, gc=False):
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

    An `event_id` names one content for ever: of two that differ, the first to arrive stays. A purchase that expired may
    change the state: its article was bought.

    Raises:
        ValueError: an event of another customer (a programming error: the caller groups by customer).
    """
    for event in events:
        if event.customer_id != state.customer_id:
            raise ValueError(f"event of customer {event.customer_id!r} folded into {state.customer_id!r}")
    return fold_arrivals(state, arrivals_of(events), bounds)


def fold_arrivals(
    state: CustomerState, arrivals: Arrivals, bounds: Bounds = BOUNDS
) -> tuple[CustomerState, list[Outcome]]:
    """`fold` for events of this customer as columns; every entrance ends here."""
    if not len(arrivals):
        return state, []
    keys = arrivals.keys.tolist()
    known = _among(state.keys, keys)
    if state.past is not None:
        known |= state.past.knows(keys)
    if not known and len(set(keys)) == len(keys) and _is_after(arrivals, state):
        return _merge(state, arrivals, bounds, ordered=len(keys) == 1), [Outcome.APPLIED] * len(keys)
    outcomes, fresh = _told_apart(state, arrivals, keys, known, bounds)
    if fresh:
        state = _merge(state, arrivals.take(np.array(fresh, np.int64)), bounds)
    return _remembered(state, arrivals, outcomes, bounds), outcomes


def _is_after(arrivals: Arrivals, state: CustomerState) -> bool:
    """Whether each is newer than all that is known: how nearly all events come, and none of them is late."""
    return not len(state) or min(arrivals.occurred_at.tolist()) > int(state.occurred_at[-1])


def _told_apart(
    state: CustomerState, arrivals: Arrivals, keys: list[int], known: set[int], bounds: Bounds
) -> tuple[list[Outcome], list[int]]:
    """The outcome of each, and the rows of those that are new."""
    horizon = None if state.past is None else state.past.horizon
    oldest = (int(state.occurred_at[0]), int(state.keys[0])) if len(state) >= bounds.window else None
    outcomes = []
    fresh: list[int] = []
    for row, place in enumerate(zip(arrivals.occurred_at.tolist(), keys, strict=True)):
        if place[1] in known:
            outcomes.append(Outcome.DUPLICATE)
        elif horizon is not None and place < horizon:
            outcomes.append(Outcome.EXPIRED)
        else:
            known.add(place[1])
            fresh.append(row)
            outcomes.append(Outcome.LATE if oldest is not None and place < oldest else Outcome.APPLIED)
    return outcomes, fresh


def _remembered(state: CustomerState, arrivals: Arrivals, outcomes: Sequence[Outcome], bounds: Bounds) -> CustomerState:
    """With the articles of expired purchases among those bought; the same object where all are known."""
    past = state.past
    expired = [
        name
        for name, code, outcome in zip(arrivals.article_ids, arrivals.types.tolist(), outcomes, strict=True)
        if outcome is Outcome.EXPIRED and code == PURCHASE
    ]
    if past is None or not expired:
        return state
    after = _bounded(replace(past, bought=_united(past.bought, _article_keys(expired))), bounds)
    if after.whole == past.whole and np.array_equal(after.bought, past.bought):
        return state
    return msgspec.structs.replace(state, past=after)


def _merge(state: CustomerState, fresh: Arrivals, bounds: Bounds, *, ordered: bool = False) -> CustomerState:
    """ordered: it is known that window and `fresh` ascend as they stand one after the other."""
    occurred_at = np.concatenate([state.occurred_at, fresh.occurred_at])
    keys = np.concatenate([state.keys, fresh.keys])
    types = np.concatenate([state.types, fresh.types])
    prices = np.concatenate([state.prices, fresh.prices])
    quantities = np.concatenate([state.quantities, fresh.quantities])
    article_ids = (*state.article_ids, *fresh.article_ids)
    if not ordered and not _ascending(occurred_at, keys, max(0, len(state) - 1)):
        order = np.lexsort((keys, occurred_at))
        occurred_at, keys, types = occurred_at[order], keys[order], types[order]
        prices, quantities = prices[order], quantities[order]
        article_ids = tuple(article_ids[i] for i in order.tolist())
    past = state.past
    start = max(0, len(article_ids) - bounds.window)
    if start:
        left = Past(
            totals_of(occurred_at[:start], types[:start], prices[:start], quantities[:start]),
            occurred_at[:start],
            keys[:start],
            _article_keys(article_ids[row] for row in np.flatnonzero(types[:start] == PURCHASE).tolist()),
            whole=True,
        )
        past = _bounded(left if past is None else _joined(past, left), bounds)
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


def _ascending(occurred_at: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], start: int) -> bool:
    """Whether rows from `start` on ascend by (occurred_at, key)."""
    times, names = occurred_at[start:], keys[start:]
    later, same = times[1:] > times[:-1], times[1:] == times[:-1]
    return bool((later | same & (names[1:] > names[:-1])).all())


def _article_keys(article_ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """`id_key` of each distinct one, ascending."""
    return distinct(np.array([id_key(name) for name in set(article_ids)], np.uint64))


def _joined(past: Past, left: Past) -> Past:
    """Both, the events of `left` being none of those of `past`."""
    in_order = not len(past.keys) or (
        (int(past.occurred_at[-1]), int(past.keys[-1])) < (int(left.occurred_at[0]), int(left.keys[0]))
    )
    occurred_at = np.concatenate([past.occurred_at, left.occurred_at])
    keys = np.concatenate([past.keys, left.keys])
    if not in_order:
        order = np.lexsort((keys, occurred_at))
        occurred_at, keys = occurred_at[order], keys[order]
    return Past(past.totals + left.totals, occurred_at, keys, _united(past.bought, left.bought), past.whole)


def _united(known: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Both sets, ascending as they are; `known` itself where it has them all."""
    new = keys[~among_ascending(keys, known)]
    return np.sort(np.concatenate([known, new])) if len(new) else known


def _bounded(past: Past, bounds: Bounds) -> Past:
    """The newest of the ledger and the smallest of the keys: of a set, the same whatever came first."""
    start = max(0, len(past.keys) - bounds.ledger)
    whole = past.whole and len(past.bought) <= bounds.bought
    return Past(past.totals, past.occurred_at[start:], past.keys[start:], past.bought[: bounds.bought], whole)
