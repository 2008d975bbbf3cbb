"""A language model behind a real HTTP endpoint that works, is slow, lies, breaks off or is away: the answer goes out.

Times here are limits that the code must keep, far from what it needs; nothing is measured.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from infra.clock import ManualClock
from infra.errors import ConfigurationError
from infra.settings import LlmSettings
from infra.telemetry import LineFormatter
from serving.llm import Reranker, open_reranker
from serving.llm_client import MAX_ANSWER_BYTES, ChatClient
from serving.llm_prompt import INSTRUCTIONS, answer_schema
from serving.messages import Item, RecommendationRequest, Recommendations
from streams.events import Event
from streams.state import empty_state, fold
from tests.serving.toy_shop import NOON, ToySource
from tests.support.llm_server import (
    WHY,
    Asked,
    Behaviour,
    LlmServer,
    Say,
    completion,
    echoes_the_key,
    http,
    never_ends,
    ordered,
    reverses,
    says,
    sends,
    slow,
    trickles,
    zipped_bomb,
)

SHELF = ("tea", "milk", "bread")
LOADED = ToySource().current
REQUEST = RecommendationRequest(request_id="r1", customer_id="anna", rerank="llm", explain=True)


def settings(url: str, **more: Any) -> LlmSettings:
    return LlmSettings.model_validate({"url": url, "model": "toy", "wait_ms": 2_500, **more})


def answer(*articles: str, price: float = 2.5) -> Recommendations:
    shown = [
        Item(article_id=a, rank=n, score=1 / n, source="popular", price=price, reason=f"Known reason for {a}")
        for n, a in enumerate(articles or SHELF, start=1)
    ]
    return Recommendations(request_id="r1", customer_id="anna", items=shown, bundle_id="toy-1")


@asynccontextmanager
async def reranker(url: str, *, clock: ManualClock | None = None, **more: Any) -> AsyncIterator[Reranker]:
    made = open_reranker(settings(url, **more), clock or ManualClock(NOON))
    assert made is not None
    try:
        yield made
    finally:
        await made.close()


async def ordered_by(llm: Reranker, given: Recommendations | None = None, wait_ms: float = 5_000) -> Recommendations:
    return await llm.rerank(REQUEST, given or answer(), LOADED, empty_state("anna"), wait_ms=wait_ms)


async def until(right: Callable[[Recommendations], bool], llm: Reranker) -> Recommendations:
    """Ask again until an answer is right; ten seconds at most."""
    for _ in range(200):
        found = await ordered_by(llm)
        if right(found):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"still {found.degraded}")


def shown(found: Recommendations) -> list[str]:
    return [item.article_id for item in found.items]


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"modiste_{metric}_total", labels) or 0.0


async def test_the_same_items_come_in_the_models_order_with_its_reasons() -> None:
    before = (
        counted("llm_answers", outcome="reranked"),
        counted("llm_tokens", of="question"),
        counted("llm_reasons", verdict="shown"),
    )
    async with LlmServer() as server, reranker(server.url) as llm:
        found = await ordered_by(llm)
    assert shown(found) == ["bread", "milk", "tea"]
    assert [item.rank for item in found.items] == [1, 2, 3]
    assert [item.score for item in found.items] == [1 / 3, 1 / 2, 1.0]
    assert {item.reason for item in found.items} == {WHY}
    assert (found.variant, found.degraded) == ("llm", [])
    assert found.trace[-1]["outcome"] == "reranked" and found.trace[-1]["asked"] == 3
    after = (
        counted("llm_answers", outcome="reranked"),
        counted("llm_tokens", of="question"),
        counted("llm_reasons", verdict="shown"),
    )
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 300, 3]


async def test_the_request_is_what_openai_s_interface_asks_for() -> None:
    async with LlmServer() as server, reranker(server.url, api_key="sk-1", answer_tokens=70) as llm:
        await ordered_by(llm)
        (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer sk-1"
    assert asked.headers["content-type"] == "application/json"
    body = asked.body
    assert (body["model"], body["max_tokens"], body["stream"]) == ("toy", 70, False)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["strict"] is True


async def test_endpoints_that_know_no_schema_or_another_limit_are_asked_their_way() -> None:
    more = {"output": "json_object", "answer_tokens_as": "max_completion_tokens", "answer_tokens": 70}
    async with LlmServer() as server, reranker(server.url, **more) as llm:
        assert shown(await ordered_by(llm)) == ["bread", "milk", "tea"]
        body = server.asked[0].body
    assert body["response_format"] == {"type": "json_object"}
    assert body["max_completion_tokens"] == 70 and "max_tokens" not in body
    assert "authorization" not in server.asked[0].headers


HTML = b"<html><body>Bad gateway</body></html>"
FOREIGN = http(completion(ordered([3, 2, 1])))
REDIRECT = http(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:9/v1/chat/completions\r\n")
TOO_LONG = http(completion(ordered([3, 2, 1], "x" * MAX_ANSWER_BYTES)))
MISBEHAVING: dict[str, tuple[Behaviour, str]] = {
    "slow": (slow(60), "late"),
    "trickling bytes": (trickles, "late"),
    "status 429": (sends(http(b"{}", "429 Too Many Requests")), "failed"),
    "status 500": (sends(http(b"{}", "500 Internal Server Error")), "failed"),
    "status 401": (sends(http(b"{}", "401 Unauthorized")), "failed"),
    "status 204": (sends(http(b"", "204 No Content")), "failed"),
    "closes at once": (sends(b""), "failed"),
    "closes in the head": (sends(b"HTTP/1.1 200 OK\r\nContent-Ty"), "failed"),
    "closes in the body": (sends(FOREIGN[:-20]), "failed"),
    "no HTTP": (sends(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "failed"),
    "endless head": (sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000), "failed"),
    "endless body": (never_ends, "failed"),
    "huge body": (sends(TOO_LONG), "failed"),
    "zip bomb": (sends(zipped_bomb()), "failed"),
    "redirect": (sends(REDIRECT), "failed"),
    "wrong content type": (sends(http(completion(ordered([3, 2, 1])), kind="text/html")), "failed"),
    "a page": (sends(http(HTML, kind="text/html")), "failed"),
    "no JSON": (sends(http(HTML)), "failed"),
    "no UTF-8": (sends(http(b'{"choices": [{"message": {"content": "\xff"}}]}')), "failed"),
    "deep JSON": (sends(http(b"[" * 200_000)), "failed"),
    "no choices": (sends(http(b'{"choices": []}')), "failed"),
    "an error with status 200": (sends(http(b'{"error": {"message": "no"}}')), "failed"),
    "no content": (says(None), "failed"),
    "empty content": (says(""), "failed"),
    "content that is no JSON": (says("First the bread, then the milk."), "invalid"),
    "one missing": (says(ordered([3, 1])), "invalid"),
    "one twice": (says(ordered([3, 3, 1])), "invalid"),
    "one too many": (says(ordered([3, 2, 1, 4])), "invalid"),
    "one unknown": (says(ordered([3, 2, 7])), "invalid"),
    "another shape": (says(json.dumps({"order": [3, 2, 1]})), "invalid"),
}


@pytest.mark.parametrize("name", MISBEHAVING)
async def test_an_endpoint_that_misbehaves_leaves_the_answer_as_it_was(name: str) -> None:
    behave, why = MISBEHAVING[name]
    before = counted("llm_answers", outcome=why)
    async with LlmServer(behave) as server, reranker(server.url, deadline_ms=300) as llm, asyncio.timeout(10):
        found = await ordered_by(llm)
        server.behave = reverses
        again = await ordered_by(llm)
    assert found.items == answer().items
    assert (found.degraded, found.variant) == ([f"llm_{why}"], "default")
    assert counted("llm_answers", outcome=why) == before + 1
    assert shown(again) == ["bread", "milk", "tea"]  # nothing wrong was kept


async def test_an_endpoint_that_is_not_there_leaves_the_answer_as_it_was() -> None:
    async with LlmServer() as server:
        url = server.url
    async with reranker(url) as llm:
        found = await ordered_by(llm)
    assert (found.items, found.degraded) == (answer().items, ["llm_failed"])


@pytest.mark.parametrize(
    "why", ["<img src=x onerror=alert(1)>", "Buy at http://evil.example now", "Half price at Gucci", "", "\u202eolleh"]
)
async def test_hostile_sentences_are_left_out_and_the_known_reason_stays(why: str) -> None:
    before = counted("llm_reasons", verdict="refused")
    async with LlmServer(says(ordered([2, 1, 3], why))) as server, reranker(server.url) as llm:
        found = await ordered_by(llm)
    assert shown(found) == ["milk", "tea", "bread"]
    assert [item.reason for item in found.items] == [f"Known reason for {name}" for name in ("milk", "tea", "bread")]
    assert counted("llm_reasons", verdict="refused") == before + 3


async def test_an_answer_waits_only_as_long_as_it_may_and_the_next_one_has_the_order() -> None:
    async with LlmServer(slow(0.4)) as server, reranker(server.url, wait_ms=50) as llm, asyncio.timeout(10):
        found = await ordered_by(llm)
        assert (shown(found), found.degraded) == (list(SHELF), ["llm_late"])
        found = await until(lambda found: not found.degraded, llm)
        assert shown(found) == ["bread", "milk", "tea"]
        assert len(server.asked) == 1  # those who asked meanwhile shared the call


async def test_a_request_without_time_left_calls_nobody_but_takes_what_is_known() -> None:
    async with LlmServer() as server, reranker(server.url) as llm:
        assert (await ordered_by(llm, wait_ms=0)).degraded == ["llm_late"]
        assert server.asked == []
        await ordered_by(llm)
        assert shown(await ordered_by(llm, wait_ms=-5)) == ["bread", "milk", "tea"]


async def test_the_same_question_is_asked_once_until_something_in_it_changes() -> None:
    clock = ManualClock(NOON)
    async with LlmServer() as server, reranker(server.url, clock=clock) as llm:
        for _ in range(3):
            assert shown(await ordered_by(llm)) == ["bread", "milk", "tea"]
        assert len(server.asked) == 1
        await ordered_by(llm, answer(price=1.0))
        await ordered_by(llm, answer("milk", "tea", "bread"))
        assert len(server.asked) == 3


async def test_what_is_kept_is_bounded_in_number_and_time() -> None:
    seconds = [0.0]
    async with LlmServer() as server:
        llm = Reranker(
            settings(server.url, cache_answers=1, cache_ttl_ms=60_000),
            ChatClient(settings(server.url)),
            ManualClock(NOON),
            seconds=lambda: seconds[0],
        )
        await ordered_by(llm)
        seconds[0] = 61.0
        await ordered_by(llm)
        assert len(server.asked) == 2
        await ordered_by(llm, answer("milk", "tea"))
        await ordered_by(llm)
        assert len(server.asked) == 4
        await llm.close()


async def test_it_is_left_alone_after_failures_and_tried_again_after_the_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = sends(http(b"{}", "500 Internal Server Error"))
    async with LlmServer(failing) as server, reranker(server.url, pause_after=2, pause_ms=300) as llm:
        with caplog.at_level(logging.WARNING):
            notes = [(await ordered_by(llm)).degraded for _ in range(4)]
        assert notes == [["llm_failed"], ["llm_failed"], ["llm_paused"], ["llm_paused"]]
        assert len(server.asked) == 2
        assert "left alone for 0 s: status 500" in caplog.text
        server.behave = reverses
        await until(lambda found: not found.degraded, llm)
        assert len(server.asked) == 3


async def test_a_server_that_says_when_to_come_back_is_left_alone_at_once() -> None:
    busy = sends(http(b"{}", "429 Too Many Requests", "Retry-After: 30\r\n"))
    async with LlmServer(busy) as server, reranker(server.url) as llm:
        assert [(await ordered_by(llm)).degraded for _ in range(2)] == [["llm_failed"], ["llm_paused"]]


@pytest.mark.parametrize("after", ["soon", "-5", "nan", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 400])
async def test_a_senseless_retry_after_does_no_harm(after: str) -> None:
    busy = sends(http(b"{}", "429 Too Many Requests", f"Retry-After: {after}\r\n"))
    async with LlmServer(busy) as server, reranker(server.url) as llm:
        assert (await ordered_by(llm)).degraded == ["llm_failed"]


async def test_no_more_calls_run_at_a_time_than_allowed_and_too_many_are_not_begun() -> None:
    opened = asyncio.Event()

    async def held(asked: Asked, say: Say) -> None:
        await opened.wait()
        await reverses(asked, say)

    many = [answer("tea", "milk", price=float(n)) for n in range(50)]
    more = {"concurrency": 2, "deadline_ms": 20_000, "wait_ms": 2_500}
    async with LlmServer(held) as server, reranker(server.url, **more) as llm, asyncio.timeout(30):
        answering = asyncio.gather(*(ordered_by(llm, one, wait_ms=20_000) for one in many))
        await server.came(2)
        await asyncio.sleep(0.1)
        assert server.connections == len(server.asked) == 2
        opened.set()
        found = await answering
    assert [one.degraded for one in found] == [[]] * 32 + [["llm_busy"]] * 18
    assert all(one.items == given.items for one, given in zip(found[32:], many[32:], strict=True))


async def test_who_waits_for_a_turn_waits_no_longer_than_a_call_may_take() -> None:
    many = [answer("tea", "milk", price=float(n)) for n in range(3)]
    async with LlmServer(slow(60)) as server, reranker(server.url, concurrency=1, deadline_ms=300) as llm:
        found = await asyncio.gather(*(ordered_by(llm, one) for one in many))
    notes = [one.degraded for one in found]
    assert notes[0] == ["llm_late"] and all(note in (["llm_late"], ["llm_busy"]) for note in notes)


async def test_what_does_not_fit_into_a_question_stays_where_it_is() -> None:
    long = answer()
    long = msgspec.structs.replace(long, items=[msgspec.structs.replace(i, reason="é" * 300) for i in long.items])
    fitting = len(INSTRUCTIONS) + len(json.dumps(answer_schema(3), separators=(",", ":"))) + 2 * 500
    async with LlmServer() as server, reranker(server.url, prompt_tokens=fitting) as llm:
        found = await ordered_by(llm, long)
        assert server.asked[0].numbers == [1, 2]
    assert shown(found) == ["milk", "tea", "bread"]


async def test_only_the_top_is_ordered_and_pins_stay() -> None:
    given = answer()
    pinned = msgspec.structs.replace(given.items[0], source="pin+popular")
    given = msgspec.structs.replace(given, items=[pinned, *given.items[1:]])
    async with LlmServer() as server, reranker(server.url) as llm:
        assert shown(await ordered_by(llm, given)) == ["tea", "bread", "milk"]
    async with LlmServer() as server, reranker(server.url, top_n=2) as llm:
        assert shown(await ordered_by(llm)) == ["milk", "tea", "bread"]


async def test_who_wants_it_is_for_the_request_and_then_the_settings_to_say() -> None:
    def wanted(llm: Reranker) -> list[bool]:
        return [
            llm.wants(RecommendationRequest(request_id="r", customer_id="c", rerank=rerank))
            for rerank in ("llm", "none", None)
        ]

    async with reranker("http://127.0.0.1:9/v1") as asked, reranker("http://127.0.0.1:9/v1", rerank="always") as always:
        assert wanted(asked) == [True, False, False]
        assert wanted(always) == [True, False, True]


async def test_closing_ends_what_still_runs() -> None:
    async with LlmServer(slow(60)) as server, asyncio.timeout(10):
        llm = open_reranker(settings(server.url), ManualClock(NOON))
        assert llm is not None
        waiting = asyncio.create_task(ordered_by(llm))
        await server.came(1)
        await llm.close()
        assert (await waiting).degraded == ["llm_off"]
        assert (await ordered_by(llm)).degraded == ["llm_off"]


async def test_the_event_loop_goes_on_while_a_call_is_under_way() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with LlmServer(slow(0.2)) as server, reranker(server.url) as llm:
        turning = asyncio.create_task(turn())
        await ordered_by(llm)
        turning.cancel()
    assert turns > 100


def test_without_an_endpoint_there_is_nothing() -> None:
    assert open_reranker(LlmSettings(), ManualClock(NOON)) is None


async def test_the_key_is_in_the_header_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    secret = "sk-never-to-be-seen"
    formatter = LineFormatter()
    with caplog.at_level(logging.DEBUG):
        async with LlmServer(echoes_the_key) as server, reranker(server.url, api_key=secret, pause_after=1) as llm:
            found = await ordered_by(llm)
            assert server.asked[0].headers["authorization"] == f"Bearer {secret}"
            server.behave = sends(f"HTTP/1.1 {secret} {secret}\r\n\r\n".encode())
            await ordered_by(llm, answer("tea", "milk"))
            assert secret not in repr(vars(llm))
    assert found.degraded == ["llm_failed"]
    assert secret not in str(msgspec.to_builtins(found))
    lines = [formatter.format(record) for record in caplog.records]
    assert any("status 401" in line for line in lines)
    assert not [line for line in lines if secret in line]


async def test_the_key_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-from-file\n")
    async with LlmServer() as server, reranker(server.url, api_key_file=file) as llm:
        await ordered_by(llm)
        assert server.asked[0].headers["authorization"] == "Bearer sk-from-file"


@pytest.mark.parametrize("key", ["sk 1", "sk-1\r\nX-Injected: 1", "schlüssel"])
async def test_a_key_that_cannot_stand_in_a_header_is_refused_unseen(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"llm\.api_key: .*printable ASCII") as caught:
        open_reranker(settings("http://127.0.0.1:9/v1", api_key=key), ManualClock(NOON))
    assert key not in str(caught.value)


async def test_a_day_later_the_question_is_another() -> None:
    bought = Event(event_id="e", type="purchase", occurred_at=NOON, customer_id="anna", article_id="tea")
    state, _ = fold(empty_state("anna"), [bought])
    clock = ManualClock(NOON + timedelta(hours=1))
    async with LlmServer() as server, reranker(server.url, clock=clock) as llm:
        for _ in range(2):
            await llm.rerank(REQUEST, answer(), LOADED, state, wait_ms=5_000)
        clock.advance(timedelta(days=1))
        await llm.rerank(REQUEST, answer(), LOADED, state, wait_ms=5_000)
        assert len(server.asked) == 2
