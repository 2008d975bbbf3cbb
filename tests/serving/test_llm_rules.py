"""The rules of a request hold after a language model has put the list into another order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from infra.clock import ManualClock
from infra.settings import LlmSettings
from serving.llm import open_reranker
from serving.messages import Filters, RecommendationRequest, Rules
from serving.pipeline import Pipeline
from serving.reload import Loaded
from serving.responder import Responder
from streams.store import MemoryStore
from tests.serving.toy_shop import ToyLink
from tests.support.llm_server import LlmServer
from tests.support.tiny import article_number, customer_id
from tests.support.tiny_fixture import Tiny

PINS = [article_number("shoe", 4), article_number("top", 3)]


@dataclass(frozen=True)
class Source:
    current: Loaded


@pytest.mark.parametrize("top_n", [3, 50])
async def test_pins_caps_filters_and_blocks_hold(tiny: Tiny, top_n: int) -> None:
    clock = ManualClock(tiny.bundle.manifest.trained_through)
    source = Source(Loaded(tiny.bundle_id, tiny.runtime, Pipeline(tiny.runtime, clock)))
    wanted = RecommendationRequest(
        request_id="r",
        customer_id=customer_id(0),
        k=6,
        rerank="llm",
        filters=Filters(max_price=20.0),
        rules=Rules(pins=PINS, max_per_product=1, blocked={"article_id": [article_number("top", 0)]}),
    )
    async with LlmServer() as server:
        given = {"url": server.url, "model": "toy", "top_n": top_n, "wait_ms": 2_500, "deadline_ms": 20_000}
        llm = open_reranker(LlmSettings.model_validate(given), clock)
        assert llm is not None
        before, after = [
            (await Responder(source, MemoryStore(), ToyLink(), clock, deadline_ms=20_000, llm=by).answer([wanted]))[0]
            for by in (None, llm)
        ]
        await llm.close()
    ranked, ordered = ([item.article_id for item in answer.items] for answer in (before, after))
    assert ordered != ranked and sorted(ordered) == sorted(ranked)
    assert ordered[:2] == PINS
    assert [item.rank for item in after.items] == list(range(1, len(ordered) + 1))
    assert article_number("top", 0) not in ordered
    items = tiny.runtime.items
    assert max(Counter(int(items.products[items.index[article]]) for article in ordered).values()) == 1
    # The pins are not even asked about.
    assert len(server.asked[0].items) == min(top_n, len(ordered) - len(PINS))
