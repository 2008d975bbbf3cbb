"""The client of the smoke run and its sums, without a broker: answers find their requests, losses are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from infra.errors import Unavailable
from infra.settings import load_settings
from offline import smoke
from offline.demo import newest_of_each_customer
from offline.smoke import Client, Tally, percentiles
from serving.messages import RecommendationRequest, Recommendations, RequestError
from streams.events import Event
from streams.state import empty_state, fold
from streams.store import MemoryStore, StoredCustomer

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def purchase(customer: str, minute: int) -> Event:
    return Event(
        event_id=f"{customer}-{minute}",
        type="purchase",
        occurred_at=NOON + timedelta(minutes=minute),
        customer_id=customer,
        article_id="tea",
    )


class Line:
    """Producer, topic and responder in one: answers each request at once, unless it is `deaf`; an answer knows the
    customer's purchases only after `blind` answers without them."""

    def __init__(self, blind: int = 0, *, deaf: bool = False, error: RequestError | None = None) -> None:
        self.blind, self.deaf, self.error = blind, deaf, error
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.newest: dict[str, datetime] = {}

    async def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        request = msgspec.json.decode(value, type=RecommendationRequest)
        if self.deaf:
            return
        as_of = self.newest.get(request.customer_id) if self.blind <= 0 else None
        self.blind -= 1
        stranger = Recommendations(request_id="of another client", customer_id="x")
        answer = Recommendations(
            request_id=request.request_id, customer_id=request.customer_id, as_of=as_of, error=self.error
        )
        for one in (stranger, answer):
            self.answers.put_nowait(msgspec.json.encode(one))

    async def send_many(self, messages: Any) -> int:
        events = [msgspec.json.decode(value, type=Event) for _, _, value in messages]
        self.newest |= {event.customer_id: event.occurred_at for event in events}
        return len(events)

    async def getmany(self, timeout_ms: int) -> dict[str, list[Any]]:
        return {"recommendations-0": [SimpleNamespace(value=await self.answers.get())]}


async def with_client(line: Line, work: Any) -> Client:
    endpoint: Any = line
    one = Client(endpoint, Tally())
    hearing = asyncio.create_task(one.hear(endpoint))
    try:
        await work(one)
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
    return one


async def test_freshness_counts_until_an_answer_knows_the_purchase() -> None:
    async def work(one: Client) -> None:
        assert await one.buy_and_see(purchase("anna", 1))

    tally = (await with_client(Line(blind=3), work)).tally
    assert (tally.events_sent, tally.requests, tally.responses) == (1, 4, 4)
    assert len(tally.freshness_ms) == 1
    assert tally.freshness_ms[0] >= sum(tally.latency_ms) * 0.9


async def test_a_purchase_that_no_answer_knows_is_not_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "FRESH_TIMEOUT_S", 0.05)

    async def work(one: Client) -> None:
        assert not await one.buy_and_see(purchase("anna", 1))

    assert (await with_client(Line(blind=10**9), work)).tally.freshness_ms == []


async def test_a_request_without_an_answer_is_counted_as_sent_only() -> None:
    async def work(one: Client) -> None:
        assert await one.ask("anna", timeout_s=0.02) is None

    tally = (await with_client(Line(deaf=True), work)).tally
    assert (tally.requests, tally.responses, tally.latency_ms) == (1, 0, [])


async def test_an_error_answer_is_a_response_and_an_error() -> None:
    async def work(one: Client) -> None:
        await one.ask("anna")

    tally = (await with_client(Line(error=RequestError(code="no", message="no")), work)).tally
    assert (tally.requests, tally.responses, tally.errors) == (1, 1, 1)


async def test_warm_up_starts_a_new_tally_and_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def warm(one: Client) -> None:
        await smoke.warm_up(one, "anna")

    assert (await with_client(Line(), warm)).tally == Tally()
    monkeypatch.setattr(smoke, "WARM_UP_TIMEOUT_S", 0.02)
    with pytest.raises(Unavailable, match="no answer within"):
        await with_client(Line(error=RequestError(code="no", message="no")), warm)


async def test_applied_are_the_events_that_stand_in_stored_states(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    async def same_store(settings: object) -> MemoryStore:
        return store

    monkeypatch.setattr(smoke, "open_store", same_store)
    monkeypatch.setattr(smoke, "APPLIED_TIMEOUT_S", 0.05)
    events = [purchase("anna", 1), purchase("anna", 2), purchase("bert", 1)]

    async def applied(wanted: Sequence[Event]) -> int:
        return await smoke.applied_events(load_settings({}), wanted)

    assert await applied(events) == 0
    state, _ = fold(empty_state("anna"), events[:2])
    await store.save([StoredCustomer(state)])
    assert await applied(events) == 2
    assert await applied([]) == 0


def test_percentiles_of_what_was_measured() -> None:
    assert percentiles([float(n) for n in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}


def test_the_probe_of_a_customer_is_its_newest_purchase() -> None:
    events = [purchase("anna", 1), purchase("bert", 2), purchase("anna", 3)]
    assert newest_of_each_customer(events) == [events[2], events[1]]
