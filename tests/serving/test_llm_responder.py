"""The responder with a language model: who asks for it waits, nobody else does, and every answer goes out in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from infra.clock import ManualClock
from infra.errors import BrokerUnavailable, InvalidMessage
from infra.settings import LlmSettings
from serving.llm import open_reranker
from serving.messages import RecommendationRequest, parse_request
from serving.responder import Responder
from tests.serving.toy_shop import NOON, CountingStore, ToyLink, ToySource, buy, raw
from tests.support.llm_server import WHY, Asked, LlmServer, Say, llm_process, reverses, slow


class Link(ToyLink):
    """Tells when something was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    async def send_many(self, messages: Sequence[tuple[str, bytes | None, bytes]]) -> int:
        sent = await super().send_many(messages)
        if messages:
            self.changed.set()
        return sent


class Shop:
    def __init__(self, responder: Responder, store: CountingStore, link: Link, wall: ManualClock) -> None:
        self.responder, self.store, self.link, self.wall = responder, store, link, wall

    def answers(self) -> dict[str, Any]:
        return {answer["request_id"]: answer for answer in self.link.on("recommendations")}


@asynccontextmanager
async def shop(url: str | None, **more: Any) -> AsyncIterator[Shop]:
    given = {"url": url, "model": "toy", "wait_ms": 2_500, "deadline_ms": 20_000, **more}
    llm = open_reranker(LlmSettings.model_validate(given), ManualClock(NOON))
    store, link, wall = CountingStore(), Link(), ManualClock(NOON)
    responder = Responder(ToySource(), store, link, ManualClock(NOON), deadline_ms=20_000, wall=wall, llm=llm)
    try:
        async with asyncio.timeout(30):
            yield Shop(responder, store, link, wall)
    finally:
        if llm is not None:
            await llm.close()


def wanted(request_id: str, **more: object) -> dict[str, object]:
    return {"request_id": request_id, "customer_id": "anna", **more}


def shown(answer: dict[str, Any]) -> list[str]:
    return [item["article_id"] for item in answer["items"]]


async def test_who_asks_gets_the_models_order_and_who_does_not_the_rankers() -> None:
    async with LlmServer() as server, shop(server.url) as one:
        await buy(one.store, "anna", "bread")
        await one.responder.handle([raw(wanted("r1", rerank="llm")), raw(wanted("r2"))])
    answers = one.answers()
    assert shown(answers["r2"]) == ["bread", "tea", "milk"]
    assert shown(answers["r1"]) == ["milk", "tea", "bread"]
    assert answers["r1"]["variant"] == "llm" and {item["reason"] for item in answers["r1"]["items"]} == {WHY}
    assert "degraded" not in answers["r1"]
    assert [row["title"] for row in server.asked[0].items] == ["BREAD", "TEA", "MILK"]


async def test_what_was_shown_in_the_models_order_is_told_as_such() -> None:
    async with LlmServer() as server, shop(server.url) as one:
        await one.responder.handle([raw(wanted("r1", rerank="llm"))])
    (seen,) = one.link.on("impressions")
    assert [item["article_id"] for item in seen["items"]] == ["bread", "milk", "tea"]
    assert [item["position"] for item in seen["items"]] == [1, 2, 3]
    assert seen["variant"] == "llm"


async def test_nobody_waits_for_an_answer_that_waits_for_the_model() -> None:
    opened = asyncio.Event()

    async def held(asked: Asked, say: Say) -> None:
        await opened.wait()
        await reverses(asked, say)

    async with LlmServer(held) as server, shop(server.url) as one:
        published, waiting = await one.responder.begin([raw(wanted("r1", rerank="llm")), raw(wanted("r2"))])
        assert [answer.request_id for answer in published] == ["r2"]
        assert list(one.answers()) == ["r2"]
        assert waiting is not None
        resting = asyncio.create_task(waiting())
        await server.came(1)
        _, none = await one.responder.begin([raw(wanted("r3")), raw(wanted("r4", rerank="none"))])
        assert none is None and list(one.answers()) == ["r2", "r3", "r4"]
        opened.set()
        assert [answer.request_id for answer in await resting] == ["r1"]
    assert list(one.answers()) == ["r2", "r3", "r4", "r1"]


async def test_each_goes_out_as_soon_as_its_own_order_is_there() -> None:
    first = asyncio.Event()

    async def one_is_held(asked: Asked, say: Say) -> None:
        if asked.items[0]["title"] == "BREAD":
            await first.wait()
        await reverses(asked, say)

    async with LlmServer(one_is_held) as server, shop(server.url) as one:
        await buy(one.store, "anna", "bread")
        one.link.changed.clear()
        handling = asyncio.create_task(
            one.responder.handle([raw(wanted("r1", rerank="llm")), raw(wanted("r2", customer_id="bo", rerank="llm"))])
        )
        await one.link.changed.wait()
        assert list(one.answers()) == ["r2"]
        first.set()
        await handling
    assert list(one.answers()) == ["r2", "r1"]


async def test_the_deadline_of_the_request_is_kept_also_for_the_time_it_has_travelled() -> None:
    async with LlmServer(slow(60)) as server, shop(server.url) as one:
        one.wall.advance(timedelta(milliseconds=19_800))
        travelled = wanted("r1", rerank="llm", requested_at=NOON.isoformat())
        hasty = wanted("r2", rerank="llm", deadline_ms=300)
        found = await one.responder.handle([raw(travelled), raw(hasty)])
    assert [answer.degraded for answer in found] == [["llm_late"]] * 2
    assert [[item.article_id for item in answer.items] for answer in found] == [["tea", "milk", "bread"]] * 2
    assert all(answer.error is None for answer in found)


async def test_answers_in_process_wait_for_it_too() -> None:
    async with LlmServer() as server, shop(server.url, rerank="always") as one:
        requests = [RecommendationRequest(request_id=f"r{n}", customer_id="anna") for n in range(2)]
        requests.append(RecommendationRequest(request_id="r2", customer_id="anna", rerank="none"))
        found = await one.responder.answer(requests)
    assert [answer.request_id for answer in found] == ["r0", "r1", "r2"]
    assert [answer.items[0].article_id for answer in found] == ["bread", "bread", "tea"]


async def test_errors_are_answered_without_it() -> None:
    async with LlmServer() as server, shop(server.url) as one:
        (broken,) = await one.responder.handle([raw(wanted("r1", customer_id="cursed", rerank="llm"))])
    assert broken.error is not None and broken.error.code == "internal"
    assert server.asked == []


async def test_where_none_is_configured_who_asks_is_told_so_and_answered() -> None:
    async with shop(None) as one:
        found = await one.responder.handle([raw(wanted("r1", rerank="llm")), raw(wanted("r2"))])
    assert [(answer.degraded, len(answer.items)) for answer in found] == [(["llm_off"], 3), ([], 3)]


async def test_a_broker_that_takes_no_answer_gets_it_when_it_is_back_without_a_second_call() -> None:
    async with LlmServer() as server, shop(server.url, cache_ttl_ms=1) as one:
        _, waiting = await one.responder.begin([raw(wanted("r1", rerank="llm"))])
        assert waiting is not None
        one.link.away = True
        with pytest.raises(BrokerUnavailable):
            await waiting()
        one.link.away = False
        assert [answer.request_id for answer in await waiting()] == ["r1"]
        assert len(server.asked) == 1
    assert shown(one.answers()["r1"]) == ["bread", "milk", "tea"]


async def test_what_went_out_before_the_broker_failed_is_told_too() -> None:
    class OneOnly(Link):
        async def send_many(self, messages: Sequence[tuple[str, bytes | None, bytes]]) -> int:
            if self.away and self.on("recommendations"):
                raise BrokerUnavailable("kafka is away")
            self.away, before = False, self.away
            try:
                return await super().send_many(messages)
            finally:
                self.away = before

    async with LlmServer() as server, shop(server.url) as one:
        link = OneOnly()
        one.responder._outlet = one.link = link
        messages = [raw(wanted(f"r{n}", customer_id=f"c{n}", rerank="llm")) for n in range(3)]
        _, waiting = await one.responder.begin(messages)
        assert waiting is not None
        link.away = True
        with pytest.raises(BrokerUnavailable):
            await waiting()
        assert len(one.answers()) == 1
        link.away = False
        assert [answer.request_id for answer in await waiting()] == ["r0", "r1", "r2"]
    assert sorted(answer["request_id"] for answer in link.on("recommendations")) == ["r0", "r1", "r2"]


async def test_a_model_that_dies_in_mid_run_costs_the_order_and_no_answer() -> None:
    with llm_process() as (url, process):
        async with shop(url, wait_ms=2_500) as one:
            before = await one.responder.handle([raw(wanted("r0", k=3, rerank="llm"))])
            assert before[0].degraded == []
            process.kill()
            process.wait()
            # Another list than the one that is known by now.
            asked = [raw(wanted(f"r{n}", k=2, rerank="llm")) for n in range(1, 20)]
            after = [answer for message in asked for answer in await one.responder.handle([message])]
    assert [answer.request_id for answer in after] == [f"r{n}" for n in range(1, 20)]
    assert all([item.article_id for item in answer.items] == ["tea", "milk"] for answer in after)
    assert [answer.degraded for answer in after] == [["llm_failed"]] * 5 + [["llm_paused"]] * 14


def test_a_request_that_asks_for_anything_else_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="rerank"):
        parse_request(b'{"request_id":"r1","customer_id":"anna","rerank":"magic"}')
