"""The HTTP API of running processes, by its client: what goes in at one door is seen at the others."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import timedelta

import pytest

from serving.client import AsyncClient
from serving.client_errors import NotFound
from serving.messages import RecommendationRequest
from serving.subscriber import ask
from serving.up import Stack
from streams.events import Event
from tests.e2e.conftest import PRESENT
from tests.support.tiny import article_number

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PATIENCE_S = 20


async def test_an_answer_of_the_responder_is_explained_by_the_gateway(live: Stack) -> None:
    wanted = RecommendationRequest(request_id=uuid.uuid4().hex, customer_id="customer-00", k=3, explain=True)
    async with asyncio.timeout(PATIENCE_S):
        answer = await ask(live.settings.kafka, wanted)
    assert live.api_url is not None
    async with AsyncClient(live.api_url) as client:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                told = await client.explain(wanted.request_id)
                break
            except NotFound:  # it is written after the answer went out
                assert time.monotonic() < until, "the gateway never learned of the answer"
                await asyncio.sleep(0.05)
    assert told.answer == answer
    assert {line["stage"] for line in told.answer.trace} >= {"retrieval", "filters"}


async def test_what_is_bought_over_http_is_in_the_customer_s_history(live: Stack) -> None:
    customer, shoe = f"http-{uuid.uuid4().hex[:8]}", article_number("shoe", 0)
    event = Event(
        event_id=uuid.uuid4().hex,
        type="purchase",
        occurred_at=PRESENT - timedelta(minutes=1),
        customer_id=customer,
        article_id=shoe,
        price=9.5,
    )
    assert live.api_url is not None
    async with AsyncClient(live.api_url) as client:
        await client.send([event, event])
        until = time.monotonic() + PATIENCE_S
        while not (history := await client.history(customer)).events:
            assert time.monotonic() < until, "the purchase never arrived"
            await asyncio.sleep(0.05)
        assert [(row.article_id, row.price, row.title) for row in history.events] == [(shoe, 9.5, "Shoe 0")]
        answer = await client.recommend_user(customer, top_k=1, explain=True)
        assert answer.as_of == event.occurred_at
        assert (await client.explain(answer.request_id)).answer == answer
