"""Why something was shown, afterwards: the newest answers with their traces, kept for a bounded time in bounded memory.

Every answer over HTTP is kept in the process that gave it. Those whose request said `explain`, on the topic too, are
also kept where other processes find them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from serving.answers import Explanation
from serving.messages import Recommendations

log = logging.getLogger(__name__)

SHARE_WITHIN_S = 0.1


class Shared(Protocol):
    """Keeps values for other processes (`serving.redis_explanations`). Both may raise StoreUnavailable."""

    async def put(self, values: Sequence[tuple[str, bytes]]) -> None: ...

    async def get(self, request_id: str) -> bytes | None: ...

    async def close(self) -> None: ...


class Explanations:
    """By request_id; of two answers under one id the newer one.

    Args:
        kept_s: how long an answer is kept here, in real time. max_bytes: of all that are; the oldest go first; 0 keeps
            none, so that nobody need make traces that were not asked for.
    """

    def __init__(
        self,
        shared: Shared | None = None,
        *,
        kept_s: float = 900,
        max_bytes: int = 16_000_000,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shared = shared
        self.kept_s = kept_s
        self.max_bytes = max_bytes
        self._now = now
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, answer: Recommendations, answered_at: datetime) -> None:
        """Here, in this process."""
        self._drop(answer.request_id)
        value = _encode(answer, answered_at)
        self._kept[answer.request_id] = self._now(), value
        self._bytes += len(value)
        oldest_allowed = self._now() - self.kept_s
        while self._kept:
            request_id, (since, _) = next(iter(self._kept.items()))
            if since >= oldest_allowed and self._bytes <= self.max_bytes:
                break
            self._drop(request_id)

    def _drop(self, request_id: str) -> None:
        _, value = self._kept.pop(request_id, (0.0, b""))
        self._bytes -= len(value)

    async def share(self, answers: Sequence[Recommendations], answered_at: datetime) -> None:
        """Where other processes find them. An explanation is worth no answer, and these have gone out already: whatever
        the store says, or does not say in SHARE_WITHIN_S, is only logged."""
        if self.shared is None or not answers:
            return
        try:
            async with asyncio.timeout(SHARE_WITHIN_S):
                await self.shared.put([(answer.request_id, _encode(answer, answered_at)) for answer in answers])
        except Exception as error:
            why = str(error) or type(error).__name__
            log.warning("%d answers cannot be explained by other processes: %s", len(answers), why)

    async def find(self, request_id: str) -> bytes | None:
        """An Explanation as JSON, None where there is none or not any more.

        Raises:
            StoreUnavailable: it is not here, and what others keep cannot be read.
        """
        since, value = self._kept.get(request_id, (0.0, b""))
        if value and self._now() - since <= self.kept_s:
            return value
        return None if self.shared is None else await self.shared.get(request_id)

    async def close(self) -> None:
        if self.shared is not None:
            await self.shared.close()


def _encode(answer: Recommendations, answered_at: datetime) -> bytes:
    return msgspec.json.encode(Explanation(request_id=answer.request_id, answered_at=answered_at, answer=answer))
