"""The bench of freshness: how it produces, and that what no answer knew is not left out of the figures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from offline import bench_freshness
from offline.bench_freshness import produce, under_load
from offline.bench_stack import purchases
from offline.smoke import Tally
from streams.events import Event

Message = tuple[str, bytes | None, bytes]


class Topic:
    def __init__(self) -> None:
        self.calls: list[list[Message]] = []

    async def send_many(self, messages: Sequence[Message]) -> int:
        self.calls.append(list(messages))
        return len(messages)


async def test_messages_go_out_once_in_order_and_not_all_at_once() -> None:
    topic: Any = Topic()
    messages = list(purchases(["a"] * 100, range(100), "n"))
    took = await produce(topic, messages, rate=500.0)
    assert [message for call in topic.calls for message in call] == messages
    assert len(topic.calls) >= 2
    assert took > 0.1  # 100 at 500 a second


async def test_purchase_that_no_answer_knew_counts_with_the_whole_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_freshness, "PAUSE_S", 0.0)
    asked: list[Event] = []

    class Forgetful:
        """Knows every second purchase, after 5 ms."""

        tally = Tally()

        async def buy_and_see(self, event: Event) -> bool:
            asked.append(event)
            if len(asked) % 2:
                self.tally.freshness_ms.append(5.0)
            return bool(len(asked) % 2)

    one: Any = Forgetful()
    topic: Any = Topic()
    found = await under_load(one, topic, list(purchases(["a"] * 20, range(20), "n")), 500.0, random.Random(1))
    assert found["probes"] == len(asked) - 1  # the last one only waits for what is still on its way
    assert found["unseen"] == found["probes"] // 2 > 0
    assert found["freshness_ms"]["p99"] > 19_000
    assert min(one.tally.freshness_ms) == 5.0
    assert len({event.event_id for event in asked}) == len(asked)
