"""Every request gets exactly one answer or one error, whatever is away or broken."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from datetime import timedelta

import pytest

from infra.clock import ManualClock
from infra.errors import BrokerUnavailable, DataError
from serving.messages import RecommendationRequest
from serving.responder import Responder
from streams.store import StoredCustomer
from tests.serving.toy_shop import NOON, CountingStore, ToyLink, ToySource, buy, raw


class Shop:
    def __init__(self, *, store_timeout_ms: int = 500) -> None:
        self.source, self.store, self.link = ToySource(), CountingStore(), ToyLink()
        self.wall = ManualClock(NOON)
        self.responder = Responder(
            self.source,
            self.store,
            self.link,
            ManualClock(NOON),
            store_timeout_ms=store_timeout_ms,
            wall=self.wall,
        )


def wanted(request_id: str, customer_id: str = "anna", **more: object) -> dict[str, object]:
    return {"request_id": request_id, "customer_id": customer_id, **more}


async def test_a_known_customer_is_answered_from_the_state() -> None:
    shop = Shop()
    await buy(shop.store, "anna", "bread")
    await shop.responder.handle([raw(wanted("r1", k=2))])
    (answer,) = shop.link.on("recommendations")
    assert [item["article_id"] for item in answer["items"]] == ["bread", "tea"]
    assert answer["request_id"] == "r1"
    assert answer["as_of"] == "2026-11-21T12:00:00Z"
    assert answer["latency_ms"] > 0
    assert "error" not in answer and "degraded" not in answer


async def test_what_was_shown_becomes_an_impression_with_positions() -> None:
    shop = Shop()
    await shop.responder.handle([raw(wanted("r1", k=2))])
    (shown,) = shop.link.on("impressions")
    assert [(item["article_id"], item["position"]) for item in shown["items"]] == [("tea", 1), ("milk", 2)]
    assert (shown["request_id"], shown["bundle_id"], shown["shown_at"]) == ("r1", "toy-1", "2026-11-21T12:00:00Z")


async def test_a_batch_costs_one_store_round_trip_and_keeps_its_order() -> None:
    shop = Shop()
    answers = await shop.responder.handle(
        [raw(wanted("r1", "anna")), raw(wanted("r2", "bob")), raw(wanted("r3", "anna"))]
    )
    assert [answer.request_id for answer in answers] == ["r1", "r2", "r3"]
    assert shop.store.loads == [["anna", "bob"]]


async def test_bad_messages_are_refused_under_their_own_id_and_kept() -> None:
    shop = Shop()
    await shop.responder.handle([raw(wanted("r1", k=999)), raw(wanted("r2")), raw(b"nonsense", key=b"bob", offset=7)])
    first, second, third = shop.link.on("recommendations")
    assert (first["request_id"], first["error"]["code"]) == ("r1", "invalid_request")
    assert "<= 200" in first["error"]["message"] and first["error"]["retryable"] is False
    assert "error" not in second
    assert third["request_id"] == "invalid-recommendation-requests-0-7"
    assert third["customer_id"] == "bob"
    letters = shop.link.on("dead-letters")
    assert [base64.b64decode(letter["raw"]) for letter in letters][1] == b"nonsense"


async def test_an_answer_goes_out_under_the_customers_key() -> None:
    shop = Shop()
    await shop.responder.handle([raw(wanted("r1"), key=None)])
    assert {key for _, key, _ in shop.link.sent} == {b"anna"}


async def test_without_the_store_the_answer_is_popular_and_says_so() -> None:
    shop = Shop()
    await buy(shop.store, "anna", "bread")
    shop.store.away = True
    (answer,) = await shop.responder.handle([raw(wanted("r1"))])
    assert answer.degraded == ["store_unavailable"]
    assert answer.items[0].article_id == "tea"


async def test_a_store_that_hangs_is_given_up() -> None:
    class Hanging(CountingStore):
        async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
            await asyncio.sleep(60)
            return []

    shop = Shop()
    responder = Responder(shop.source, Hanging(), shop.link, ManualClock(NOON), store_timeout_ms=20)
    (answer,) = await responder.handle([raw(wanted("r1"))])
    assert answer.degraded == ["store_unavailable"] and answer.items


async def test_one_unreadable_state_costs_only_its_customer_the_state() -> None:
    class HalfBroken(CountingStore):
        async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
            if "bo" in customer_ids:
                raise DataError("stored state of customer 'bo': not a customer state")
            return await super().load(customer_ids)

    shop, store = Shop(), HalfBroken()
    await buy(store, "anna", "bread")
    responder = Responder(shop.source, store, shop.link, ManualClock(NOON))
    answers = await responder.handle([raw(wanted(f"r-{who}", who, k=2)) for who in ("anna", "bo", "anna", "carl")])
    assert [a.request_id for a in answers] == ["r-anna", "r-bo", "r-anna", "r-carl"]
    assert [a.degraded for a in answers] == [[], ["state_unreadable"], [], []]
    assert [a.items[0].article_id for a in answers] == ["bread", "tea", "bread", "tea"]


async def test_a_request_past_its_deadline_is_told_so_and_not_ranked() -> None:
    shop = Shop()
    asked = NOON.isoformat()
    shop.wall.advance(timedelta(milliseconds=300))
    late, patient = await shop.responder.handle(
        [
            raw(wanted("r1", requested_at=asked, deadline_ms=200)),
            raw(wanted("r2", requested_at=asked, deadline_ms=5_000)),
        ]
    )
    assert late.error is not None and late.error.code == "deadline_exceeded" and late.error.retryable
    assert "of 200 ms" in late.error.message
    assert patient.error is None and patient.items


async def test_one_request_that_breaks_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    good, bad = await shop.responder.handle([raw(wanted("r1")), raw(wanted("r2", "cursed"))])
    assert good.items and good.error is None
    assert bad.error is not None and bad.error.code == "internal"
    assert "request r2 failed" in caplog.text


async def test_without_a_bundle_every_request_gets_a_retryable_error() -> None:
    shop = Shop()
    shop.source.gone = True
    (answer,) = await shop.responder.handle([raw(wanted("r1"))])
    assert answer.error is not None
    assert (answer.error.code, answer.error.retryable) == ("not_ready", True)


async def test_a_broker_that_takes_no_answer_is_reported_so_that_the_batch_comes_again() -> None:
    shop = Shop()
    shop.link.away = True
    with pytest.raises(BrokerUnavailable):
        await shop.responder.handle([raw(wanted("r1"))])


async def test_answering_in_process_publishes_nothing() -> None:
    shop = Shop()
    (answer,) = await shop.responder.answer([RecommendationRequest(request_id="r1", customer_id="anna")])
    assert answer.items and not shop.link.sent
