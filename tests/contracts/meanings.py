"""What each line of tests/contracts/messages means: every saved message, and the object that it is for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.announce import Announcement
from infra.registry import ChannelPointer
from serving.impressions import Impression, ShownItem
from serving.messages import (
    Boost,
    Filters,
    Item,
    RecommendationRequest,
    Recommendations,
    RequestError,
    Rules,
)
from streams.catalog import Article, ArticleVector
from streams.dead_letters import DeadLetter
from streams.events import Event
from streams.letter_desk import Settled
from streams.subscriptions import CustomerUpdate, Subscription

HERE = Path(__file__).parent
TEN = datetime(2017, 3, 1, 10, tzinfo=UTC)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BUNDLE = "20261105T031200Z-8f3c1a9"


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
