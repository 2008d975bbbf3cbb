"""Answers are kept to be explained: the newest, for a time, in bounded memory, and some for other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from redis.exceptions import ResponseError

from infra.errors import ConfigurationError, StoreUnavailable
from infra.settings import ApiSettings, RedisSettings, Settings
from serving.answers import Explanation
from serving.explanations import Explanations
from serving.messages import Recommendations
from serving.redis_explanations import open_explanations

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def answer(request_id: str, customer_id: str = "anna") -> Recommendations:
    return Recommendations(request_id=request_id, customer_id=customer_id, trace=[{"stage": "retrieval"}])


async def told(explanations: Explanations, request_id: str) -> Explanation | None:
    found = await explanations.find(request_id)
    return None if found is None else msgspec.json.decode(found, type=Explanation)


async def test_an_answer_is_told_as_it_was_given() -> None:
    explanations = Explanations()
    explanations.keep(answer("r1"), NOON)
    assert await told(explanations, "r1") == Explanation(request_id="r1", answered_at=NOON, answer=answer("r1"))
    assert await told(explanations, "r2") is None


async def test_of_one_id_the_newer_answer() -> None:
    explanations = Explanations()
    explanations.keep(answer("r1"), NOON)
    explanations.keep(answer("r1", "bert"), NOON)
    found = await told(explanations, "r1")
    assert found is not None and (found.answer.customer_id, len(explanations)) == ("bert", 1)


async def test_after_its_time_it_is_gone() -> None:
    now = 0.0
    explanations = Explanations(kept_s=10, now=lambda: now)
    explanations.keep(answer("r1"), NOON)
    now = 10.0
    assert await told(explanations, "r1") is not None
    now = 10.5
    assert await told(explanations, "r1") is None
    explanations.keep(answer("r2"), NOON)
    assert len(explanations) == 1


async def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    explanations = Explanations()
    explanations.keep(answer("r1"), NOON)
    size = len(await explanations.find("r1") or b"")
    bounded = Explanations(max_bytes=3 * size)
    for n in range(9):
        bounded.keep(answer(f"r{n}"), NOON)
    kept = [n for n in range(9) if await bounded.find(f"r{n}")]
    assert kept == [6, 7, 8]
    nothing = Explanations(max_bytes=0)
    nothing.keep(answer("r1"), NOON)
    assert len(nothing) == 0


class Away:
    async def put(self, values: Sequence[tuple[str, bytes]]) -> None:
        raise StoreUnavailable("redis is away")

    async def get(self, request_id: str) -> bytes | None:
        raise StoreUnavailable("redis is away")

    async def close(self) -> None: ...


class Refusing(Away):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def put(self, values: Sequence[tuple[str, bytes]]) -> None:
        raise self._error


@pytest.mark.parametrize("error", [ConfigurationError("NOPERM this user"), ResponseError("MISCONF no disk")])
async def test_a_store_that_refuses_costs_no_answer(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    await Explanations(Refusing(error)).share([answer("r1")], NOON)
    assert f"1 answers cannot be explained by other processes: {error}" in caplog.text


class Hanging(Away):
    async def put(self, values: Sequence[tuple[str, bytes]]) -> None:
        await asyncio.Event().wait()


async def test_a_store_that_hangs_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(10):
        await Explanations(Hanging()).share([answer("r1")], NOON)
    assert "by other processes: TimeoutError" in caplog.text


async def test_a_store_that_is_away_costs_no_answer_but_is_not_passed_off_as_nothing_kept() -> None:
    explanations = Explanations(Away())
    await explanations.share([answer("r1")], NOON)
    with pytest.raises(StoreUnavailable):
        await explanations.find("r1")


async def test_another_process_finds_what_was_shared_until_its_time_is_over(redis_url: str) -> None:
    redis = RedisSettings(url=redis_url, prefix="test-explanations")
    settings = Settings(redis=redis, api=ApiSettings(explain_s=100))
    one, other = await open_explanations(settings), await open_explanations(settings)
    await one.share([answer("r1"), answer("r2")], NOON)
    assert await told(other, "r2") == Explanation(request_id="r2", answered_at=NOON, answer=answer("r2"))
    assert await told(other, "r3") is None
    left = await one.shared._client.ttl("test-explanations:explanation:r1")  # type: ignore[union-attr]
    assert 90 < left <= 100
    await one.close()
    await other.close()
