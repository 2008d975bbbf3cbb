"""A batch of raw messages into the store: parse, group by customer, load, fold, encode, save.

No Kafka and no Faust in here: live traffic, replay and tests hand in messages and get outcomes. Bad data is
an outcome, never an exception; only a store that stays away is raised, and then the same batch may be given
again: folding twice changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.clock import Clock
from infra.errors import DataError, InvalidMessage, StoreConflict, Unavailable
from infra.kafka import backoff_s
from streams.arrivals import Arrivals, all_admitted, arrivals_by_customer, arrivals_by_group, event_columns
from streams.events import Event, encode_event, parse_event
from streams.state import BOUNDS, Bounds, CustomerState, Outcome, empty_state, fold_arrivals
from streams.store import StateStore, StoredCustomer, load_readable

logger = logging.getLogger(__name__)

# A window is sorted by time, so an event from the future would stay the newest until then; clocks may differ
# by less.
MAX_AHEAD = timedelta(days=1)
ATTEMPTS = 5
# Reason of the dead letters of a customer whose stored value is corrupt: mend or delete it, then requeue them.
STATE_UNREADABLE = "state_unreadable"


class RawMessage(NamedTuple):
    """A message as the broker has it. `requeued`: how often it was sent again from `dead-letters`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    requeued: int = 0


class Processed(msgspec.Struct, frozen=True, gc=False):
    """What became of one message; `reason` says why it was rejected, `letter` under which name that is counted."""

    outcome: Outcome
    reason: str | None = None
    customer_id: str | None = None
    letter: str = Outcome.REJECTED.value


def admitted(value: bytes | None, latest: datetime) -> Event:
    """The event of a message's value. Every reader of the topic takes and refuses the same messages by it.

    Raises:
        InvalidMessage: not an event, or one that occurred after `latest`, the present and MAX_AHEAD.
    """
    event = parse_event(value or b"")
    if event.occurred_at > latest:
        raise InvalidMessage(
            f"occurred_at {event.occurred_at.isoformat()} is after {latest.isoformat()}, the present and a day",
            column="occurred_at",
        )
    return event


class StateEncoder(Protocol):
    """What the processor needs of `streams.encoder.QueryEncoder`."""

    @property
    def space(self) -> str: ...

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]: ...


class Processor:
    """Folds batches into a store.

    `encoder` may be replaced between batches (a new bundle); None writes states without embeddings.
    """

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        encoder: StateEncoder | None = None,
        *,
        attempts: int = ATTEMPTS,
        bounds: Bounds = BOUNDS,
    ) -> None:
        self.store = store
        self.clock = clock
        self.encoder = encoder
        self._attempts = attempts
        self._bounds = bounds

    async def process(self, messages: Sequence[RawMessage]) -> list[Processed]:
        """One outcome a message, in order. When it returns, all that was applied is in the store.

        Raises:
            Unavailable: the store did not take the batch within the attempts; nothing is lost by giving it
            again.
        """
        results: list[Processed | None] = [None] * len(messages)
        latest = self.clock.now() + MAX_AHEAD
        places: dict[str, list[int]] = {}
        events: dict[str, list[Event]] = {}
        for i, message in enumerate(messages):
            try:
                event = admitted(message.value, latest)
            except InvalidMessage as error:
                results[i] = Processed(Outcome.REJECTED, str(error))
            else:
                places.setdefault(event.customer_id, []).append(i)
                events.setdefault(event.customer_id, []).append(event)
        for customer_id, became in (await self._apply(arrivals_by_group(events))).items():
            if isinstance(became, DataError):
                for i in places[customer_id]:
                    results[i] = Processed(Outcome.REJECTED, str(became), customer_id, STATE_UNREADABLE)
            else:
                for i, outcome in zip(places[customer_id], became, strict=True):
                    results[i] = Processed(outcome, None, customer_id)
        return [result for result in results if result is not None]

    async def process_columns(self, batch: pa.RecordBatch | pa.Table) -> Counter[Outcome]:
        """Rows of an event log: the store and the outcomes of `process` for the same events, without JSON between.

        Args:
            batch: columns of `streams.arrivals.COLUMNS`; others are ignored.

        Raises:
            DataError: a column is missing or holds a null. Unavailable: as `process`.
        """
        table = event_columns(batch)
        if not all_admitted(table, self.clock.now() + MAX_AHEAD):
            events = [Event(**row) for row in table.to_pylist()]
            messages = [RawMessage("", 0, i, None, encode_event(event)) for i, event in enumerate(events)]
            return Counter(result.outcome for result in await self.process(messages))
        arrivals = arrivals_by_customer(table)
        outcomes: Counter[Outcome] = Counter()
        for customer_id, became in (await self._apply(arrivals)).items():
            if isinstance(became, DataError):
                outcomes[Outcome.REJECTED] += len(arrivals[customer_id])
            else:
                outcomes.update(became)
        return outcomes

    async def _apply(self, arrivals: Mapping[str, Arrivals]) -> dict[str, list[Outcome] | DataError]:
        """Fold and save all customers; again those that lost a race, and all when the store is away.

        Returns what became of each customer's events, or why none of them could be folded.
        """
        became: dict[str, list[Outcome] | DataError] = {}
        pending = list(arrivals)
        attempt = 0
        while pending:
            try:
                pending = await self._apply_once(pending, arrivals, became)
                if not pending:
                    break
                raise StoreConflict(f"{len(pending)} customers were changed by another writer meanwhile")
            except Unavailable as error:
                attempt += 1
                if attempt >= self._attempts:
                    raise
                pause = backoff_s(attempt - 1)
                logger.debug("try %d of %d in %.2f s: %s", attempt + 1, self._attempts, pause, error)
                await asyncio.sleep(pause)
        return became

    async def _apply_once(
        self,
        customer_ids: Sequence[str],
        arrivals: Mapping[str, Arrivals],
        became: dict[str, list[Outcome] | DataError],
    ) -> list[str]:
        """Returns the customers that lost against another writer."""
        found, unreadable = await load_readable(self.store, customer_ids)
        for customer_id, error in unreadable.items():
            # Folding into an empty state instead would overwrite what a person may still rescue.
            logger.error("%s; %d of its messages become dead letters", error, len(arrivals[customer_id]))
            became[customer_id] = error
        encoder = self.encoder
        updates: list[StoredCustomer] = []
        for customer_id, stored in found.items():
            before = empty_state(customer_id) if stored is None else stored.state
            state, outcomes = fold_arrivals(before, arrivals[customer_id], self._bounds)
            became[customer_id] = outcomes
            stale = encoder is not None and (stored is None or stored.space != encoder.space)
            if state is not before or stale:
                updates.append(StoredCustomer(state, 0 if stored is None else stored.version))
        if encoder is not None and updates:
            vectors = encoder.encode([update.state for update in updates])
            updates = [
                StoredCustomer(update.state, update.version, encoder.space, vector)
                for update, vector in zip(updates, vectors, strict=True)
            ]
        saved = await self.store.save(updates)
        return [update.state.customer_id for update, ok in zip(updates, saved, strict=True) if not ok]
