"""Saved messages are read for ever. These files are never edited, only added to: each stands on some topic or disk.

Of each type the first line is the least that was ever sent, and one has fields that this code does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.announce import Announcement
from infra.bundle import FileEntry, Manifest, open_bundle
from infra.clock import ManualClock
from infra.errors import InvalidMessage
from infra.registry import ChannelPointer
from infra.settings import RedisSettings, RegistrySettings, Settings
from serving.impressions import Impression, ShownItem, encode_impression
from serving.messages import (
    Boost,
    Filters,
    Item,
    RecommendationRequest,
    Recommendations,
    RequestError,
    Rules,
    encode_recommendations,
    parse_recommendations,
    parse_request,
)
from serving.responder import Responder
from streams.catalog import Article, ArticleVector, encode_article, parse_article, parse_article_vector
from streams.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from streams.events import Event, encode_event, parse_event
from streams.letter_desk import Settled, parse_settled
from streams.processor import RawMessage
from streams.subscriptions import CustomerUpdate, Subscription, parse_subscription, parse_update
from streams.worker import FoldWorker
from tests.serving.toy_shop import CountingStore, ToyLink, ToySource

HERE = Path(__file__).parent
TEN = datetime(2017, 3, 1, 10, tzinfo=UTC)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BUNDLE = "20261105T031200Z-8f3c1a9"


def reader(kind: type[Any]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


READERS: dict[str, Callable[[bytes], Any]] = {
    "Event": parse_event,
    "RecommendationRequest": parse_request,
    "Recommendations": parse_recommendations,
    "Impression": reader(Impression),
    "DeadLetter": decode_dead_letter,
    "Settled": parse_settled,
    "Announcement": reader(Announcement),
    "Article": parse_article,
    "Subscription": lambda raw: parse_subscription(b"anna", raw),
    "CustomerUpdate": parse_update,
    "ArticleVector": lambda raw: parse_article_vector(b"minilm-1/hat", raw),
    "ChannelPointer": reader(ChannelPointer),
}

# Readers that refuse another major themselves.
REFUSING = (
    "Event",
    "RecommendationRequest",
    "Recommendations",
    "DeadLetter",
    "Article",
    "Subscription",
    "CustomerUpdate",
    "ArticleVector",
    "Settled",
)

MEANT: dict[str, list[Any]] = {
    "Event": [
        Event(
            event_id="1",
            type="purchase",
            occurred_at=TEN,
            customer_id="anna",
            article_id="hat",
            schema_version=1,
            price=None,
            quantity=1,
            sales_channel_id=None,
            request_id=None,
        ),
        Event(
            event_id="order-7-2",
            type="view",
            occurred_at=datetime(2017, 3, 1, 10, 30, 0, 500_000, UTC),
            customer_id="bo",
            article_id="0108775015",
            schema_version=1,
            price=24.99,
            quantity=3,
            sales_channel_id=2,
            request_id="r-1",
        ),
        Event(event_id="3", type="cart", occurred_at=TEN, customer_id="anna", article_id="hat"),
    ],
    "RecommendationRequest": [
        RecommendationRequest(
            request_id="r-1",
            customer_id="anna",
            k=12,
            strategy="full",
            context={},
            filters=Filters(exclude_bought=False, attributes={}, min_price=None, max_price=None),
            exclude=[],
            deadline_ms=None,
            explain=False,
            requested_at=None,
            schema_version=1,
        ),
        RecommendationRequest(
            request_id="r-2",
            customer_id="bo",
            k=3,
            strategy="popular",
            context={"page": "home"},
            filters=Filters(exclude_bought=True, attributes={"colour": ["red", "blue"]}, min_price=5, max_price=50),
            exclude=["hat"],
            deadline_ms=250,
            explain=True,
            requested_at=NOON,
            schema_version=1,
        ),
        RecommendationRequest(request_id="r-3", customer_id="carl", filters=Filters(min_price=1)),
        RecommendationRequest(
            request_id="r-4",
            customer_id="anna",
            context={"age": "34"},
            rules=Rules(
                max_per_brand=3,
                max_per_product=1,
                blocked={"brand": ["Acme"], "article_id": ["hat"]},
                boosts=[Boost(field="colour", values=["red"], factor=1.5)],
                pins=["scarf"],
            ),
            diversity=0.25,
        ),
        RecommendationRequest(request_id="r-5", customer_id="anna", rerank="llm"),
    ],
    "Recommendations": [
        Recommendations(
            request_id="r-1",
            customer_id="anna",
            items=[Item(article_id="hat", rank=1, score=0.5, source="popular+content")],
            bundle_id=BUNDLE,
            strategy="hybrid",
            variant="b",
            cold_start=True,
            degraded=["store_unavailable"],
            as_of=TEN,
            latency_ms=12.5,
            error=None,
            trace=[{"stage": "retrieval", "found": 7}],
            schema_version=1,
        ),
        Recommendations(
            request_id="r-2",
            customer_id="bo",
            items=[],
            bundle_id=None,
            strategy="full",
            variant="default",
            cold_start=False,
            degraded=[],
            as_of=None,
            latency_ms=0.0,
            error=RequestError(code="not_ready", message="no bundle", retryable=True),
            trace=[],
            schema_version=1,
        ),
        Recommendations(
            request_id="r-3",
            customer_id="anna",
            items=[
                Item(
                    article_id="hat",
                    rank=1,
                    score=0.5,
                    source="pin+popular",
                    price=15.0,
                    reason="You bought this yesterday",
                )
            ],
            bundle_id=BUNDLE,
        ),
        Recommendations(
            request_id="r-5",
            customer_id="anna",
            items=[
                Item(article_id="hat", rank=1, score=0.1, source="popular", reason="It goes with your scarf"),
                Item(article_id="scarf", rank=2, score=0.2, source="popular"),
            ],
            variant="llm",
        ),
    ],
    "Impression": [
        Impression(
            request_id="r-1",
            customer_id="anna",
            bundle_id=BUNDLE,
            strategy="full",
            variant="default",
            items=[ShownItem(article_id="hat", position=1, score=0.5, source="popular")],
            shown_at=NOON,
            schema_version=1,
        )
    ],
    "DeadLetter": [
        DeadLetter(
            reason="rejected",
            error="not an event",
            topic="transactions",
            partition=3,
            offset=41,
            raw="/3s=",
            size=None,
            requeued=0,
            schema_version=1,
        ),
        DeadLetter(
            reason="state_unreadable",
            error="why",
            topic="recommendation-requests",
            partition=0,
            offset=7,
            raw="",
            size=600_000,
            requeued=2,
            schema_version=1,
        ),
    ],
    "Settled": [Settled(settled_partition=3, settled_offset=41)],
    "Article": [
        Article(article_id="hat", available=True, price=None, title=None, schema_version=1),
        Article(
            article_id="0108775015",
            available=False,
            price=19.99,
            product_code="0108775",
            title="Strap top",
            department="Jersey",
            category="Vest top",
            subcategory="Tops",
            brand="Own",
            colour="Black",
            text="A top with narrow straps.",
            image_url="https://shop.example/0108775015.jpg",
            schema_version=1,
        ),
        Article(article_id="cap", price=5.0),
    ],
    "ArticleVector": [ArticleVector(article_id="hat", space="minilm-1", text="0123456789abcdef", vector=b"\x00\x3c")]
    * 2,
    "Subscription": [
        Subscription(customer_id="anna", k=12, strategy="full", debounce_ms=500, until=None, schema_version=1),
        Subscription(customer_id="anna", k=3, strategy="popular", debounce_ms=0, until=NOON, schema_version=1),
    ],
    "CustomerUpdate": 2 * [CustomerUpdate(customer_id="anna", event="transactions-3-41", schema_version=1)],
    "Announcement": [Announcement(channel="production", bundle_id=BUNDLE, uri="s3://models/modiste")],
    "ChannelPointer": [
        ChannelPointer(
            channel="production",
            bundle_id=BUNDLE,
            previous="20261104T031200Z-1111111",
            activated_at=datetime(2026, 11, 5, 3, 13, tzinfo=UTC),
            by="anna@shop",
        ),
        ChannelPointer(
            channel="candidate",
            bundle_id=BUNDLE,
            previous=None,
            activated_at=datetime(2026, 11, 5, 3, 13, tzinfo=UTC),
            by="",
        ),
    ],
}


def saved(kind: str) -> list[bytes]:
    return (HERE / "messages" / f"{kind}.jsonl").read_bytes().splitlines()


def test_every_saved_file_has_a_reader_and_a_meaning() -> None:
    files = {path.stem for path in (HERE / "messages").iterdir()}
    assert files == set(READERS) == set(MEANT)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_saved_messages_are_read_as_they_were_meant(kind: str) -> None:
    assert [READERS[kind](line) for line in saved(kind)] == MEANT[kind]


def test_a_saved_bundle_is_opened_and_its_id_is_still_that_of_its_content() -> None:
    assert open_bundle(HERE / "bundle").manifest == Manifest(
        bundle_id="20261105T031200Z-9be4e8a",
        format=1,
        created_at=datetime(2026, 11, 5, 3, 12, tzinfo=UTC),
        code_revision="a989a78",
        trained_through=datetime(2026, 11, 4, tzinfo=UTC),
        config={"towers": {"epochs": 3}, "data": "archive"},
        contracts={"events": "1", "embedding_space": "s"},
        counts={"articles": 2},
        metrics={"full": {"map@12": 0.25}},
        files={
            "words.txt": FileEntry(sha256="2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", bytes=5)
        },
    )


def test_producers_write_the_version() -> None:
    refused = RawMessage("transactions", 0, 0, b"k", b"v")
    for raw in (
        encode_event(MEANT["Event"][0]),
        encode_recommendations(MEANT["Recommendations"][0]),
        encode_impression(MEANT["Impression"][0]),
        encode_dead_letter(refused, reason="rejected", error="why"),
        encode_article(MEANT["Article"][2]),
        msgspec.json.encode(MEANT["RecommendationRequest"][0]),
        *(
            msgspec.json.encode(MEANT[kind][0])
            for kind in ("Settled", "Announcement", "CustomerUpdate", "ArticleVector")
        ),
    ):
        assert msgspec.json.decode(raw)["schema_version"] == 1


@pytest.mark.parametrize("kind", REFUSING)
@pytest.mark.parametrize(
    ("version", "said"),
    [(2, "schema_version 2 is newer than version 1"), (0, "schema_version 0 is none that ever was")],
)
def test_another_major_is_refused_for_its_version(kind: str, version: int, said: str) -> None:
    message = {**msgspec.json.decode(saved(kind)[0]), "schema_version": version}
    with pytest.raises(InvalidMessage, match=said):
        READERS[kind](msgspec.json.encode(message))


@pytest.mark.parametrize("kind", REFUSING)
def test_a_newer_major_that_looks_quite_different_is_refused_for_its_version_too(kind: str) -> None:
    with pytest.raises(InvalidMessage, match="schema_version 7 is newer"):
        READERS[kind](b'{"schema_version":7,"who":{"id":"anna"},"what":[1,2]}')


FUTURE_EVENT = b'{"schema_version":2,"event_id":"9","type":"purchase","at":1,"who":"anna"}'
RETURN = (
    b'{"event_id":"9","type":"return","occurred_at":"2017-03-01T10:00:00Z","customer_id":"anna","article_id":"hat"}'
)


class Tray:
    """Stands in for the producer."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send_many(self, messages: Any) -> int:
        self.sent += messages
        return len(self.sent)


def a_worker(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FoldWorker, Tray]:
    """Without a broker, and what it sends."""

    async def nothing_to_create(*_: object) -> list[str]:
        return []

    tray = Tray()
    monkeypatch.setattr("streams.worker.ensure_topics", nothing_to_create)
    monkeypatch.setattr("streams.worker.Producer", lambda *_, **__: tray)
    monkeypatch.setattr("streams.worker.Subscriptions.start", nothing_to_create)
    settings = Settings(
        redis=RedisSettings(url="memory://"), registry=RegistrySettings(url=f"file://{directory}/registry")
    )
    return FoldWorker(settings, clock=ManualClock(NOON)), tray


async def test_the_worker_keeps_what_it_cannot_know_as_dead_letters_and_folds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, tray = a_worker(tmp_path, monkeypatch)
    await worker.start()
    values = [FUTURE_EVENT, *saved("Event"), RETURN]
    await worker([RawMessage("transactions", 0, n, b"k", value) for n, value in enumerate(values)])
    await worker.stop()
    assert worker.totals == {"applied": 3, "rejected": 2}
    letters = [decode_dead_letter(value) for topic, _, value in tray.sent if topic == "dead-letters"]
    assert [(letter.offset, letter.raw_bytes) for letter in letters] == [(0, FUTURE_EVENT), (4, RETURN)]
    assert "schema_version 2 is newer than version 1" in letters[0].error
    assert letters[1].error.endswith("type 'return'; allowed: purchase, view, cart")


@pytest.mark.parametrize(
    ("topic", "kind", "key"),
    [
        ("articles", "Article", b"hat"),
        ("article-vectors", "ArticleVector", b"minilm-1/hat"),
        ("subscriptions", "Subscription", b"anna"),
    ],
)
async def test_the_worker_keeps_what_nobody_can_read_of_the_tables(
    topic: str, kind: str, key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needs them passes over what it cannot read; one process has to tell of it."""
    worker, tray = a_worker(tmp_path, monkeypatch)
    await worker.start()
    newer = b'{"schema_version":2,"who":"hat"}'
    values = [saved(kind)[0], newer, b"not json", None]
    await worker([RawMessage(topic, 0, n, key, value) for n, value in enumerate(values)])
    await worker.stop()
    letters = [decode_dead_letter(value) for to, _, value in tray.sent if to == "dead-letters"]
    assert [(letter.topic, letter.offset, letter.raw_bytes) for letter in letters] == [
        (topic, 1, newer),
        (topic, 2, b"not json"),
    ]
    assert "schema_version 2 is newer than version 1" in letters[0].error


async def test_the_responder_refuses_and_keeps_requests_of_a_newer_major_or_an_unknown_strategy() -> None:
    link = ToyLink()
    responder = Responder(ToySource(), CountingStore(), link, ManualClock(NOON))
    values = [
        b'{"request_id":"r-9","customer_id":"anna","schema_version":2,"k":{"home":3}}',
        b'{"request_id":"r-10","customer_id":"anna","strategy":"oracle"}',
        saved("RecommendationRequest")[0],
    ]
    await responder.handle(
        [RawMessage("recommendation-requests", 0, n, b"anna", value) for n, value in enumerate(values)]
    )
    newer, unknown, known = link.on("recommendations")
    assert (newer["request_id"], newer["error"]["code"]) == ("r-9", "invalid_request")
    assert "schema_version 2 is newer than version 1" in newer["error"]["message"]
    assert "strategy 'oracle'; allowed: full" in unknown["error"]["message"]
    assert "error" not in known and known["schema_version"] == 1
    first, second = link.on("dead-letters")
    assert first["error"] == newer["error"]["message"] and second["error"] == unknown["error"]["message"]
