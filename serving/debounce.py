"""Many events, one answer: waits until a customer has been quiet for a while, though not for ever.

Pure bookkeeping: no clock, no broker. What waits is not committed, so whoever takes a partition over hears of it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from streams.subscriptions import CustomerUpdate

P = TypeVar("P")  # a partition of a topic

# A customer who never rests is answered this many waits after the first event.
PATIENCE = 10
# Customers who wait at a time; with so many nothing more is read until some are answered.
MAX_WAITING = 10_000


@dataclass(slots=True)
class _Waiting(Generic[P]):
    newest: CustomerUpdate
    due: datetime
    latest: datetime
    place: P
    first: int


class Debounce(Generic[P]):
    """Customers whose answer is to come, by when it is due."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting[P]] = {}
        self._read: dict[P, int] = {}

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def read(self, place: P, offset: int) -> None:
        """The message at `offset` needs no answer, or is noted by `add`."""
        self._read[place] = offset + 1

    def add(self, update: CustomerUpdate, now: datetime, wait: timedelta, place: P, offset: int) -> None:
        """Something happened: due `wait` from now, but no later than PATIENCE waits after the first."""
        self.read(place, offset)
        known = self._waiting.get(update.customer_id)
        if known is None:
            self._waiting[update.customer_id] = _Waiting(update, now + wait, now + PATIENCE * wait, place, offset)
        else:
            known.newest, known.due = update, min(now + wait, known.latest)

    def take(self, now: datetime, limit: int) -> list[CustomerUpdate]:
        """The newest update of at most `limit` customers who are due, those who wait longest first. They wait on, and
        hold back what may be committed, until `answered`."""
        # Kept in order of arrival, so the first are those who wait longest.
        return [waiting.newest for waiting in self._waiting.values() if waiting.due <= now][:limit]

    def answered(self, updates: Iterable[CustomerUpdate]) -> None:
        """These are on the topic. Who acted meanwhile waits on."""
        for update in updates:
            known = self._waiting.get(update.customer_id)
            if known is not None and known.newest == update:
                del self._waiting[update.customer_id]

    def again(self, updates: Iterable[CustomerUpdate], at: datetime) -> None:
        """No answer yet: due once more at `at`."""
        for update in updates:
            known = self._waiting.get(update.customer_id)
            if known is not None:
                known.due = at

    def next_due(self) -> datetime | None:
        return min((w.due for w in self._waiting.values()), default=None)

    def committable(self) -> Mapping[P, int]:
        """The next offset to read of each partition: up to the first message whose answer is to come."""
        offsets = dict(self._read)
        for waiting in self._waiting.values():
            if waiting.place in offsets:
                offsets[waiting.place] = min(offsets[waiting.place], waiting.first)
        return offsets

    def drop(self, places: Collection[P]) -> None:
        """These partitions are another's now, and with them who waits there."""
        for place in places:
            self._read.pop(place, None)
        self._waiting = {c: w for c, w in self._waiting.items() if w.place not in places}
