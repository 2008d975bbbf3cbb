"""Whether a consumer has stalled: only what it asks for in vain counts, and only what lies there twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest
from aiokafka.structs import TopicPartition

from infra.errors import BrokerUnavailable
from streams.stall import StallWatch

ZERO = TopicPartition("t", 0)
STALL_S = 0.1
LONG_S = 8 * STALL_S


class Reader:
    """Stands at offset 3. `there`: what a second connection finds."""

    def __init__(self, there: Mapping[TopicPartition, int]) -> None:
        self.there = there
        self.at = 3
        self.looks = 0
        self.away = False
        self.watch = StallWatch(self.unread, STALL_S)

    async def unread(self, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        self.looks += 1
        if self.away:
            raise BrokerUnavailable("nobody answers")
        return self.there

    async def positions(self) -> dict[TopicPartition, int]:
        return {ZERO: self.at}

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[asyncio.Task[str]]:
        task = asyncio.create_task(self.watch.stalled(self.positions))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_who_asks_in_vain_for_what_is_there_has_stalled() -> None:
    reader = Reader({ZERO: 4})
    async with reader.watched() as watching:
        with reader.watch.asking():
            reason = await asyncio.wait_for(watching, 10.0)
    assert reason.endswith("though a second connection finds t/0@4")
    assert reader.looks == 2


async def test_who_asks_many_times_in_vain_has_stalled_too() -> None:
    reader = Reader({ZERO: 3})
    async with reader.watched() as watching:
        for _ in range(1_000):
            with reader.watch.asking():
                await asyncio.sleep(STALL_S / 10)
            if watching.done():
                break
        assert "t/0@3" in watching.result()


async def test_what_a_reader_does_in_between_is_no_stall() -> None:
    """A commit that waits, an answer that takes long: however much lies there meanwhile."""
    reader = Reader({ZERO: 3})
    async with reader.watched() as watching:
        with reader.watch.asking():
            await asyncio.sleep(STALL_S * 0.9)
        await asyncio.sleep(LONG_S)
        assert not watching.done()
    assert reader.looks == 0


async def test_who_reads_goes_on_and_who_finds_nothing_too() -> None:
    reader = Reader({ZERO: 3})
    async with reader.watched() as watching:
        with reader.watch.asking():
            for _ in range(40):
                await asyncio.sleep(STALL_S / 5)
                reader.watch.begin()
        assert not watching.done() and reader.looks == 0
        reader.there = {}
        with reader.watch.asking():
            await asyncio.sleep(LONG_S)
        assert not watching.done() and reader.looks >= 2


@pytest.mark.parametrize("moves", [True, False], ids=["reads on unseen", "nobody answers"])
async def test_what_proves_nothing_is_no_stall(moves: bool) -> None:
    reader = Reader({ZERO: 9})
    reader.away = not moves

    async def moving() -> dict[TopicPartition, int]:
        reader.at += 1
        return {ZERO: reader.at}

    if moves:
        reader.positions = moving  # type: ignore[method-assign]
    async with reader.watched() as watching:
        with reader.watch.asking():
            await asyncio.sleep(LONG_S)
        assert not watching.done() and reader.looks >= 2


async def test_over_a_reader_that_stalls_says_why_and_cancels_it() -> None:
    reader, cancelled = Reader({ZERO: 4}), asyncio.Event()

    async def reads() -> str:
        try:
            with reader.watch.asking():
                await asyncio.sleep(60.0)
        finally:
            cancelled.set()
        raise AssertionError

    reason = await asyncio.wait_for(reader.watch.over(reads(), reader.positions), 10.0)
    assert reason.endswith("though a second connection finds t/0@4")
    assert cancelled.is_set()


async def test_over_a_reader_that_ends_gives_what_it_says() -> None:
    reader = Reader({})

    async def ends() -> str:
        return "every read failed"

    async def raises() -> str:
        raise BrokerUnavailable("away")

    async def is_cancelled() -> str:
        raise asyncio.CancelledError

    assert await reader.watch.over(ends(), reader.positions) == "every read failed"
    assert await reader.watch.over(is_cancelled(), reader.positions) == "reading was cancelled"
    with pytest.raises(BrokerUnavailable, match="away"):
        await reader.watch.over(raises(), reader.positions)
    assert asyncio.all_tasks() == {asyncio.current_task()}  # nobody looks on


async def test_who_cancels_over_cancels_the_reader() -> None:
    reader, cancelled = Reader({}), asyncio.Event()

    async def reads() -> str:
        try:
            await asyncio.sleep(60.0)
        finally:
            cancelled.set()
        return ""

    over = asyncio.create_task(reader.watch.over(reads(), reader.positions))
    await asyncio.sleep(0.05)
    over.cancel()
    with pytest.raises(asyncio.CancelledError):
        await over
    assert cancelled.is_set()
