"""The line to an open page: what happens comes on it, and word that the customer's state has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from infra.clock import ManualClock
from infra.settings import KafkaSettings, PageSettings
from serving import api_live
from serving.activity import ActivityRing
from serving.api_front import MAX_LINES, Front
from serving.api_gateway import Gateway, PatientLink
from serving.api_live import follow
from serving.api_problems import Problem
from serving.known import until_known
from serving.responder import Responder
from streams.events import Event
from tests.serving.toy_shop import NOON, CountingStore, ToyLink, ToySource, buy


def happened(customer_id: str, article_id: str, event_id: str) -> Event:
    return Event(event_id=event_id, type="purchase", occurred_at=NOON, customer_id=customer_id, article_id=article_id)


class Shop:
    def __init__(self) -> None:
        self.store = CountingStore()
        self.ring = ActivityRing(KafkaSettings(url="kafka://127.0.0.1:1"))
        self.front = Front(PageSettings())
        link, source, clock = PatientLink(ToyLink()), ToySource(), ManualClock(NOON)
        self.gateway = Gateway(source, self.store, link, Responder(source, self.store, link, clock), self.ring, clock)

    def line(self, customer_id: str, after: int | None = None, drawn: int | None = None) -> AsyncIterator[bytes]:
        return self.front.line(follow(self.gateway, self.front, customer_id, after, drawn))


async def message(line: AsyncIterator[bytes]) -> tuple[str, int, Any]:
    fields = dict(part.split(": ", 1) for part in (await anext(line)).decode().split("\n") if part)
    return fields["event"], int(fields["id"]), msgspec.json.decode(fields["data"])


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(api_live, "PACE_S", 0.01)
    monkeypatch.setattr(api_live, "BEAT_S", 0.05)
    return Shop()


async def test_a_line_begins_with_word_that_it_is_open(shop: Shop) -> None:
    line = shop.line("anna")
    assert await message(line) == ("beat", 0, {"count": 0})
    assert await message(line) == ("beat", 0, {"count": 0})


async def test_what_anybody_does_comes_on_the_line_newest_first(shop: Shop) -> None:
    line = shop.line("anna")
    await message(line)
    shop.ring.add(happened("bert", "tea", "e1"))
    shop.ring.add(happened("zoe", "milk", "e2"))
    event, count, data = await message(line)
    assert (event, count, data["count"]) == ("acts", 2, 2)
    assert [(row["customer_id"], row["title"], row["initial"]) for row in data["rows"]] == [
        ("zoe", "Milk", "M"),
        ("bert", "TEA", "T"),
    ]


async def test_a_burst_is_told_by_its_newest(shop: Shop) -> None:
    line = shop.line("anna")
    await message(line)
    for n in range(1_000):
        shop.ring.add(happened("bert", "tea", f"e{n}"))
    _, count, data = await message(line)
    assert (count, len(data["rows"])) == (1_000, api_live.SHOWN)
    assert data["rows"][0]["event_id"] == "e999"


async def test_the_feed_is_told_once_the_state_has_the_event(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    line = shop.line("anna")
    await message(line)
    shop.ring.add(happened("anna", "tea", "anna-0-tea"))
    assert (await message(line))[0] == "acts"
    monkeypatch.setattr(api_live, "BEAT_S", 60.0)
    waiting = asyncio.create_task(message(line))
    await asyncio.sleep(0.05)
    assert not waiting.done()  # the worker has not folded it yet
    await buy(shop.store, "anna", "tea")
    event, _, data = await waiting
    assert (event, data["event_id"]) == ("feed", "anna-0-tea")
    assert data["ms"] >= 50


async def test_what_was_known_when_the_page_opened_is_shown_and_is_no_news(shop: Shop) -> None:
    """The list that the page came with knows of it; nothing was to be waited for."""
    await buy(shop.store, "anna", "tea")
    shop.ring.add(happened("anna", "tea", "anna-0-tea"))
    line = shop.line("anna")
    await message(line)
    assert [(await message(line))[0] for _ in range(3)] == ["acts", "beat", "beat"]


async def test_what_happened_between_the_list_and_its_line_is_news(shop: Shop) -> None:
    """The list was made when nothing had happened yet."""
    await buy(shop.store, "anna", "tea")
    shop.ring.add(happened("anna", "tea", "anna-0-tea"))
    line = shop.line("anna", drawn=0)
    await message(line)
    assert {(await message(line))[0] for _ in range(2)} == {"acts", "feed"}


async def test_what_happened_while_the_line_was_lost_is_news(shop: Shop) -> None:
    shop.ring.add(happened("bert", "milk", "e0"))
    await buy(shop.store, "anna", "tea")
    shop.ring.add(happened("anna", "tea", "anna-0-tea"))
    line = shop.line("anna", after=1)
    await message(line)
    assert {(await message(line))[0] for _ in range(2)} == {"acts", "feed"}


async def test_an_event_that_does_not_come_to_be_known_holds_up_nobody(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came too late for the customer's window is looked for next to what goes on, one at a time."""
    looked_for: list[str] = []
    given_up = asyncio.Event()

    async def looking(store: object, customer_id: str, event_id: str) -> bool:
        looked_for.append(event_id)
        if event_id == "too-late":
            await given_up.wait()
        return event_id != "too-late"

    monkeypatch.setattr(api_live, "until_known", looking)
    monkeypatch.setattr(api_live, "BEAT_S", 60.0)
    line = shop.line("anna")
    await message(line)
    shop.ring.add(happened("anna", "tea", "too-late"))
    for n in range(3):
        shop.ring.add(happened("bert", "milk", f"e{n}"))
        event, _, data = await asyncio.wait_for(message(line), 5)
        assert event == "acts" and data["rows"][0]["event_id"] == f"e{n}"
    for name in ("second", "third"):
        shop.ring.add(happened("anna", "tea", name))
        assert (await asyncio.wait_for(message(line), 5))[0] == "acts"
    assert looked_for == ["too-late"]
    given_up.set()
    event, _, data = await asyncio.wait_for(message(line), 5)
    assert (event, data["event_id"], looked_for) == ("feed", "third", ["too-late", "third"])


async def test_a_line_that_was_lost_goes_on_where_it_was(shop: Shop) -> None:
    for n in range(5):
        shop.ring.add(happened("bert", "tea", f"e{n}"))
    line = shop.line("anna", after=3)
    await message(line)
    _, count, data = await message(line)
    assert (count, [row["event_id"] for row in data["rows"]]) == (5, ["e4", "e3"])


async def test_a_number_of_another_process_is_a_new_beginning(shop: Shop) -> None:
    shop.ring.add(happened("bert", "tea", "e0"))
    line = shop.line("anna", after=900)
    await message(line)
    _, count, data = await message(line)
    assert (count, len(data["rows"])) == (1, 1)


async def test_a_store_that_is_away_does_not_end_the_line(shop: Shop) -> None:
    line = shop.line("anna")
    await message(line)
    shop.store.away = True
    shop.ring.add(happened("anna", "tea", "e1"))
    assert (await message(line))[0] == "acts"


async def test_a_state_that_cannot_be_read_does_not_end_the_line(shop: Shop) -> None:
    line = shop.line("anna")
    await message(line)
    shop.store._values["anna"] = (1, b"\xff no state", None, None)
    shop.ring.add(happened("anna", "tea", "e1"))
    assert (await message(line))[0] == "acts"
    assert not await until_known(shop.store, "anna", "e1")


async def test_lines_are_counted_and_bounded(shop: Shop) -> None:
    lines: list[Any] = [shop.line("anna") for _ in range(MAX_LINES)]
    for line in lines:
        await anext(line)
    with pytest.raises(Problem, match="200 pages follow the shop already"):
        shop.front.check_room()
    await lines[0].aclose()
    shop.front.check_room()


async def test_a_server_that_stops_ends_the_lines(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_live, "BEAT_S", 60.0)
    line = shop.line("anna")
    await message(line)
    waiting = asyncio.ensure_future(anext(line))
    await asyncio.sleep(0.01)
    shop.front.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 2)
    shop.front.check_room()


async def test_waiting_for_an_event_ends(shop: Shop) -> None:
    await buy(shop.store, "anna", "tea")
    assert await until_known(shop.store, "anna", "anna-0-tea")
    assert not await until_known(shop.store, "anna", "anna-9-milk", timeout_s=0.05)
    assert not await until_known(shop.store, "nobody", "e", timeout_s=0.05)
