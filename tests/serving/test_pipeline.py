"""Answers of the only pipeline there is, on a catalogue whose answers can be worked out."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from infra.clock import ManualClock
from serving.messages import STRATEGIES, Filters, RecommendationRequest, Recommendations
from serving.pipeline import Pipeline
from serving.retrieval.candidates import UNRANKED
from streams.bundle_contract import SOURCES
from streams.events import Event
from streams.store import StoredCustomer
from tests.support.toy_catalog import (
    IDS,
    POPULAR,
    SPACE,
    TODAY,
    YOUNG,
    BrokenRanker,
    CosineRanker,
    N,
    ask,
    event,
    moment,
    pipeline,
    state,
)

PAST = (event(60, "socks"), event(80, "socks"), event(90, "hat"))


def one(given: Pipeline, request: RecommendationRequest, customer: StoredCustomer | None) -> Recommendations:
    (answer,) = given.recommend([request], [customer])
    return answer


def ids(answer: Recommendations) -> list[str]:
    return [item.article_id for item in answer.items]


def anna(*events: Event, **fields: Any) -> StoredCustomer:
    return StoredCustomer(state(*(events or PAST)), 1, **fields)


def axis(article: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.zeros(N, np.float32)
    vector[IDS.index(article)] = 1
    return vector


def test_the_ranker_decides_the_order() -> None:
    answer = one(pipeline(), ask(k=3), anna())
    assert ids(answer) == ["socks", "hat", "bread"]  # cosines 2/√5, 1/√5, 0; then the first row
    assert [item.score for item in answer.items] == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0])
    assert [item.rank for item in answer.items] == [1, 2, 3]
    assert answer.items[0].source == "repurchase+collab+two_tower+content+popular"  # sixth of the last
    assert answer.items[2].source.split("+")[0] == "popular"
    assert answer.as_of == moment(90)
    assert (answer.cold_start, answer.degraded, answer.error, answer.bundle_id) == (False, [], None, SPACE)


COLD = pytest.mark.parametrize(
    ("customer", "context", "expected"),
    [
        ("zoe", {}, POPULAR),
        ("yara", {}, YOUNG),
        ("zoe", {"segment": "young"}, YOUNG),
        ("zoe", {"segment": "?"}, POPULAR),
    ],
    ids=["unknown", "segment of the bundle", "segment of the request", "unknown segment"],
)


@COLD
def test_cold_customer_gets_what_is_popular_unranked(
    customer: str, context: dict[str, str], expected: list[int]
) -> None:
    answer = one(pipeline(BrokenRanker()), ask(customer, k=5, context=context), None)
    assert ids(answer) == [IDS[row] for row in expected[:5]]
    assert answer.cold_start
    assert answer.as_of is None
    assert answer.degraded == []
    assert {item.source for item in answer.items} == {"popular"}


def test_a_view_is_enough_to_be_known_by() -> None:
    answer = one(pipeline(), ask(k=2), anna(event(90, "hat", type="view")))
    assert not answer.cold_start
    assert answer.as_of == moment(90)
    assert answer.items[0].article_id == "hat"
    assert set(answer.items[0].source.split("+")) == {"repurchase", "popular", "collab", "two_tower"}


def test_events_of_articles_the_bundle_does_not_know_leave_a_customer_cold() -> None:
    answer = one(pipeline(BrokenRanker()), ask(k=N), anna(event(90, "wine")))
    assert answer.cold_start
    assert ids(answer) == IDS
    assert {item.source for item in answer.items} == {"popular"}
    assert answer.as_of == moment(90)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("popular", ["bread", "rolls", "milk"]),
        ("repurchase", ["socks", "hat"]),
        ("variants", ["shirt"]),
        ("covisitation", ["shirt"]),  # socks once, though bought twice
        ("collab", ["socks", "shirt", "hat"]),
        ("two_tower", ["socks", "hat"]),
        ("content", ["apple", "socks", "shirt"]),  # the apple was never sold
        ("hybrid", ["socks", "shirt", "hat"]),
    ],
)
def test_a_strategy_of_one_source_asks_only_that(strategy: str, expected: list[str]) -> None:
    answer = one(pipeline(BrokenRanker()), ask(k=len(expected), strategy=strategy), anna())
    assert ids(answer) == expected
    assert answer.degraded == []
    assert [item.source for item in answer.items] == [strategy] * len(expected)
    assert answer.strategy == strategy


def test_every_strategy_is_asked_for_by_the_name_of_its_source() -> None:
    assert set(STRATEGIES) == {"full", *pipeline().runtime.catalog.strategies}


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"content"}))
def test_a_stranger_gets_what_is_popular_whatever_was_asked(strategy: str) -> None:
    answer = one(pipeline(BrokenRanker()), ask("zoe", k=4, strategy=strategy), None)
    assert ids(answer) == IDS[:4]
    assert {item.source for item in answer.items} == {"popular"}
    assert (answer.strategy, answer.cold_start, answer.degraded) == (strategy, True, [])


def test_what_a_strategy_does_not_find_is_filled_with_what_is_popular() -> None:
    answer = one(pipeline(), ask(k=3, strategy="variants"), anna())
    assert [(item.article_id, item.source) for item in answer.items] == [
        ("shirt", "variants"),
        ("bread", "popular"),
        ("rolls", "popular"),
    ]


def test_broken_ranker_leaves_the_order_of_retrieval(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        (answer,) = pipeline(BrokenRanker()).recommend([ask(k=3)], [anna()], degraded=["store_unavailable"])
    assert answer.degraded == ["store_unavailable", "ranker_failed"]
    # What she bought; and of what is new to her, shirt is the first of two sources, bread and apple of one each.
    assert ids(answer) == ["socks", "hat", "shirt"]
    assert answer.error is None


def test_broken_ranker_puts_every_repurchase_first(caplog: pytest.LogCaptureFixture) -> None:
    """The last habit stands before the best seller, the variant and what goes with everything."""
    habits = [event(90 - n, article) for n, article in enumerate(IDS[1:])]
    with caplog.at_level(logging.CRITICAL):
        answer = one(pipeline(BrokenRanker()), ask(k=N), anna(*habits))
    assert ids(answer) == [*IDS[1:], "bread"]
    bread = answer.items[-1].source.split("+")
    assert {"popular", "variants", "covisitation"} <= set(bread)


def test_degraded_is_told_to_each_answer_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        first, second = pipeline(BrokenRanker()).recommend([ask(), ask("zoe")], [anna(), None], degraded=["late"])
    assert first.degraded == ["late", "ranker_failed"]
    assert second.degraded == ["late"]  # nobody asked the ranker
    alone, wrong = pipeline().recommend([ask(), ask("zoe", strategy="psychic")], [anna(), None], degraded=["late"])
    assert alone.degraded == ["late"]
    assert wrong.degraded == []


def test_more_than_the_candidates_is_filled() -> None:
    # Each source finds one: repurchase, collab and two_tower socks, variants and covisitation shirt, content apple.
    answer = one(pipeline(depth=1), ask(k=N), anna())
    assert ids(answer) == ["socks", "bread", "apple", "shirt", "rolls", "milk", "cheese", "hat"]
    assert [item.source for item in answer.items[4:]] == ["popular"] * 4
    scores = [item.score for item in answer.items]
    assert all(a >= b for a, b in pairwise(scores[:4]))
    assert all(a > b for a, b in pairwise(scores[3:]))
    assert len(one(pipeline(), ask(k=200), anna()).items) == N


def test_filling_goes_beyond_the_list_of_the_popular() -> None:
    request = ask("zoe", k=3, filters=Filters(attributes={"department": ["Wear"]}))
    answer = one(pipeline(top=2), request, None)
    assert [(item.article_id, item.source) for item in answer.items] == [
        ("socks", "catalogue"),
        ("shirt", "catalogue"),
        ("hat", "catalogue"),
    ]
    assert {item.reason for item in answer.items} == {None}  # it is not said that they are popular
    young = ask("yara", k=3, filters=Filters(attributes={"department": ["Food"]}))
    assert ids(one(pipeline(top=2), young, None)) == ["apple", "cheese", "milk"]


def test_embedding_of_this_space_is_used_and_of_another_is_not() -> None:
    request = ask(k=1, strategy="two_tower")
    assert ids(one(pipeline(), request, anna(space=SPACE, embedding=axis("milk")))) == ["milk"]
    for foreign in ({"space": "20200101T000000Z-fffffff"}, {"space": None}):
        assert ids(one(pipeline(), request, anna(embedding=axis("milk"), **foreign))) == ["socks"]
    other_size = anna(space="20200101T000000Z-fffffff", embedding=np.ones(3, np.float32))
    assert ids(one(pipeline(), request, other_size)) == ["socks"]


def test_a_planted_future_changes_nothing_before_its_time() -> None:
    future = [*PAST, event(TODAY, "milk"), *(event(TODAY + n / 24, "shirt", price=999.0) for n in range(1, 6))]
    # The stored embedding has seen the future too.
    seen_it = anna(*future, space=SPACE, embedding=axis("shirt"))
    plain_ranker, planted_ranker = CosineRanker(), CosineRanker()
    for strategy in STRATEGIES:
        request = ask(k=N, strategy=strategy)
        plain = one(pipeline(plain_ranker), request, anna())
        planted = one(pipeline(planted_ranker), request, seen_it)
        assert planted == plain
    assert planted_ranker.seen
    for given, expected in zip(planted_ranker.seen, plain_ranker.seen, strict=True):
        assert np.array_equal(given, expected)
    later = one(pipeline(day=TODAY + 2), ask(k=N), seen_it)
    assert ids(later)[0] == "shirt"
    assert later.as_of == future[-1].occurred_at


def test_customer_of_the_future_is_cold() -> None:
    answer = one(pipeline(), ask(k=2), anna(event(TODAY + 1, "hat"), space=SPACE, embedding=axis("hat")))
    assert answer.cold_start
    assert answer.as_of is None
    assert ids(answer) == ["bread", "rolls"]


def test_refused_requests_do_not_disturb_the_others() -> None:
    wrong = [
        ask("ben", filters=Filters(attributes={"size": ["M"]})),
        ask("cleo", filters=Filters(min_price=3.0, max_price=2.0)),
        ask("dora", strategy="psychic"),
    ]
    good = [ask(k=4), ask("zoe", k=4)]
    answers = pipeline().recommend([good[0], *wrong, good[1]], [anna(), anna(), None, anna(), None])
    assert [answer.request_id for answer in answers] == ["r-anna", "r-ben", "r-cleo", "r-dora", "r-zoe"]
    messages = ["filter on size", "min_price 3.0 is above", "strategy 'psychic'; allowed: full, hybrid, repurchase"]
    for answer, message in zip(answers[1:4], messages, strict=True):
        assert answer.error is not None
        assert answer.error.code == "invalid_request"
        assert message in answer.error.message
        assert not answer.error.retryable
        assert answer.items == []
    assert answers[0] == one(pipeline(), good[0], anna())
    assert answers[4] == one(pipeline(), good[1], None)


def test_a_source_that_is_left_out_finds_nothing_and_the_others_stay() -> None:
    _, whole = pipeline().candidates([ask()], [anna()])[0]
    without = Pipeline(pipeline().runtime, ManualClock(moment(TODAY)), without=("repurchase",))
    query, found = without.candidates([ask()], [anna()])[0]
    column = SOURCES.index("repurchase")
    assert found.sources == whole.sources  # the ranker's features keep their places
    assert (found.ranks[:, column] == UNRANKED).all()
    assert not any("repurchase" in item.source for item in one(without, ask(), anna()).items)
    others = [n for n in range(len(SOURCES)) if n != column]
    before, after = (dict(zip(c.item_idx.tolist(), c.ranks[:, others].tolist(), strict=True)) for c in (whole, found))
    assert before == after
    assert query.history.items.tolist() == sorted(IDS.index(article) for article in ("socks", "hat"))


def test_a_strategy_is_not_touched_by_what_full_does_without() -> None:
    without = Pipeline(pipeline().runtime, ManualClock(moment(TODAY)), without=("repurchase",))
    assert ids(one(without, ask(k=2, strategy="repurchase"), anna())) == ["socks", "hat"]


def test_no_requests_no_answers() -> None:
    assert pipeline().recommend([], []) == []


def test_trace_only_on_request() -> None:
    request = ask(k=2, explain=True, exclude=["bread"])
    answer = one(pipeline(), request, anna())
    assert [(step["stage"], step.get("candidates"), step.get("dropped")) for step in answer.trace] == [
        ("retrieval", N, None),
        ("filters", None, 1),
        ("drop", None, None),
        ("ranking", None, None),
        ("item", None, None),
        ("item", None, None),
    ]
    assert one(pipeline(), ask(k=2), anna()).trace == []
