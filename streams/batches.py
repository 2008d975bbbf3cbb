"""Batches between the broker and their handler: which are on their way, and which offsets may be committed.

Pure bookkeeping, without a broker. An offset is due when its batch and all older ones of its partition are applied, and
only as long as this process still owns the partition by the same assignment under which the batch was read: a batch
that outlives a rebalance would otherwise set the group back to where it once was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiokafka.structs import ConsumerRecord, TopicPartition

from streams.processor import RawMessage

# Header of a message that was sent again from `dead-letters`: how often, as decimal digits.
REQUEUED_HEADER = "modiste-requeued"


@dataclass(eq=False, slots=True)
class Batch:
    """Messages on their way; `done` is set when the handler is through with them, `ok` says that they are durable.

    It may grow until it is closed: what comes while the handler is at work is then handled at once, at less than it
    would cost one by one.

    offsets: next to read, by partition; those that are not due yet. tenures: the ownership under which each partition
    was read.
    """

    _messages: list[RawMessage]
    offsets: dict[TopicPartition, int]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    ok: bool = False
    closed: bool = False
    tenures: dict[TopicPartition, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._messages)

    def take(self) -> list[RawMessage]:
        """The messages, for the handler; closes the batch."""
        self.closed = True
        return self._messages

    def extend(self, newer: Batch) -> None:
        """By one that was read after it.

        Raises:
            RuntimeError: it is closed; its offset would pass what its handler has never seen.
        """
        if self.closed:
            raise RuntimeError("a batch that its handler may have grows no more")
        self._messages += newer._messages
        self.offsets |= newer.offsets
        self.tenures |= newer.tenures


def batch_of(records: Mapping[TopicPartition, list[ConsumerRecord]]) -> Batch:
    """What one `getmany` returned, in order within each partition."""
    messages = [
        RawMessage(r.topic, r.partition, r.offset, r.key, r.value, times_requeued(r.headers) if r.headers else 0)
        for part in records.values()
        for r in part
    ]
    return Batch(messages, {tp: part[-1].offset + 1 for tp, part in records.items()})


def times_requeued(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """How often a message came back from `dead-letters`; 0 where the header is missing or no number."""
    for name, value in headers:
        if name == REQUEUED_HEADER and value is not None and value.isdigit() and len(value) < 6:
            return int(value)
    return 0


class InFlight:
    """The batches of one process that are read and not committed, oldest first."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._due: dict[TopicPartition, int] = {}
        self._tenures: dict[TopicPartition, int] = {}
        self._tenure = 0

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def owned(self) -> frozenset[TopicPartition]:
        return frozenset(self._tenures)

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """A new ownership of these begins: what was read under an earlier one is never committed under this."""
        self._tenure += 1
        for tp in partitions:
            self._tenures[tp] = self._tenure
            self._due.pop(tp, None)

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """The partitions are another's now, or nobody's."""
        for tp in partitions:
            self._tenures.pop(tp, None)
            self._due.pop(tp, None)

    def add(self, batch: Batch, most: int) -> bool:
        """Put it behind the others; or into the newest, where that is not closed, has at most `most` messages then, and
        was read under the same ownership of the partitions of both. True where it stands for itself."""
        batch.tenures = {tp: self._tenures[tp] for tp in batch.offsets if tp in self._tenures}
        newest = self._batches[-1] if self._batches else None
        if newest is not None and not newest.closed and len(newest) + len(batch) <= most and _as_before(newest, batch):
            newest.extend(batch)
            return False
        self._batches.append(batch)
        return True

    def withdraw(self, batch: Batch) -> None:
        """The newest batch was never handed over: forget it; whoever reads next begins at the last commit."""
        if self._batches and self._batches[-1] is batch:
            self._batches.pop()

    def reading(self, partitions: Iterable[TopicPartition]) -> list[Batch]:
        """The batches with messages of these partitions."""
        wanted = set(partitions)
        return [batch for batch in self._batches if not wanted.isdisjoint(batch.offsets)]

    def due(self) -> dict[TopicPartition, int]:
        """Offsets to commit now; asked again they come again, until `committed` or the end of the ownership."""
        unfinished: set[TopicPartition] = set()
        for batch in self._batches:
            if batch.ok:
                for tp in batch.offsets.keys() - unfinished:
                    offset = batch.offsets.pop(tp)
                    if tp in self._tenures and batch.tenures.get(tp) == self._tenures[tp]:
                        self._due[tp] = max(offset, self._due.get(tp, 0))
            unfinished |= batch.offsets.keys()
        self._batches = deque(batch for batch in self._batches if batch.offsets or not batch.ok)
        return dict(self._due)

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker has these."""
        for tp, offset in offsets.items():
            if self._due.get(tp) == offset:
                del self._due[tp]


def _as_before(older: Batch, newer: Batch) -> bool:
    """Whether no partition of both has come back to us in between: only the newer one's offset may be committed."""
    return all(older.tenures.get(tp) == newer.tenures.get(tp) for tp in older.offsets.keys() & newer.offsets.keys())
