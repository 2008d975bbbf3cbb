"""The standing feed: subscribed customers get a new list on `recommendations` after their events.

    customer-updates (from the worker, after the save) -> debounce -> the responder's own answer -> recommendations

At least once: an update is committed when its answer is on the topic, or where nobody can read it, it itself on the
dead letters; an answer given again has the same request_id. Processes share the customers as the partitions of their
group.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from functools import partial
from typing import NoReturn

from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.clock import Clock, SystemClock
from infra.errors import InvalidMessage, Unavailable
from infra.kafka import backoff_s
from infra.kafka_assignor import Partitions
from infra.kafka_group import GroupConsumer
from infra.kafka_probe import unread
from infra.settings import Settings
from infra.telemetry import counter
from serving.debounce import Debounce
from serving.messages import STRATEGIES, RecommendationRequest
from serving.responder import Responder
from streams.batches import times_requeued
from streams.intake import CLOSE_S, GIVING_UP_S, LEAVE_S, REPLACED
from streams.processor import RawMessage
from streams.stall import StallWatch
from streams.subscriptions import CustomerUpdate, Subscriptions, parse_update
from streams.topics import CUSTOMER_UPDATES

logger = logging.getLogger(__name__)

IDLE_MS = 1_000
RETRY = timedelta(seconds=1)
BATCH = 500
HOLD_MS = 100  # a fifth of the rest that updates are given anyway
# Customers answered at a time: who asks on the topic meanwhile waits no longer than for a batch of requests.
ANSWERED = 32

FEED = counter("feed", "Updates of subscribed customers, by outcome.", ["outcome"])


class Feed:
    """Runs between `start` and `stop`, in the process of the responder it answers by.

    clock: the shop's, by which subscriptions end. wall: by which customers are waited for.
    """

    def __init__(
        self,
        settings: Settings,
        responder: Responder,
        subscriptions: Subscriptions,
        clock: Clock,
        *,
        wall: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._responder = responder
        self._subscriptions = subscriptions
        self._clock = clock
        self._wall = wall or SystemClock()
        self._debounce: Debounce[TopicPartition] = Debounce()
        self._committed: dict[TopicPartition, int] = {}
        self._refused: list[tuple[RawMessage, InvalidMessage]] = []
        self._consumer: GroupConsumer | None = None
        kafka = settings.kafka
        self._watch = StallWatch(partial(unread, kafka), kafka.stall_timeout_ms / 1_000)
        self._failures = 0
        self._answering = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._subscriptions.start()
        self._task = asyncio.create_task(self._follow(), name="feed")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            # In the middle of joining, leaving would wait until the group has formed.
            await asyncio.wait([self._task], timeout=LEAVE_S)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._subscriptions.stop()

    async def _follow(self) -> None:
        while True:
            self._debounce, self._committed, self._refused = Debounce(), {}, []
            consumer = GroupConsumer(
                self._settings.kafka,
                [CUSTOMER_UPDATES],
                f"{self._settings.responder.group}-feed",
                self,
                batch_size=BATCH,
                hold_ms=HOLD_MS,
            )
            try:
                await consumer.start()
                try:
                    self._consumer = consumer
                    reason = await self._watch.over(self._turns(consumer), consumer.positions)
                    REPLACED.inc()
                    logger.error("the feed's consumer has stalled: %s; leaving the group and joining again", reason)
                finally:
                    await self._close(consumer)
            except Unavailable as error:
                logger.warning("the feed waits: %s", error)
            except Exception:  # what one update does must not end the feed of all
                logger.exception("the feed begins again")
            await asyncio.sleep(backoff_s(self._failures, base_s=0.5))
            self._failures += 1

    async def _close(self, consumer: GroupConsumer) -> None:
        """Leave the group; one that cannot is cut off, and the group finds out when its session ends."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await consumer.stop()
        except TimeoutError:
            logger.error("the feed's consumer did not close within %.0f s and was cut off", CLOSE_S)
        except Unavailable as error:
            logger.warning("the feed left the group without a word from the broker: %s", error)

    async def on_assigned(self, partitions: Partitions) -> None:
        """Nothing is known of them yet."""
        if partitions:
            self._watch.begin()

    async def on_revoked(self, partitions: Partitions) -> None:
        """Who is answered now is answered here; who is still waited for is the next owner's."""
        async with self._answering:
            await self._give_letters()
            answered = {tp: at for tp, at in self._debounce.committable().items() if tp in partitions}
            await self.on_lost(partitions)
        if self._consumer is not None:
            await self._consumer.commit(answered, wait_s=GIVING_UP_S)

    async def on_lost(self, partitions: Partitions) -> None:
        """What is not answered yet is another's."""
        self._debounce.drop(partitions)
        for partition in partitions:
            self._committed.pop(partition, None)

    async def _turns(self, consumer: GroupConsumer) -> NoReturn:
        while True:
            await self._turn(consumer)
            self._failures = 0

    async def _turn(self, consumer: GroupConsumer) -> None:
        if self._debounce.full:
            await asyncio.sleep(self._pause_ms() / 1_000)
        else:
            with self._watch.asking():
                found = await consumer.getmany(timeout_ms=self._pause_ms())
            if found:
                self._watch.begin()
            for partition, records in found.items():
                for record in records:
                    self.note(partition, record)
        async with self._answering:
            await self._give_letters()
            while due := self._debounce.take(self._wall.now(), ANSWERED):
                await self.answer(due)
            offsets = {tp: at for tp, at in self._debounce.committable().items() if at > self._committed.get(tp, -1)}
            if offsets and await consumer.commit(offsets):
                self._committed.update(offsets)

    def _pause_ms(self) -> int:
        due = self._debounce.next_due()
        left = IDLE_MS if due is None else (due - self._wall.now()).total_seconds() * 1_000
        return int(min(max(left, 1), IDLE_MS))

    def note(self, partition: TopicPartition, record: ConsumerRecord) -> None:
        """Somebody acted: they are due after their subscription's wait. Who has none by now is left out."""
        self._debounce.read(partition, record.offset)
        try:
            update = parse_update(record.value)
        except InvalidMessage as error:
            logger.warning("%s/%d@%d: %s", partition.topic, partition.partition, record.offset, error)
            times = times_requeued(record.headers)
            message = RawMessage(partition.topic, partition.partition, record.offset, record.key, record.value, times)
            self._refused.append((message, error))
            return
        subscription = self._subscriptions.of(update.customer_id, self._clock.now())
        if subscription is not None:
            wait = timedelta(milliseconds=subscription.debounce_ms)
            self._debounce.add(update, self._wall.now(), wait, partition, record.offset)

    async def _give_letters(self) -> None:
        """What nobody can use goes to the dead letters before it is committed."""
        if refused := self._refused[:]:
            await self._responder.refuse(refused)
            FEED.labels("rejected").inc(len(refused))
            del self._refused[: len(refused)]  # more may have come meanwhile, of partitions that stay

    async def answer(self, due: list[CustomerUpdate]) -> None:
        """Answer who is due; who cannot be answered from the store now is due again.

        Raises:
            BrokerUnavailable: the answers are not on the topic.
        """
        now = self._clock.now()
        # Looked up again: who ended the subscription meanwhile gets nothing more.
        wanted = [(update, self._subscriptions.of(update.customer_id, now)) for update in due]
        asked = [
            RecommendationRequest(
                request_id=f"feed-{update.event}",
                customer_id=update.customer_id,
                k=subscription.k,
                strategy=subscription.strategy if subscription.strategy in STRATEGIES else "full",
                rerank="none",  # nobody waits for it, and every event of every subscriber would be a call
            )
            for update, subscription in wanted
            if subscription is not None
        ]
        sent = await self._responder.refresh(asked) if asked else set()
        late = [u for u, subscription in wanted if subscription is not None and f"feed-{u.event}" not in sent]
        self._debounce.again(late, self._wall.now() + RETRY)
        self._debounce.answered(update for update in due if update not in late)
        FEED.labels("sent").inc(len(sent))
        FEED.labels("delayed").inc(len(late))
