"""A member of a consumer group that reads batches, also while the group rebalances, and commits only when told to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka import backoff_s
from infra.kafka_assignor import Partitions
from infra.kafka_consumer import BatchConsumer
from infra.kafka_membership import Membership
from infra.settings import KafkaSettings

logger = logging.getLogger(__name__)


class OwnershipListener(Protocol):
    """What a group's rebalances mean to whoever handles the messages. Partitions that stay are not spoken of."""

    async def on_assigned(self, partitions: Partitions) -> None:
        """Ours from now on; their first message comes after this has returned."""

    async def on_revoked(self, partitions: Partitions) -> None:
        """Another is to have them; no message of theirs comes any more. Finish and commit those that have come: when
        this has returned, the other begins at the last commit."""

    async def on_lost(self, partitions: Partitions) -> None:
        """Another has them, or had them meanwhile: nothing that was read of them may be committed any more."""


@dataclass(slots=True)
class _Place:
    """A partition that is read here. taken: its number in `Membership.held`; next: the offset to read next."""

    taken: int
    next: int


class GroupConsumer:
    """Reads its share of `topics`; partitions move between the members of `group` one by one, and who does not have to
    give one up reads on meanwhile. A group that has committed nothing begins at the beginning. Is started once.

    Args:
        batch_size: most messages one `getmany` returns.
        hold_ms: how long the broker may hold a fetch that finds nothing; None: as the settings say.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        group: str,
        listener: OwnershipListener,
        *,
        batch_size: int,
        hold_ms: int | None = None,
    ) -> None:
        self._group = group
        self._listener = listener
        self._changed = asyncio.Event()
        self._membership = Membership(settings, topics, group, self._changed.set)
        self._reader = BatchConsumer(settings, (), batch_size=batch_size, hold_ms=hold_ms)
        self._places: dict[TopicPartition, _Place] = {}
        self._settling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, join the group and take over the first partitions.

        Raises:
            ConfigurationError: the URL names no server, or it refuses us. BrokerUnavailable: it does not answer.
        """
        try:
            await self._reader.start()
            await self._membership.start()
            await self._settle()
        except BaseException:
            await self.stop()
            raise
        self._settling = asyncio.create_task(self._keep_settled(), name=f"partitions of {self._group}")

    async def stop(self) -> None:
        """Leave the group and disconnect. Commits nothing, and tells the listener nothing."""
        try:
            if self._settling is not None:
                self._settling.cancel()
                await asyncio.wait([self._settling])
        finally:
            self._settling = None
            try:
                await self._membership.stop()
            finally:
                await self._reader.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def assignment(self) -> Partitions:
        """What is ours and taken over, whether or not it is asked back."""
        return frozenset(self._places)

    async def positions(self) -> dict[TopicPartition, int]:
        """The next offset to read of each partition that is being read; those not known within a second are left
        out."""
        return await self._reader.positions()

    async def getmany(self, timeout_ms: int = 100) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Up to `batch_size` messages by partition, in order within it; empty when none came in time.

        Raises:
            BrokerUnavailable: the library gave up on the broker; calling again tries again.
            Exception: what the listener has raised.
        """
        self._membership.check()
        if self._settling is not None and self._settling.done() and not self._settling.cancelled():
            self._settling.result()
        records = await self._reader.getmany(timeout_ms)
        for place, part in records.items():
            self._places[place].next = part[-1].offset + 1
        return records

    async def commit(self, offsets: Mapping[TopicPartition, int], *, wait_s: float = 0.0) -> bool:
        """Commit the next offset to read of each partition, for those that are ours.

        wait_s: for our own join to end, during which nothing is committed; that takes a heartbeat, unless a member has
        died and its session must end first. The broker's answer is waited for no longer than a session.

        Returns False when not all of them are ours, we are still joining, or no answer came: to be tried again, or the
        next owner reads the messages again. True where there is nothing to commit.

        Raises:
            BrokerUnavailable: it refuses.
        """
        taken = {place: held.taken for place, held in self._places.items()}
        return await self._membership.commit(offsets, taken, wait_s)

    async def _keep_settled(self) -> None:
        failures = 0
        while True:
            await self._changed.wait()
            try:
                await self._settle()
                failures = 0
            except BrokerUnavailable as error:
                logger.warning("partitions of %s are taken over later: %s", self._group, error)
                self._changed.set()
                await asyncio.sleep(backoff_s(failures))
                failures += 1

    async def _settle(self) -> None:
        """Make what we read what is ours: begin with what has come, finish and give up what is asked back."""
        self._changed.clear()
        membership = self._membership
        await self._forget_lost()
        new = {place: number for place, number in membership.held.items() if place not in self._places}
        begin = await membership.committed(new.keys() - membership.asked_back)
        # One word of the group's; the next that comes meanwhile is for the next round.
        held, asked_back = membership.held, membership.asked_back
        gained = frozenset(place for place in begin if held.get(place) == new[place] and place not in asked_back)
        await self._forget_lost()
        if gained:
            await self._listener.on_assigned(gained)
            self._places |= {place: _Place(new[place], begin[place]) for place in gained}
        self._read(self.assignment - asked_back)
        finished = self.assignment & asked_back
        if finished:
            await self._listener.on_revoked(finished)
            for place in finished:
                del self._places[place]
        membership.give_up(asked_back)
        membership.announce()

    async def _forget_lost(self) -> None:
        held = self._membership.held
        lost = frozenset(place for place, here in self._places.items() if held.get(place) != here.taken)
        if not lost:
            return
        logger.warning("%s: %d partitions are not ours any more, or not without a gap", self._group, len(lost))
        for place in lost:
            del self._places[place]
        self._read(self._reader.assignment - lost)
        await self._listener.on_lost(lost)

    def _read(self, wanted: Partitions) -> None:
        if wanted != self._reader.assignment:
            self._reader.assign({place: self._places[place].next for place in wanted})
