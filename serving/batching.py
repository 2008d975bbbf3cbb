"""Work that is cheaper done together, without waiting for company."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Batches(Generic[Given, Made]):
    """One batch at a time: who comes while it is worked on waits for the next, in which all of them are.

    Nobody waits where nobody is before them. Threads that compute at once would only take the interpreter's lock from
    each other.

    Args:
        work: makes one of each given, in order; what it raises is raised to all who are in the batch.
        most: in one batch.
    """

    def __init__(self, work: Callable[[Sequence[Given]], Awaitable[Sequence[Made]]], most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[tuple[Given, asyncio.Future[Made]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, given: Given) -> Made:
        """What `work` makes of `given`."""
        future: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._waiting.append((given, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="batches")
        return await future

    async def _run(self) -> None:
        batch: list[tuple[Given, asyncio.Future[Made]]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                batch = [(given, future) for given, future in batch if not future.done()]  # else gone meanwhile
                if batch:
                    await self._do(batch)
        finally:
            self._task = None
            for _, future in (*batch, *self._waiting):  # none is left unless this task was cancelled
                future.cancel()
            self._waiting.clear()

    async def _do(self, batch: Sequence[tuple[Given, asyncio.Future[Made]]]) -> None:
        try:
            made = await self._work([given for given, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), one in zip(batch, made, strict=True):
                if not future.done():
                    future.set_result(one)
