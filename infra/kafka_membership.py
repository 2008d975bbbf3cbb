"""Membership of a consumer group: what is ours, commits, and nothing read.

aiokafka's consumer stops reading for as long as its group rebalances. So here is the part of it that stands in a group,
its coordinator, without the part that fetches; `infra.kafka_group` reads by a consumer that belongs to no group and
need not stop. (A second consumer with its partitions paused would do, but its fetcher asks for leaders as fast as it
can while a broker is away.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CommitFailedError, InconsistentGroupProtocolError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from infra.errors import BrokerUnavailable, ConfigurationError
from infra.kafka import begun, broker_errors, connecting
from infra.kafka_assignor import CooperativeAssignor, Partitions
from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings

logger = logging.getLogger(__name__)

# A member learns of a rebalance by its heartbeat, and nothing moves until the last one has learned of it.
HEARTBEAT_MS = 100
# The coordinator takes whoever reads nothing for dead. How often it is told otherwise, and asked for its errors.
POLL_S = 0.5


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """A place in `group`, sharing the partitions of `topics` by the cooperative protocol.

    held: what is ours, each with a number that is another one whenever it was not ours in between. asked_back: those of
    them that are to be given up, when their messages are finished and committed. `on_change` is called when they have
    changed, and when there is something to `announce`.
    """

    def __init__(
        self, settings: KafkaSettings, topics: Iterable[str], group: str, on_change: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._group = group
        self._on_change = on_change
        self._assignor = CooperativeAssignor()
        self._client: Any = None
        self._subscription: Any = None
        self._coordinator: Any = None
        self._polling: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()
        self._committing = asyncio.Lock()
        self._adrift: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    @property
    def held(self) -> Mapping[TopicPartition, int]:
        return self._assignor.held

    @property
    def asked_back(self) -> Partitions:
        return self._assignor.asked_back

    async def start(self) -> None:
        """Connect and join.

        Raises:
            ConfigurationError: the URL names no server, it refuses us, or the group's members are of another kind.
            BrokerUnavailable: it does not answer.
        """
        settings = self._settings
        request_timeout_ms = max(settings.request_timeout_ms, settings.session_timeout_ms)
        self._client = AIOKafkaClient(request_timeout_ms=request_timeout_ms, **client_arguments(settings))
        self._subscription = SubscriptionState()
        self._subscription.register_fetch_waiters(set())  # nobody fetches
        try:
            async with connecting(settings):
                with self._others_told():
                    await begun(self._client.bootstrap())
                    await self._client.set_topics(self._topics)
                    self._subscription.subscribe(set(self._topics), listener=self)
                    assigned = self._subscription.wait_for_assignment()
                    self._coordinator = GroupCoordinator(
                        self._client,
                        self._subscription,
                        group_id=self._group,
                        enable_auto_commit=False,
                        session_timeout_ms=settings.session_timeout_ms,
                        rebalance_timeout_ms=settings.session_timeout_ms,
                        heartbeat_interval_ms=max(1, min(HEARTBEAT_MS, settings.session_timeout_ms // 5)),
                        assignors=(self._assignor,),
                    )
                    await assigned
        except BaseException:
            await self.stop()
            raise
        self._polling = asyncio.create_task(self._poll(), name=f"membership of {self._group}")

    async def stop(self) -> None:
        """Leave the group: what was ours is the others' at once. Commits nothing."""
        try:
            if self._polling is not None:
                self._polling.cancel()
                await asyncio.wait([self._polling])
        finally:
            self._polling = None
            try:
                with broker_errors(self._settings):
                    if self._coordinator is not None:
                        await self._coordinator.close()
            finally:
                self._at_rest()
                if self._client is not None:
                    await self._client.close()

    def check(self) -> None:
        """Raise what is wrong with our membership, for as long as it is.

        Raises:
            ConfigurationError, BrokerUnavailable: see `infra.kafka.broker_errors`.
        """
        if self._error is not None:
            with broker_errors(self._settings), self._others_told():
                raise self._error
        if self._polling is not None and self._polling.done():
            self._polling.result()

    def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """These are no longer ours; their next owner may have them when that is announced."""
        self._assignor.give_up(partitions)

    def announce(self) -> None:
        """Join again if the group believes that we hold what we have given up."""
        if self._joined.is_set() and self._subscription.assigned_partitions() != self.held.keys():
            self._on_the_move()
            self._coordinator.request_rejoin()

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset that the group goes on from, for each partition; 0 where it has committed none.

        Waits for a broker that is away.

        Raises:
            BrokerUnavailable: it refuses.
        """
        wanted = list(partitions)
        with broker_errors(self._settings):
            found = await self._coordinator.fetch_committed_offsets(wanted)
        return {place: found[place].offset if place in found else 0 for place in wanted}

    async def commit(
        self, offsets: Mapping[TopicPartition, int], taken: Mapping[TopicPartition, int], wait_s: float
    ) -> bool:
        """Commit the next offset to read of each partition, for those that have been ours all the time.

        Args:
            taken: the numbers in `held` under which the messages were read.
            wait_s: for our own join to end, during which nothing is committed. The broker's answer is waited for no
                longer than a session, at the end of which it has forgotten us.

        Returns False when not all of them are ours, we are still joining, or no answer came: to be tried again, or the
        next owner reads the messages again. True where there is nothing to commit.

        Raises:
            BrokerUnavailable: it refuses.
        """
        if not offsets:
            return True
        try:
            async with asyncio.timeout(wait_s):
                await self._joined.wait()
        except TimeoutError:
            return False
        async with self._committing:
            ours = self.held.items() & taken.items()
            mine = {place: offsets[place] for place, _ in ours if place in offsets}
            if not mine or not self._joined.is_set():
                return False
            try:
                # aiokafka itself would try for ever, also when it has been closed.
                async with asyncio.timeout(self._settings.session_timeout_ms / 1_000):
                    with broker_errors(self._settings):
                        await self._coordinator.commit_offsets(
                            self._subscription.subscription.assignment,
                            {place: OffsetAndMetadata(offset, "") for place, offset in mine.items()},
                        )
            except TimeoutError:
                return False
            except BrokerUnavailable as error:
                if isinstance(error.__cause__, CommitFailedError):
                    return False
                raise
        return len(mine) == len(offsets)

    async def on_partitions_revoked(self, _: Iterable[TopicPartition]) -> None:
        """aiokafka is about to join. What it calls revoked is not: the assignor claims it."""
        self._on_the_move()
        # A commit on its way past our own join would reach a group of the next generation, as from a stranger.
        async with self._committing:
            pass

    async def on_partitions_assigned(self, _: Iterable[TopicPartition]) -> None:
        """aiokafka has joined."""
        self._at_rest()
        self._joined.set()
        self._on_change()

    def _on_the_move(self) -> None:
        """From here to the assignment nothing is committed. If it does not come, others have our partitions."""
        self._joined.clear()
        if self._adrift is None:
            # The broker answers a join within one session timeout, and forgets a member after another.
            limit_s = 2 * self._settings.session_timeout_ms / 1_000
            self._adrift = asyncio.get_running_loop().call_later(limit_s, self._lose, limit_s)

    def _at_rest(self) -> None:
        if self._adrift is not None:
            self._adrift.cancel()
            self._adrift = None

    def _lose(self, after_s: float) -> None:
        self._adrift = None
        if self.held:
            logger.warning("group %s: no answer for %.0f s; what was ours may be another's", self._group, after_s)
            self._assignor.give_up(self.held)
            self._on_change()

    @contextlib.contextmanager
    def _others_told(self) -> Iterator[None]:
        try:
            yield
        except InconsistentGroupProtocolError as error:
            raise ConfigurationError(
                f"consumer group {self._group!r} at {self._settings.url} has members that share its partitions by "
                f"another protocol than {self._assignor.name}: other programs, or ours of before it; stop them all "
                "first, or name another group"
            ) from error

    async def _poll(self) -> None:
        while True:
            try:
                with self._subscription.fetch_context():
                    self._coordinator.check_errors()
                self._error = None
            except KafkaError as error:
                self._error = error
            await asyncio.sleep(POLL_S)
