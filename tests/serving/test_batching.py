"""Who waits for whom: nobody alone, everybody behind the batch that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serving.batching import Batches


class Slow:
    """Doubles numbers, each batch when it is let; refuses zero."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.let = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.let.wait()
        if 0 in numbers:
            raise ValueError("zero")
        return [2 * number for number in numbers]


async def test_the_first_goes_alone_and_those_after_it_together() -> None:
    slow = Slow()
    batches = Batches(slow, most=3)
    asked = [asyncio.create_task(batches(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked += [asyncio.create_task(batches(number)) for number in range(2, 7)]
    await asyncio.sleep(0)
    assert slow.batches == [[1]]
    slow.let.set()
    assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10, 12]
    assert slow.batches == [[1], [2, 3, 4], [5, 6]]


async def test_one_that_is_gone_is_not_worked_for() -> None:
    slow = Slow()
    batches = Batches(slow, most=8)
    first, gone, last = (asyncio.create_task(batches(number)) for number in (1, 2, 3))
    await asyncio.sleep(0)
    gone.cancel()
    slow.let.set()
    assert await asyncio.gather(first, last) == [2, 6]
    assert slow.batches == [[1, 3]]


async def test_what_fails_fails_for_its_batch_alone() -> None:
    slow = Slow()
    slow.let.set()
    batches = Batches(slow, most=2)
    found = await asyncio.gather(*map(batches, (1, 0, 3, 4)), return_exceptions=True)
    assert [type(one) for one in found] == [ValueError, ValueError, int, int]
    assert await batches(5) == 10


async def test_nobody_is_left_waiting_for_work_that_was_cancelled() -> None:
    slow = Slow()
    batches = Batches(slow, most=1)
    asked = [asyncio.create_task(batches(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (working,) = (task for task in asyncio.all_tasks() if task.get_name() == "batches")
    working.cancel()
    for task in asked:
        with pytest.raises(asyncio.CancelledError):
            await task
