"""What the topic `articles` says is in the answers at once: a new article, stock, prices; rubbish harms nobody."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from infra.kafka import Producer
from infra.settings import Settings
from offline.smoke import client, count_messages
from serving.messages import STRATEGIES, Filters, RecommendationRequest, Recommendations
from serving.subscriber import ask
from streams.catalog import Article, encode_article
from streams.events import Event
from streams.topics import ARTICLES, DEAD_LETTERS
from tests.e2e.conftest import PRESENT
from tests.support.tiny import article_number

pytestmark = [pytest.mark.broker, pytest.mark.slow]

NEW = "0199999999"


async def tell(settings: Settings, *articles: Article, gone: tuple[str, ...] = ()) -> None:
    async with Producer(settings.kafka) as producer:
        await producer.send_many((ARTICLES, a.article_id.encode(), encode_article(a)) for a in articles)
        await producer.send_many((ARTICLES, article_id.encode(), None) for article_id in gone)


async def answer(settings: Settings, customer: str, strategy: str, **fields: object) -> Recommendations:
    request = RecommendationRequest(
        request_id=uuid.uuid4().hex, customer_id=customer, strategy=strategy, deadline_ms=10_000, **fields
    )
    found = await ask(settings.kafka, request)
    assert found.error is None
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + 30
    while not await condition():
        assert time.monotonic() < end, "not within 30 s"
        await asyncio.sleep(0.05)


async def test_a_new_article_comes_goes_and_changes_its_price(settings: Settings) -> None:
    customer = f"newcomer-{uuid.uuid4().hex[:8]}"
    top = Article(
        article_id=NEW, title="Top 9", category="top", subcategory="top", department="Wardrobe", text="A plain top."
    )
    bought = Event(
        event_id=uuid.uuid4().hex,
        type="purchase",
        occurred_at=PRESENT - timedelta(hours=2),
        customer_id=customer,
        article_id=article_number("top", 0),
        price=9.5,
    )

    async def shown(strategy: str, **fields: object) -> dict[str, float | None]:
        found = await answer(settings, customer, strategy, k=20, **fields)
        return {item.article_id: item.price for item in found.items}

    async def is_shown() -> bool:
        return NEW in await shown("content")

    async def is_gone() -> bool:
        return NEW not in await shown("content")

    async with client(settings) as one:
        assert await one.buy_and_see(bought)
    assert await is_gone()
    try:
        await tell(settings, top)
        await until(is_shown)

        await tell(settings, Article(article_id=NEW, title="Top 9", available=False))
        await until(is_gone)
        for strategy in STRATEGIES:
            assert NEW not in await shown(strategy)

        async def costs_four() -> bool:
            return (await shown("content")).get(NEW) == 4.0

        await tell(settings, Article(article_id=NEW, title="Top 9", category="top", price=4.0))
        await until(costs_four)
        assert await shown("content", filters=Filters(max_price=5.0)) == {NEW: 4.0}

        await tell(settings, gone=(NEW,))
        await until(is_gone)
    finally:
        await tell(settings, gone=(NEW,))


async def test_an_article_of_the_bundle_that_is_sold_out_leaves_every_list(settings: Settings) -> None:
    sold_out = article_number("shoe", 0)
    customer = "customer-01"

    async def is_gone() -> bool:
        found = await answer(settings, customer, "popular", k=20)
        return sold_out not in {item.article_id for item in found.items}

    assert not await is_gone()
    try:
        await tell(settings, Article(article_id=sold_out, available=False))
        await until(is_gone)
        for strategy in STRATEGIES:
            found = await answer(settings, customer, strategy, k=20)
            assert sold_out not in {item.article_id for item in found.items}
            assert found.items
    finally:
        await tell(settings, gone=(sold_out,))


async def test_rubbish_on_articles_goes_to_dead_letters_once(settings: Settings) -> None:
    before = await count_messages(settings, DEAD_LETTERS)
    async with Producer(settings.kafka) as producer:
        await producer.send(ARTICLES, b"rubbish", b"{not json")
        await producer.send(ARTICLES, b"other", b'{"article_id":"rubbish"}')

    async def told() -> bool:
        return await count_messages(settings, DEAD_LETTERS) == before + 2

    await until(told)
    assert (await answer(settings, "customer-00", "full")).items
