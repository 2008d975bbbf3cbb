"""Through Kafka, responder and language model as processes: orders, deaths on either side, and no answer is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from infra.kafka import Producer
from infra.kafka_consumer import BatchConsumer
from infra.settings import load_settings
from serving.messages import RecommendationRequest, Recommendations, parse_recommendations
from serving.up import Stack, settings_env, start_stack
from streams.topics import RECOMMENDATIONS, REQUESTS
from tests.support.llm_server import WHY, Asked, LlmServer, Say, llm_process, reverses
from tests.support.tiny import customer_id
from tests.support.tiny_fixture import Tiny
from tests.support.worker_process import WorkerProcess

pytestmark = [pytest.mark.broker, pytest.mark.slow]

RESPONDER = ("serving", "responder")


@pytest.fixture
def servers(tiny: Tiny, tmp_path: Path) -> Iterator[Stack]:
    """A broker and a store on which no other responder answers and nobody else asks."""
    env = {"MODISTE_REGISTRY__URL": tiny.registry_url, "MODISTE_DATA_DIR": str(tmp_path)}
    with start_stack(load_settings(env), processes=()) as stack:
        yield stack


def responder(servers: Stack, directory: Path, url: str, name: str, **llm: object) -> WorkerProcess:
    given = {"url": url, "model": "toy", "wait_ms": 2_000, **llm}
    own = {"MODISTE_RESPONDER__GROUP": name, "MODISTE_RESPONDER__DEADLINE_MS": "30000"}
    named = {f"MODISTE_LLM__{key.upper()}": str(value) for key, value in given.items()}
    return WorkerProcess(directory, {**settings_env(servers.settings), **own, **named}, RESPONDER)


class Topics:
    """Asks, and keeps what was answered."""

    def __init__(self, producer: Producer, name: str) -> None:
        self._producer = producer
        self._name = name
        self._heard = asyncio.Condition()
        self.answers: dict[str, list[Recommendations]] = {}

    async def ask(self, *wanted: RecommendationRequest) -> None:
        await self._producer.send_many((REQUESTS, r.customer_id.encode(), msgspec.json.encode(r)) for r in wanted)

    def request(self, number: int, **more: Any) -> RecommendationRequest:
        who = customer_id(number % 24)
        return RecommendationRequest(request_id=f"{self._name}-{number}", customer_id=who, k=5, **more)

    def answered(self, numbers: range) -> bool:
        return all(f"{self._name}-{n}" in self.answers for n in numbers)

    async def came(self, numbers: range) -> None:
        async with asyncio.timeout(30), self._heard:
            await self._heard.wait_for(lambda: self.answered(numbers))

    def of(self, number: int) -> Recommendations:
        return self.answers[f"{self._name}-{number}"][-1]

    async def hear(self, consumer: BatchConsumer) -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    answer = parse_recommendations(record.value)
                    self.answers.setdefault(answer.request_id, []).append(answer)
            async with self._heard:
                self._heard.notify_all()


@contextlib.asynccontextmanager
async def topics(servers: Stack, name: str) -> AsyncIterator[Topics]:
    kafka = servers.settings.kafka
    async with Producer(kafka) as producer, BatchConsumer(kafka, [RECOMMENDATIONS], batch_size=500) as consumer:
        one = Topics(producer, name)
        hearing = asyncio.create_task(one.hear(consumer))
        try:
            yield one
        finally:
            hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hearing


async def until(worker: WorkerProcess, one: Topics, numbers: range) -> None:
    async def done() -> bool:
        return one.answered(numbers)

    await worker.until(done)


def articles(answer: Recommendations) -> list[str]:
    return [item.article_id for item in answer.items]


async def test_a_model_killed_in_mid_run_costs_the_order_and_no_answer(servers: Stack, tmp_path: Path) -> None:
    with contextlib.ExitStack() as running:
        url, model = running.enter_context(llm_process())
        # Nothing is kept, so that every answer needs the model.
        worker = running.enter_context(responder(servers, tmp_path, url, "killed-model", cache_ttl_ms=1, pause_ms=100))
        async with topics(servers, "killed-model") as one:
            await one.ask(one.request(0, rerank="llm"), one.request(24))
            await until(worker, one, range(0, 25, 24))
            ordered, ranked = one.of(0), one.of(24)
            assert (ordered.variant, ordered.degraded, ranked.variant) == ("llm", [], "default")
            assert articles(ordered) == articles(ranked)[::-1]
            assert {item.reason for item in ordered.items} == {WHY}
            for number in range(100, 160):
                if number == 130:
                    model.kill()
                    model.wait()
                rerank: Any = "llm" if number % 2 else None
                await one.ask(one.request(number, rerank=rerank, deadline_ms=10_000))
            await until(worker, one, range(100, 160))
        assert worker.terminate() == 0, worker.log
    given = [one.of(number) for number in range(100, 160)]
    assert all(answer.error is None and len(answer.items) == 5 and answer.latency_ms < 10_000 for answer in given)
    assert all(answer.variant == "default" and not answer.degraded for answer in given[::2])
    notes = [note for answer in given[31::2] for note in answer.degraded]
    assert len(notes) == 15 and set(notes) <= {"llm_failed", "llm_paused"}
    assert all(len(answers) == 1 for answers in one.answers.values())


async def test_a_responder_killed_while_an_answer_waits_leaves_it_to_the_next(servers: Stack, tmp_path: Path) -> None:
    opened = asyncio.Event()

    async def held(asked: Asked, say: Say) -> None:
        await opened.wait()
        await reverses(asked, say)

    async with LlmServer(held) as model, topics(servers, "killed-responder") as one:
        given: dict[str, Any] = {"wait_ms": 2_500, "deadline_ms": 30_000}
        with responder(servers, tmp_path, model.url, "killed-responder", **given) as worker:
            await one.ask(one.request(1, rerank="llm"), *(one.request(n) for n in range(2, 6)))
            await until(worker, one, range(2, 6))
            await model.came(1)
            assert not one.answered(range(1, 2))
            worker.kill()
        opened.set()
        with responder(servers, tmp_path, model.url, "killed-responder", **given) as worker:
            await until(worker, one, range(1, 2))
            assert one.of(1).variant == "llm"
            assert worker.terminate() == 0, worker.log


async def test_a_responder_that_is_stopped_gives_the_answer_that_waits_and_commits(
    servers: Stack, tmp_path: Path
) -> None:
    async def a_second_later(asked: Asked, say: Say) -> None:
        await asyncio.sleep(1.0)
        await reverses(asked, say)

    async with LlmServer(a_second_later) as model, topics(servers, "stopped") as one:
        with responder(servers, tmp_path, model.url, "stopped", wait_ms=2_500, deadline_ms=20_000) as worker:
            await one.ask(one.request(1, rerank="llm"))
            await model.came(1)
            assert await asyncio.to_thread(worker.terminate) == 0, worker.log
        await one.came(range(1, 2))
        with responder(servers, tmp_path, model.url, "stopped") as worker:
            await one.ask(one.request(2))
            await until(worker, one, range(1, 3))
            assert one.of(1).variant == "llm"
            assert worker.terminate() == 0, worker.log
    assert [len(one.answers[f"stopped-{n}"]) for n in (1, 2)] == [1, 1]


def test_over_http_the_order_comes_with_the_answer_and_goes_with_the_model(servers: Stack) -> None:
    with contextlib.ExitStack() as running:
        url, model = running.enter_context(llm_process())
        llm = servers.settings.llm.model_copy(update={"url": url, "model": "toy", "cache_ttl_ms": 1})
        settings = servers.settings.model_copy(
            update={"llm": llm, "http": servers.settings.http.model_copy(update={"port": 0})}
        )
        stack = running.enter_context(start_stack(settings, processes=("api",)))
        client = running.enter_context(httpx.Client(base_url=str(stack.api_url)))

        def asked(**given: Any) -> dict[str, Any]:
            answer = client.post("v1/recommendations", json={"customer_id": customer_id(1), "k": 5, **given})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        def ids(answer: dict[str, Any]) -> list[str]:
            return [item["article_id"] for item in answer["items"]]

        ranked = asked()
        ordered = asked(rerank="llm", request_id="http-ordered")
        assert ids(ordered) == ids(ranked)[::-1] and ordered["variant"] == "llm"
        by_link = client.get(f"v1/recommend/user/{customer_id(1)}", params={"top_k": 5, "rerank": "llm"}).json()
        assert ids(by_link) == ids(ordered)
        explained = client.get("v1/explain/http-ordered").json()
        stages = {row["stage"]: row for row in explained["answer"]["trace"]}
        assert stages["llm"]["outcome"] in ("reranked", "cached") and stages["llm"]["asked"] == 5
        model.kill()
        model.wait()
        after = [asked(rerank="llm", deadline_ms=5_000) for _ in range(10)]
        assert [ids(answer) for answer in after] == [ids(ranked)] * 10
        assert {note for answer in after for note in answer["degraded"]} <= {"llm_failed", "llm_paused"}
        assert all(answer["degraded"] for answer in after)
        assert "modiste_llm_answers_total" in client.get("metrics").text
