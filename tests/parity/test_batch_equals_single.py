"""A customer gets the same answer alone, in a batch, and in a batch of any other company."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from infra.clock import ManualClock
from offline.export import export_network
from offline.histories import load_histories
from offline.models.query_encoders import PoolingEncoder, TransformerEncoder
from serving.messages import (
    STRATEGIES,
    Filters,
    RecommendationRequest,
    Recommendations,
    encode_recommendations,
)
from serving.pipeline import Pipeline
from streams.encoder import ROWS, SEQUENCE_LENGTH, EncoderInput, QueryEncoder, onnx_session
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
    """Byte for byte, as they stand on the topic: scores to their last bit."""
    assert encode_recommendations(given) == encode_recommendations(expected)


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


def test_embeddings_are_equal_to_the_bit_in_any_company(tiny: Tiny, histories: Histories) -> None:
    everyone = states(histories)
    together = tiny.runtime.encoder.encode(everyone)
    for row, state in enumerate(everyone):
        assert tiny.runtime.encoder.encode([state])[0].tobytes() == together[row].tobytes()
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-3)
    assert np.array_equal(together.astype(np.float16).astype(np.float32), together)  # so a store halves them
    assert len({row.tobytes() for row in together}) > len(everyone) // 2  # there is something to confuse


@pytest.mark.parametrize("kind", [PoolingEncoder(16, 4), TransformerEncoder(16, 2, 2, 0.1)], ids=["pooling", "blocks"])
def test_a_row_of_the_network_is_equal_to_the_bit_in_any_company(kind: torch.nn.Module, tmp_path: Path) -> None:
    """Before any rounding: batches of few and of many, and beyond what is run at once, in any order."""
    rng = np.random.default_rng(11)
    n, length, dim = ROWS + 22, SEQUENCE_LENGTH, 16
    mask = (np.arange(length) >= length - rng.integers(1, length + 1, n)[:, None]).astype(np.float32)
    gaps = -np.sort(-rng.uniform(0, 7, mask.shape)).astype(np.float32) * mask
    rows = (rng.integers(0, 50, mask.shape) * mask).astype(np.int64)
    vectors = rng.standard_normal((50, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    example = (vectors[rows[:3]], gaps[:3], mask[:3])
    export_network(kind.eval(), tuple(map(torch.from_numpy, example)), ("items", "gaps", "mask"), tmp_path / "q.onnx")
    encoder = QueryEncoder(onnx_session(str(tmp_path / "q.onnx")), vectors, {}, "x")

    def run(some: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return encoder.run(EncoderInput(rows[some], gaps[some], mask[some]))

    alone = np.concatenate([run(np.array([row])) for row in range(n)])
    for size in [*range(2, 18), 31, 32, 33, ROWS - 1, ROWS, ROWS + 1, ROWS + 2, n]:
        order = rng.permutation(n)
        for first in range(0, n - size + 1, size):
            some = order[first : first + size]
            assert run(some).tobytes() == alone[some].tobytes()


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
