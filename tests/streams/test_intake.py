"""The reading side: order, bound, drain, commits that are tried again; and consumers that really have stalled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.kafka_group import GroupConsumer, OwnershipListener
from infra.kafka_probe import unread
from infra.settings import KafkaSettings
from streams.batches import Batch
from streams.intake import GIVING_UP_S, LAST_COMMIT_S, Intake, Limits

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
ONE = frozenset({P0})


class ToyConsumer:
    """A broker's edge that can be told to fail: gives one record a read up to `end`, refuses the next commits."""

    def __init__(self, listener: OwnershipListener) -> None:
        self.listener = listener
        self.partition = P0
        self.end = 0
        self.position = 0
        self.refusals: list[bool | BrokerUnavailable] = []
        self.committed: list[Mapping[TopicPartition, int]] = []
        self.takes_s = 0.0
        self.waits: list[float] = []
        self.stopped = False

    async def start(self) -> None:
        await self.listener.on_assigned(ONE)

    async def stop(self) -> None:
        self.stopped = True

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        await asyncio.sleep(0.001)
        if self.position >= self.end:
            return {}
        place = self.partition
        record = ConsumerRecord(place.topic, place.partition, self.position, 0, 0, None, b"", None, 0, 0, ())
        self.position += 1
        return {place: [record]}

    async def commit(self, offsets: Mapping[TopicPartition, int], *, wait_s: float = 0.0) -> bool:
        self.waits.append(wait_s)
        await asyncio.sleep(self.takes_s)
        if self.refusals:
            answer = self.refusals.pop(0)
            if isinstance(answer, BrokerUnavailable):
                raise answer
            return answer
        self.committed.append(dict(offsets))
        return True

    async def positions(self) -> dict[TopicPartition, int]:
        return {self.partition: self.position}


async def nothing_unread(_: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    return {}


class Bench:
    """An intake on toy consumers and a queue of two batches, running."""

    def __init__(self, unread: Any = nothing_unread, stall_s: float = 60.0, batch: int = 1) -> None:
        self.consumers: list[ToyConsumer] = []
        self.queue: asyncio.Queue[Batch] = asyncio.Queue(2)
        self.intake = Intake(self._make, self.queue.put, unread, Limits(drain_s=0.3, stall_s=stall_s, batch=batch))

    def _make(self, listener: OwnershipListener) -> ToyConsumer:
        self.consumers.append(ToyConsumer(listener))
        return self.consumers[-1]

    @property
    def consumer(self) -> ToyConsumer:
        return self.consumers[-1]

    async def apply(self) -> int:
        """Take one batch as the handler would; returns its first offset."""
        return (await self.apply_all())[0]

    async def apply_all(self) -> list[int]:
        """Take one batch as the handler would; returns its offsets."""
        batch = await self.queue.get()
        messages = batch.take()
        self.intake.finished(batch, ok=True)
        return [message.offset for message in messages]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Bench]:
        await self.intake.start()
        self.tasks = [asyncio.create_task(self.intake.read()), asyncio.create_task(self.intake.commit_finished())]
        try:
            yield self
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)


async def eventually(true: Callable[[], bool], *, seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.005)):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"not so within {seconds:g} s")


async def test_reads_in_order_and_no_further_than_the_channel_holds() -> None:
    async with Bench().running() as bench:
        bench.consumer.end = 100
        await eventually(bench.queue.full)
        await asyncio.sleep(0.05)
        assert bench.consumer.position == 3  # two in the channel, one waiting for room
        assert [await bench.apply() for _ in range(10)] == list(range(10))
        await eventually(lambda: {P0: 10} in bench.consumer.committed)
        assert bench.consumer.position <= 13


async def test_what_comes_while_the_handler_is_at_work_is_its_next_batch() -> None:
    async with Bench(batch=4).running() as bench:
        bench.consumer.end = 1
        at_work = await bench.queue.get()
        assert [message.offset for message in at_work.take()] == [0]
        bench.consumer.end = 6
        await eventually(lambda: bench.consumer.position == 6)
        await eventually(lambda: bench.queue.qsize() == 2)
        bench.intake.finished(at_work, ok=True)
        assert await bench.apply_all() == [1, 2, 3, 4]  # no more than four
        assert await bench.apply_all() == [5]
        await eventually(lambda: {P0: 6} in bench.consumer.committed)
        assert len(at_work) == 1  # what was taken never grows


async def test_reads_no_further_than_full_batches_in_the_channel() -> None:
    async with Bench(batch=4).running() as bench:
        bench.consumer.end = 100
        await eventually(bench.queue.full)
        await asyncio.sleep(0.1)
        assert bench.consumer.position == 9  # two batches of four in the channel, one message waiting for room


@pytest.mark.parametrize("refusal", [False, BrokerUnavailable("away")])
async def test_refused_commit_is_tried_again_without_new_traffic(refusal: bool | BrokerUnavailable) -> None:
    async with Bench().running() as bench:
        bench.consumer.refusals = [refusal, refusal]
        bench.consumer.end = 1
        await bench.apply()
        await eventually(lambda: bench.consumer.committed == [{P0: 1}])


async def test_small_batches_are_committed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first at once, those that end within the next half second with one commit."""
    monkeypatch.setattr("streams.intake.COMMIT_EVERY_S", 0.5)
    async with Bench().running() as bench:
        bench.consumer.end = 50
        for _ in range(50):
            await bench.apply()
        await eventually(lambda: {P0: 50} in bench.consumer.committed)
        assert len(bench.consumer.committed) <= 3


async def test_a_batch_that_ends_during_a_commit_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would be tried again after longer and longer pauses."""
    monkeypatch.setattr("streams.intake.COMMIT_EVERY_S", 0.0)
    monkeypatch.setattr("streams.intake.backoff_s", lambda attempt: pytest.fail("nothing was refused"))
    async with Bench().running() as bench:
        bench.consumer.takes_s = 0.02
        bench.consumer.end = 20
        for _ in range(20):
            await bench.apply()
            await asyncio.sleep(0.005)
        await eventually(lambda: {P0: 20} in bench.consumer.committed)


async def test_partition_is_given_up_after_its_batches_and_their_commit() -> None:
    async with Bench().running() as bench:
        bench.consumer.end = 2
        await eventually(bench.queue.full)
        leaving = asyncio.create_task(bench.consumer.listener.on_revoked(ONE))
        await asyncio.sleep(0.02)
        assert not leaving.done()
        await bench.apply()
        await bench.apply()
        await leaving
        assert bench.consumer.committed[-1] == {P0: 2}
        assert bench.consumer.waits[-1] == GIVING_UP_S  # nobody can have it before our join has ended


async def test_partition_that_goes_waits_for_its_messages_and_for_none_that_come_after() -> None:
    async with Bench(batch=100).running() as bench:
        bench.consumer.end = 1
        at_work = await bench.queue.get()
        at_work.take()
        bench.consumer.end = 4
        await eventually(lambda: bench.consumer.position == 4)
        await bench.consumer.listener.on_assigned(frozenset({P1}))
        leaving = asyncio.create_task(bench.consumer.listener.on_revoked(ONE))
        await asyncio.sleep(0.02)
        bench.consumer.partition, bench.consumer.position, bench.consumer.end = P1, 0, 2
        await eventually(lambda: bench.consumer.position == 2)
        bench.intake.finished(at_work, ok=True)
        assert await bench.apply_all() == [1, 2, 3]
        await leaving
        assert bench.consumer.committed[-1] == {P0: 4}
        assert await bench.apply_all() == [0, 1]
        await eventually(lambda: {P1: 2} in bench.consumer.committed)


async def test_stop_finishes_what_waits_together() -> None:
    async with Bench(batch=100).running() as bench:
        bench.consumer.end = 5
        await eventually(lambda: bench.consumer.position == 5)
        stopping = asyncio.create_task(bench.intake.stop())
        await asyncio.sleep(0.02)
        assert await bench.apply_all() == [0, 1, 2, 3, 4]
        await stopping
        assert bench.consumer.committed == [{P0: 5}]


async def test_reader_that_is_replaced_forgets_only_what_it_could_not_hand_over() -> None:
    async with Bench(batch=2, stall_s=0.1).running() as bench:
        bench.consumer.end = 100
        await eventually(bench.queue.full)
        await eventually(lambda: bench.consumer.position == 5)  # twice two, and one that waits for room
        bench.tasks[0].cancel()
        await asyncio.wait(bench.tasks[:1])
        assert await bench.apply_all() == [0, 1]
        assert await bench.apply_all() == [2, 3]
        await eventually(lambda: {P0: 4} in bench.consumer.committed)  # the fifth comes again
        assert bench.queue.empty()


@pytest.mark.parametrize("batch", [1, 100])
async def test_batch_that_is_late_for_a_rebalance_never_sets_the_group_back(batch: int) -> None:
    async with Bench(batch=batch).running() as bench:
        bench.consumer.end = 1
        await eventually(lambda: bench.queue.qsize() == 1)
        await bench.consumer.listener.on_revoked(ONE)  # gives up after drain_s
        await bench.consumer.listener.on_assigned(ONE)  # back, after another worker has read on to 500
        bench.consumer.position, bench.consumer.end = 500, 501
        assert [await bench.apply(), await bench.apply()] == [0, 500]
        await eventually(lambda: bool(bench.consumer.committed))
        assert bench.consumer.committed == [{P0: 501}]


async def test_what_stays_is_committed_whatever_else_comes_and_goes() -> None:
    async with Bench().running() as bench:
        bench.consumer.end = 1
        await eventually(lambda: bench.queue.qsize() == 1)
        await bench.consumer.listener.on_assigned(frozenset({P1}))
        await bench.consumer.listener.on_revoked(frozenset({P1}))
        await bench.apply()
        await eventually(lambda: bench.consumer.committed == [{P0: 1}])


async def test_what_is_lost_is_not_waited_for_and_never_committed() -> None:
    async with Bench().running() as bench:
        bench.consumer.end = 1
        await eventually(lambda: bench.queue.qsize() == 1)
        await asyncio.wait_for(bench.consumer.listener.on_lost(ONE), 0.1)  # drain_s is 0.3
        await bench.apply()
        await asyncio.sleep(0.05)
        assert bench.consumer.committed == []


async def test_stop_finishes_commits_and_leaves() -> None:
    async with Bench().running() as bench:
        bench.consumer.end = 1
        await eventually(lambda: bench.queue.qsize() == 1)
        stopping = asyncio.create_task(bench.intake.stop())
        await asyncio.sleep(0.02)
        assert not bench.consumer.stopped
        await bench.apply()
        await stopping
        assert bench.consumer.stopped
        assert bench.consumer.committed == [{P0: 1}]
        assert bench.consumer.waits[-1] == LAST_COMMIT_S


async def test_consumer_whose_reads_only_fail_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async with Bench(stall_s=0.1).running() as bench:

        async def fails(_: int) -> Any:
            raise BrokerUnavailable("coordination has ended")

        first = bench.consumer
        first.getmany = fails  # type: ignore[method-assign]
        await eventually(lambda: len(bench.consumers) == 2)
        assert first.stopped
        assert "failed (coordination has ended)" in caplog.text


async def test_idle_topic_and_a_full_channel_are_no_stall() -> None:
    looks: list[Mapping[TopicPartition, int]] = []

    async def everything_unread(positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        looks.append(positions)
        return positions

    async def nothing(positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        looks.append(positions)
        return {}

    async with Bench(nothing, stall_s=0.05).running() as idle:
        await eventually(lambda: len(looks) > 3)
        assert len(idle.consumers) == 1
    looks.clear()
    async with Bench(everything_unread, stall_s=0.05).running() as full:
        full.consumer.end = 100
        await eventually(full.queue.full)
        await asyncio.sleep(0.3)
        assert looks == []
        assert len(full.consumers) == 1


def pause(consumer: Any) -> None:
    consumer.pause(*consumer.assignment())


def end_fetching(consumer: Any) -> None:
    consumer._fetcher._fetch_task.cancel()


def end_coordination(consumer: GroupConsumer) -> None:
    """As an error that the library does not expect would."""

    async def fails(_: object) -> None:
        raise RuntimeError("unexpected")

    coordinator = consumer._membership._coordinator
    coordinator._maybe_do_autocommit = fails
    coordinator.request_rejoin()


@pytest.mark.broker
@pytest.mark.parametrize(
    ("stall", "said"),
    [
        (lambda consumer: pause(consumer._reader._consumer), "though a second connection finds"),
        (lambda consumer: end_fetching(consumer._reader._consumer), "though a second connection finds"),
        (end_coordination, "failed .*coordination"),
    ],
    ids=["paused", "no fetches", "no coordination"],
)
async def test_stalled_consumer_is_replaced_and_nothing_is_lost(
    kafka_url: str, stall: Callable[[GroupConsumer], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kafka = KafkaSettings(url=kafka_url, session_timeout_ms=6_000)
    topic = f"test-{uuid.uuid4().hex[:8]}"
    await ensure_topics(kafka, [TopicSpec(topic, 2)])
    consumers: list[GroupConsumer] = []

    def make(listener: OwnershipListener) -> GroupConsumer:
        consumers.append(GroupConsumer(kafka, [topic], f"g-{topic}", listener, batch_size=100))
        return consumers[-1]

    seen: list[bytes] = []

    async def take(batch: Batch) -> None:
        seen.extend(message.value or b"" for message in batch.take())
        intake.finished(batch, ok=True)

    intake = Intake(make, take, partial(unread, kafka), Limits(drain_s=1.0, stall_s=1.0, batch=100))
    await intake.start()
    tasks = [asyncio.create_task(intake.read()), asyncio.create_task(intake.commit_finished())]
    async with Producer(kafka) as producer:
        await producer.send_many((topic, str(n).encode(), b"a%d" % n) for n in range(20))
        await eventually(lambda: len(seen) == 20, seconds=30)
        stall(consumers[0])
        await asyncio.sleep(0.3)  # a fetch that is out still brings what it finds
        await producer.send_many((topic, str(n).encode(), b"b%d" % n) for n in range(20))
        await eventually(lambda: len(seen) >= 40 and len(consumers) > 1, seconds=30)
    await intake.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(seen) == sorted([b"a%d" % n for n in range(20)] + [b"b%d" % n for n in range(20)])
    assert len(consumers) == 2
    assert re.search(said, caplog.text)
