"""A customer gets the same answer alone, in a batch, and in a batch of any other company."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from infra.clock import ManualClock
from offline.histories import load_histories
from serving.messages import STRATEGIES, Filters, RecommendationRequest, Recommendations
from serving.pipeline import Pipeline
from streams.events import to_micros
from streams.histories import Histories
from streams.state import CustomerState
from streams.store import StoredCustomer
from tests.support.tiny_fixture import Tiny


@pytest.fixture(scope="module")
def histories(tiny: Tiny) -> Histories:
    return load_histories(tiny.log, tiny.runtime.manifest.trained_through)


@pytest.fixture
def pipeline(tiny: Tiny) -> Pipeline:
    return Pipeline(tiny.runtime, ManualClock(tiny.runtime.manifest.trained_through))


def states(histories: Histories) -> list[CustomerState]:
    found = [histories.state(customer) for customer in histories.customers]
    return [state for state in found if state is not None]


def assert_same(given: Recommendations, expected: Recommendations) -> None:
    assert [item.article_id for item in given.items] == [item.article_id for item in expected.items]
    assert [item.source for item in given.items] == [item.source for item in expected.items]
    assert [i.score for i in given.items] == pytest.approx([i.score for i in expected.items], abs=1e-6)
    assert (given.customer_id, given.cold_start, given.as_of) == (
        expected.customer_id,
        expected.cold_start,
        expected.as_of,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_answers(tiny: Tiny, histories: Histories, pipeline: Pipeline, strategy: str) -> None:
    dice = random.Random(5)
    jobs: list[tuple[RecommendationRequest, StoredCustomer | None]] = []
    for n, state in enumerate(states(histories)):
        fields: dict[str, Any] = {
            "k": dice.choice([1, 5, 12]),
            "filters": Filters(exclude_bought=n % 3 == 0),
        }
        embedding = tiny.runtime.encoder.encode([state])[0] if n % 2 else None
        request = RecommendationRequest(request_id=f"r{n}", customer_id=state.customer_id, strategy=strategy, **fields)
        jobs.append((request, StoredCustomer(state, 1, tiny.bundle_id if n % 2 else None, embedding)))
        jobs.append((RecommendationRequest(request_id=f"u{n}", customer_id=f"unknown-{n}", strategy=strategy), None))
    alone = {request.request_id: pipeline.recommend([request], [customer])[0] for request, customer in jobs}
    for size in (2, 7, len(jobs)):
        dice.shuffle(jobs)
        for first in range(0, len(jobs), size):
            part = jobs[first : first + size]
            for answer in pipeline.recommend([r for r, _ in part], [c for _, c in part]):
                assert answer.error is None
                assert_same(answer, alone[answer.request_id])
    assert len({tuple(i.article_id for i in a.items) for a in alone.values()}) > 2  # there is something to confuse


def test_embeddings(tiny: Tiny, histories: Histories) -> None:
    everyone = states(histories)
    together = tiny.runtime.encoder.encode(everyone)
    for row, state in enumerate(everyone):
        assert np.allclose(tiny.runtime.encoder.encode([state])[0], together[row], atol=1e-6)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_the_stored_embedding_is_the_one_computed_on_a_miss(
    tiny: Tiny, histories: Histories, pipeline: Pipeline
) -> None:
    cut = to_micros(tiny.runtime.manifest.trained_through)
    for state in states(histories)[:6]:
        assert state.as_of is not None
        assert state.as_of < cut
        request = RecommendationRequest(request_id="r", customer_id=state.customer_id)
        stored = StoredCustomer(state, 1, tiny.bundle_id, tiny.runtime.encoder.encode([state])[0])
        with_it, without = pipeline.recommend([request, request], [stored, StoredCustomer(state, 1)])
        assert_same(with_it, without)
