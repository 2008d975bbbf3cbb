"""The judge: every strategy through the real pipeline, on states of the cut, with metrics checked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from infra.errors import GateError
from offline.contenders import WITHOUT_RANKER, Contender, ask, contenders, shown
from offline.evaluate import Evaluation, buyers_before, evaluate, index_recall
from offline.histories import load_histories
from offline.progress import Step
from serving.index import VectorIndex
from serving.ranking import Ranker
from serving.retrieval.candidates import Floats
from streams.events import to_micros
from tests.offline.toy_log import CUT_US, bought, histories_of, items_of, viewed
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
        expected = {
            "map@12": 0.25,
            "recall@100": 1.0,
            "ndcg@12": round(1 / np.log2(5), 5),
            "hr@12": 1.0,
            "recall@12": 1.0,
            "precision@12": round(1 / 12, 5),
            "coverage@12": round(12 / 13, 5),
            "gini@12": round(1 - 12 / 13, 5),  # twelve of thirteen are shown once
        }
        assert {name: found.metrics[strategy][name] for name in expected} == expected


def test_metrics_are_means_over_customers_who_bought(tiny: Tiny) -> None:
    staple, never = item(tiny, "top", 0), item(tiny, "hat", 0)
    one = judge(tiny, {customer_id(0): {staple: 9.5}})
    assert one.metrics["repurchase"]["map@12"] == 1.0  # the staple was bought most often
    both = judge(tiny, {customer_id(0): {staple: 9.5}, customer_id(2): {staple: 9.5, never: 1.0}})
    assert both.metrics["repurchase"]["ndcg@12"] < 1.0
    expected = (1.0 + judge(tiny, {customer_id(2): {staple: 9.5, never: 1.0}}).metrics["repurchase"]["map@12"]) / 2
    assert both.metrics["repurchase"]["map@12"] == pytest.approx(expected, abs=1e-5)
    sources = [source.name for source in tiny.runtime.catalog.sources]
    assert {"full", WITHOUT_RANKER, *sources, *(f"full without {name}" for name in sources)} <= set(both.metrics)
    assert both.best_baseline in {*sources, "hybrid"}
    assert both.cold_customers == 0


def test_states_end_at_the_cut(tiny: Tiny) -> None:
    """Judged with the log of the test week and without it, everything is the same."""
    truth: Truth = {customer_id(n): {item(tiny, "shoe", n % 6): 9.5} for n in range(24)}
    cut = tiny.bundle.manifest.trained_through
    blind = evaluate(
        tiny.runtime, load_histories(tiny.log, cut), truth, to_micros(cut), Step("evaluate", 1, None), seed=1
    )
    seeing = judge(tiny, truth)
    assert json.dumps(seeing.report()) == json.dumps(blind.report())
    assert tiny.log.span[1] > cut


def test_nobody_to_judge_by_is_an_error(tiny: Tiny) -> None:
    with pytest.raises(GateError, match="nobody bought anything in the evaluation window; choose an earlier --until"):
        judge(tiny, {})


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


def test_a_peer_ranker_answers_with_the_same_candidates(tiny: Tiny) -> None:
    """A peer that turns the order round finds as much in all and puts the best last."""

    class Reversed(Ranker):
        def __init__(self) -> None: ...

        def score(self, features: Floats) -> Floats:
            return -tiny.runtime.ranker.score(features)

    cut = to_micros(tiny.bundle.manifest.trained_through)
    truth: Truth = {customer_id(n): {item(tiny, "shoe" if n % 2 else "top", 0): 9.5} for n in range(8)}
    found = evaluate(
        tiny.runtime,
        load_histories(tiny.log),
        truth,
        cut,
        Step("evaluate", 1, None),
        seed=1,
        ranker="mmoe",
        peers={"upside-down": Reversed()},
    )
    peer = found.metrics["full, upside-down ranking"]
    assert peer["recall@100"] == found.metrics["full"]["recall@100"] == 1.0
    assert peer["map@12"] < 0.5 < found.metrics["full"]["map@12"]
    rankers = found.details["rankers"]
    assert rankers["serving"] == "mmoe"
    assert {(row["baseline"], row["metric"], row["verdict"]) for row in rankers["peers"]} == {
        ("full, upside-down ranking", "map@12", "better"),
        ("full, upside-down ranking", "recall@100", "undecided"),
    }


def test_customers_nobody_knows_are_asked_for_once_a_segment(tiny: Tiny) -> None:
    cut = to_micros(tiny.bundle.manifest.trained_through)
    histories = load_histories(tiny.log)
    strangers = [f"stranger-{n}" for n in range(5)]
    asked = ask(tiny.runtime, histories, [customer_id(3), *strangers], cut)
    assert len(asked.first) == 2
    everyone = contenders(tiny.runtime, cut, {})
    rows = shown(everyone[:1], asked, Step("evaluate", 1, None))["full"]
    alone = ask(tiny.runtime, histories, strangers[4:], cut)
    one = shown(everyone[:1], alone, Step("evaluate", 1, None))["full"]
    np.testing.assert_array_equal(rows[5], one[0])
    assert (rows[1:] == rows[5]).all()
    assert (rows[0] != rows[5]).any()


def test_a_contender_that_is_refused_is_an_error(tiny: Tiny) -> None:
    cut = to_micros(tiny.bundle.manifest.trained_through)
    asked = ask(tiny.runtime, load_histories(tiny.log), [customer_id(3)], cut)
    full = contenders(tiny.runtime, cut, {})[0]
    with pytest.raises(
        GateError, match=r"\? did not answer for customer-03: column strategy: strategy '\?'; allowed: full"
    ):
        shown([Contender("?", full.pipeline, "?", baseline=True)], asked, Step("evaluate", 1, None))


def test_sources_are_judged_by_what_they_and_only_they_find(tiny: Tiny) -> None:
    """An odd customer bought its staple again, and a hat that nobody has bought before."""
    staple, hat = item(tiny, "shoe", 0), item(tiny, "hat", 0)
    found = judge(tiny, {customer_id(3): {staple: 9.5, hat: 1.0}})
    rows = {row["source"]: row for row in found.details["sources"]}
    assert rows["repurchase"]["recall"] == 0.5
    assert rows["repurchase"]["lift"] == 0.0  # the others find the staple too
    for row in rows.values():
        assert row["recall_without"] + row["lift"] == pytest.approx(found.details["candidates"]["recall"])
        assert 0 <= row["only_share"] <= 1
    cold = found.details["cold_articles"]
    assert (cold["articles"], cold["customers"], cold["purchases"]) == (1, 1, 1)
    assert cold["random"] == 1.0  # a list of 100 from a shop of 13
    assert cold["contenders"]["popular"]["recall@100"] == 1.0  # lists are filled up with all there is
    assert cold["known_customers"] == 1
    assert cold["known"] == cold["contenders"]
    stranger = judge(tiny, {"nobody-knows": {hat: 1.0}}).details["cold_articles"]
    assert (stranger["known_customers"], stranger["known"]) == (0, {})


def test_segments_and_staleness_are_told_apart(tiny: Tiny) -> None:
    truth: Truth = {"nobody-knows": {item(tiny, "top", 0): 1.0}, customer_id(1): {item(tiny, "shoe", 0): 9.5}}
    found = judge(tiny, truth)
    sizes = {row["segment"]: row["customers"] for row in found.details["segments"]}
    assert sizes["no event"] == sizes["at most one event"] == sizes["10-99 events"] == 1
    cold = next(row for row in found.details["segments"] if row["segment"] == "no event")
    over = {(row["baseline"], row["metric"]): row for row in cold["full_over"]}
    assert over["popular", "recall@100"]["ratio"] == 1.0
    assert {row["days"] for row in found.details["staleness"]} == {1, 7}
    assert [len(e["recommended"]) for e in found.details["examples"]] == [12, 12]
    told = next(e for e in found.details["examples"] if e["customer"] == customer_id(1))
    assert [h["days_ago"] for h in told["history"]] == sorted(h["days_ago"] for h in told["history"])
    assert sum(r["bought"] for r in told["recommended"]) == 1
    assert found.details["calibration"]["predictions"] > 0


def test_buyers_are_counted_before_the_cut_and_once_each() -> None:
    histories = histories_of(
        [
            bought(1, "ann", "tea"),
            bought(2, "ann", "tea"),
            bought(3, "bea", "tea"),
            viewed(3, "cleo", "milk"),
            bought(-1, "cleo", "milk"),
            bought(2, "cleo", "gone"),
        ]
    )
    buyers, shoppers = buyers_before(histories, items_of("tea", "milk"), CUT_US)
    assert (buyers.tolist(), shoppers) == ([2, 0], 2)


def test_with_the_ranker_off_the_lists_are_as_long_and_hold_the_habits_first(tiny: Tiny) -> None:
    found = judge(tiny, {customer_id(3): {item(tiny, "shoe", 0): 9.5}})
    assert found.metrics[WITHOUT_RANKER]["map@12"] == found.metrics["repurchase"]["map@12"] == 1.0
    assert found.metrics[WITHOUT_RANKER]["coverage@12"] == round(12 / 13, 5)
