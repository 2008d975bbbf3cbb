"""The judge: every strategy through the real pipeline, on states of the cut, with metrics checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from infra.errors import GateError
from offline.evaluate import BASELINES, Evaluation, bootstrap_interval, evaluate, index_recall
from offline.histories import load_histories
from offline.progress import Step
from serving.index import VectorIndex
from streams.events import to_micros
from tests.support.tiny import article_number, customer_id
from tests.support.tiny_fixture import Tiny

Truth = dict[str, dict[int, float]]


def judge(tiny: Tiny, truth: Truth) -> Evaluation:
    cut = tiny.bundle.manifest.trained_through
    histories = load_histories(tiny.log)  # with the test week: states must not use it
    return evaluate(tiny.runtime, histories, truth, to_micros(cut), Step("evaluate", 1, None), seed=1)


def item(tiny: Tiny, kind: str, n: int) -> int:
    return tiny.runtime.items.index[article_number(kind, n)]


def test_a_cold_customer_is_judged_by_the_popular_list(tiny: Tiny) -> None:
    fourth = int(tiny.runtime.catalog.statistics.top[0, 3])
    found = judge(tiny, {"nobody-knows": {fourth: 1.0}})
    assert (found.customers, found.cold_customers) == (1, 1)
    for strategy in ("full", "popular"):
        assert found.metrics[strategy] == {
            "map@12": 0.25,
            "recall@100": 1.0,
            "ndcg@12": round(1 / np.log2(5), 5),
            "hr@12": 1.0,
            "coverage@12": round(12 / 13, 5),
        }


def test_metrics_are_means_over_customers_who_bought(tiny: Tiny) -> None:
    staple, never = item(tiny, "top", 0), item(tiny, "hat", 0)
    one = judge(tiny, {customer_id(0): {staple: 9.5}})
    assert one.metrics["repurchase"]["map@12"] == 1.0  # the staple was bought most often
    both = judge(tiny, {customer_id(0): {staple: 9.5}, customer_id(2): {staple: 9.5, never: 1.0}})
    assert both.metrics["repurchase"]["ndcg@12"] < 1.0
    expected = (1.0 + judge(tiny, {customer_id(2): {staple: 9.5, never: 1.0}}).metrics["repurchase"]["map@12"]) / 2
    assert both.metrics["repurchase"]["map@12"] == pytest.approx(expected, abs=1e-5)
    assert set(both.metrics) == {"full", *BASELINES}
    assert both.best_baseline in BASELINES
    assert both.cold_customers == 0


def test_states_end_at_the_cut(tiny: Tiny) -> None:
    """Judged with the log of the test week and without it, everything is the same."""
    truth: Truth = {customer_id(n): {item(tiny, "shoe", n % 6): 9.5} for n in range(24)}
    cut = tiny.bundle.manifest.trained_through
    blind = evaluate(
        tiny.runtime, load_histories(tiny.log, cut), truth, to_micros(cut), Step("evaluate", 1, None), seed=1
    )
    seeing = judge(tiny, truth)
    assert (seeing.metrics, seeing.interval) == (blind.metrics, blind.interval)
    assert tiny.log.span[1] > cut


def test_nobody_to_judge_by_is_an_error(tiny: Tiny) -> None:
    with pytest.raises(GateError, match="nobody bought anything in the evaluation window; choose an earlier --until"):
        judge(tiny, {})


def test_the_interval_holds_the_mean_and_narrows_with_customers() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.normal(0.5, 1, 50), rng.normal(0.5, 1, 5_000)
    for sample in (few, many):
        low, high = bootstrap_interval(sample, seed=1)
        assert low < sample.mean() < high
        half = 1.96 * sample.std() / np.sqrt(len(sample))
        assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    assert bootstrap_interval(few, seed=1) == bootstrap_interval(few, seed=1)
    assert bootstrap_interval(np.full(10, 0.25), seed=1) == (0.25, 0.25)


def unit(n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_index_recall_is_the_share_of_the_true_neighbours_found() -> None:
    vectors, queries = unit(400, 1), unit(20, 2)
    assert index_recall(VectorIndex.build(vectors), vectors, queries) > 0.98
    assert index_recall(VectorIndex.build(vectors), vectors, queries[:0]) == 1.0
    half = vectors.copy()
    half[200:] = -vectors[200:]  # an index of other vectors finds other neighbours
    assert index_recall(VectorIndex.build(half), vectors, queries) < 0.7
