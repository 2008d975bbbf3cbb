"""One shop that runs, in order of time: in this process, or as the real processes around a broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from infra.bundle import Bundle
from offline.event_log import EventLog
from serving.messages import RecommendationRequest, Recommendations
from streams.state import Outcome


class Runner(Protocol):
    """Moments never go back from call to call. Whatever runs the shop, the same calls give the same answers, but for
    `latency_ms`."""

    async def take(self, bundle: Bundle) -> None:
        """This bundle answers from now on."""
        ...

    async def fold(self, log: EventLog, start: datetime | None, until: datetime) -> Counter[Outcome]:
        """Put the log's events of [start, until) through the real processor, in order of time; how many ended how.

        Args:
            start: None: from the log's first event on.
        """
        ...

    async def answer(self, requests: Sequence[RecommendationRequest], now: datetime) -> list[Recommendations]:
        """One answer a request, in order, at the moment `now`, from what was folded strictly before it.

        `latency_ms` is what this one answer took by itself, 0 where that was not measured.
        """
        ...

    async def close(self) -> None:
        """End what was started for it; again is harmless."""
        ...
