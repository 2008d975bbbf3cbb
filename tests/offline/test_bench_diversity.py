"""What diversity costs is measured on the lists that the pipeline gives."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from infra.clock import ManualClock
from offline.bench_diversity import measure_diversity
from offline.examples import purchases_between
from offline.histories import load_histories
from offline.metrics import average_precision
from offline.progress import step
from offline.truth import Truth
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from streams.events import to_micros
from streams.store import StoredCustomer
from tests.support.tiny_fixture import Tiny

K = 4


def test_without_diversity_it_is_what_full_scores_and_with_it_lists_are_wider(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lists of four: twelve of the thirteen articles there are would be as wide in any order."""
    monkeypatch.setattr("offline.bench_diversity.K", K)
    cut = tiny.runtime.manifest.trained_through - timedelta(days=7)  # the log ends where the bundle's training does
    histories = load_histories(tiny.log)
    bought = purchases_between(histories, tiny.runtime.items, to_micros(cut), to_micros(cut + timedelta(days=7)))
    with step("diversity", len(bought)) as progress:
        plain, half, whole = measure_diversity(
            tiny.runtime, histories, bought, to_micros(cut), [0.0, 0.5, 1.0], progress
        )
    truth = Truth.of(bought, len(tiny.runtime.items))
    lists = np.full((len(truth), K), -1, np.int64)
    pipeline = Pipeline(tiny.runtime, ManualClock(cut))
    for row, customer in enumerate(truth.customers):
        state = histories.state(customer, to_micros(cut))
        request = RecommendationRequest(request_id="r", customer_id=customer, k=K)
        (answer,) = pipeline.recommend([request], [None if state is None else StoredCustomer(state)])
        lists[row, : len(answer.items)] = [tiny.runtime.items.index[item.article_id] for item in answer.items]
    expected = average_precision(truth.hits(lists), truth.relevant, K).mean()
    assert plain["map@12"] == pytest.approx(expected, abs=1e-5)
    assert "map@12_change" not in plain
    assert plain["content_distance"] < min(half["content_distance"], whole["content_distance"])
    assert whole["map@12_change"]["difference"] == pytest.approx(whole["map@12"] - plain["map@12"], abs=2e-5)
