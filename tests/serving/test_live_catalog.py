"""Stock, prices and new articles over the toy shop: what may be shown, at which price, and how what is new is found."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.clock import ManualClock
from serving.content_space import ContentSpace, Projection
from serving.live_catalog import WORDS, LiveCatalog
from serving.messages import STRATEGIES, Filters, RecommendationRequest, Recommendations
from serving.pipeline import Pipeline
from serving.runtime import Runtime
from serving.word_vectors import DIM, WordVectors
from streams.bundle_contract import FEATURES
from streams.catalog import Article
from streams.store import StoredCustomer
from tests.support.toy_catalog import IDS, TODAY, N, ask, event, moment, pipeline, query, state

ANNA = state(event(80, "bread"), event(90, "cheese"))
PEAR = Article(article_id="pear", title="Apple and cheese", department="Food", category="Fruit", price=3.0)


def with_space(runtime: Runtime, encoder: str = WORDS) -> Runtime:
    """Content has three dimensions: how much a text speaks of bread, of cheese, of socks."""
    axes = WordVectors()(["bread", "cheese", "socks"]).T
    projection = Projection(np.zeros(DIM, np.float32), np.ascontiguousarray(axes))
    return replace(runtime, content_space=ContentSpace(encoder, 1.0, np.empty(0, np.float32), projection))


class Live:
    """The toy shop's pipeline under messages on articles."""

    def __init__(self, *, encoder: str = WORDS) -> None:
        self.vectors: dict[tuple[str, str], np.ndarray] = {}
        self.runtime = with_space(pipeline().runtime, encoder)
        self.catalog = LiveCatalog(self.runtime, lambda space, article_id: self.vectors.get((space, article_id)))

    def after(self, *messages: Article, gone: tuple[str, ...] = ()) -> Pipeline:
        runtime, shelf = self.catalog.apply({m.article_id: m for m in messages} | dict.fromkeys(gone))
        return Pipeline(runtime, ManualClock(moment(TODAY)), shelf=shelf)


def answer(given: Pipeline, request: RecommendationRequest, known: bool = True) -> Recommendations:
    (found,) = given.recommend([request], [StoredCustomer(ANNA, 1) if known else None])
    return found


def shown(given: Pipeline, known: bool = True, **fields: object) -> list[str]:
    return [item.article_id for item in answer(given, ask(**fields), known).items]


@settings(max_examples=50)
@given(st.sets(st.sampled_from([*IDS, "pear"])), st.sampled_from(STRATEGIES), st.integers(1, 20), st.booleans())
def test_what_is_unavailable_is_never_shown(sold_out: set[str], strategy: str, k: int, known: bool) -> None:
    told = [Article(article_id=article, available=False) for article in sold_out if article != "pear"]
    live = Live().after(*told, msgspec.structs.replace(PEAR, available="pear" not in sold_out))
    # Everything that is left fills the list, also behind a strategy that finds little.
    left = {*IDS, "pear"} - sold_out
    found = shown(live, known, strategy=strategy, k=k)
    assert set(found) <= left
    assert len(found) == min(k, len(left))


def test_what_comes_back_is_shown_again() -> None:
    live = Live()
    assert "bread" not in shown(live.after(Article(article_id="bread", available=False)))
    assert "bread" in shown(live.after(Article(article_id="bread")))
    assert "bread" not in shown(live.after(Article(article_id="bread", available=False)))
    assert "bread" in shown(live.after(gone=("bread",)))


def test_an_answer_under_way_keeps_its_moment() -> None:
    live = Live()
    before = live.after(PEAR)
    after = live.after(Article(article_id="bread", available=False, price=9.0), gone=("pear",))
    assert {"bread", "pear"} <= set(shown(before))
    assert not {"bread", "pear"} & set(shown(after))


def test_price_filters_and_answers_follow_the_live_price() -> None:
    live = Live().after(Article(article_id="bread", price=30.0), Article(article_id="apple", price=0.5))
    dear = answer(live, ask(filters=Filters(min_price=18.0)))
    assert {item.article_id: item.price for item in dear.items} == {"bread": 30.0, "shirt": 20.0}
    assert shown(live, filters=Filters(max_price=0.9)) == ["apple"]
    # No word of a price: the bundle's; taken back: the bundle's again.
    plain = {item.article_id: item.price for item in answer(Live().after(Article(article_id="bread")), ask()).items}
    assert plain["bread"] == 2.0
    assert plain["apple"] is None


def test_rank_features_keep_the_price_that_the_ranker_learned_with() -> None:
    live = Live().after(Article(article_id="bread", price=30.0))
    ((asked, candidates),) = live.candidates([ask()], [StoredCustomer(ANNA, 1)])
    features = live.runtime.catalog.features.build(asked, candidates)
    bread = features[list(candidates.item_idx).index(IDS.index("bread"))]
    assert bread[FEATURES.index("price")] == pytest.approx(np.log1p(2.0))


def test_a_new_article_is_found_by_its_content() -> None:
    """Its title speaks of cheese as the customer's newest purchase does; it was never sold, so it is new as well."""
    live = Live().after(PEAR)
    found = answer(live, ask(strategy="content"))
    assert "pear" in [item.article_id for item in found.items][:3]
    assert next(item for item in found.items if item.article_id == "pear").price == 3.0
    for strategy in ("full", "hybrid"):
        (pear,) = [item for item in answer(live, ask(strategy=strategy)).items if item.article_id == "pear"]
        assert strategy == "hybrid" or "content" in pear.source
    assert "pear" in shown(live, filters=Filters(attributes={"category": ["Fruit"]}))


def test_a_new_article_has_the_statistics_of_what_was_never_sold() -> None:
    catalog = Live().after(PEAR).runtime.catalog
    row = catalog.items.index["pear"]
    assert row == N
    s = catalog.statistics
    assert [s.sold_1d[row], s.sold_91d[row], s.buyers_91d[row]] == [0, 0, 0]
    assert s.segment_buyers[:, row].tolist() == [0, 0]
    assert [s.first_sold[row], s.last_sold[row]] == [1000, 1000]
    assert np.isnan([s.interval[row], s.price_7d[row]]).all()
    # The toy shop has no debut lately, so the catalogue's own rate it is.
    assert s.debut[row] == 1
    assert not catalog.vectors[row].any()
    assert not catalog.factors.items[row].any()
    bought = state(event(80, "bread"), event(99, "pear"))
    asked = query(bought, given=catalog)
    assert "pear" in [catalog.items.article_ids[i] for i in asked.history.items]
    candidates = Pipeline(Live().after(PEAR).runtime, ManualClock(moment(TODAY))).candidates(
        [ask()], [StoredCustomer(bought, 1)]
    )[0][1]
    features = catalog.features.build(asked, candidates)
    assert np.isfinite(features).all()
    mine = features[list(candidates.item_idx).index(row)]
    assert mine[FEATURES.index("price")] == pytest.approx(np.log1p(3.0))
    assert mine[FEATURES.index("bought")] == 1


# Content takes turns between what is near and what is new, and the blend brings scores to 0..1 among all candidates:
# there one article more moves others.
@pytest.mark.parametrize("strategy", sorted({*STRATEGIES} - {"content", "hybrid"}))
def test_what_the_bundle_knows_is_answered_as_without_new_articles(strategy: str) -> None:
    plain, live = Live().after(), Live().after(PEAR)
    before = answer(plain, ask(strategy=strategy, k=N)).items
    after = answer(live, ask(strategy=strategy, k=N, exclude=["pear"])).items
    assert [(i.article_id, i.rank, i.price) for i in before] == [(i.article_id, i.rank, i.price) for i in after]
    assert [i.score for i in before] == pytest.approx([i.score for i in after], abs=1e-6)


def test_a_new_article_that_changes_its_text_is_found_by_the_new_one_only() -> None:
    live = Live()
    first = live.after(PEAR).runtime.catalog
    second = live.after(Article(article_id="pear", title="Socks socks socks", department="Wear")).runtime.catalog
    old, new = first.items.index["pear"], second.items.index["pear"]
    assert (old, new) == (N, N + 1)
    assert first.content[old] == pytest.approx([0, 1, 0], abs=0.3)
    assert second.content[new] == pytest.approx([0, 0, 1], abs=0.3)
    assert live.catalog.outdated == 1
    found = shown(live.after(), k=20)
    assert found.count("pear") == 1
    # Stock and price alone leave no row behind.
    live.after(Article(article_id="pear", title="Socks socks socks", department="Wear", price=1.0, available=False))
    assert live.catalog.outdated == 1


def test_vectors_of_another_encoder_never_meet() -> None:
    live = Live(encoder="minilm-1")
    live.vectors["words-1", "pear"] = np.ones(DIM, np.float32)
    assert not live.after(PEAR).runtime.catalog.content[N].any()
    live.vectors["minilm-1", "pear"] = WordVectors()(["cheese"])[0]
    catalog = live.after(PEAR).runtime.catalog
    assert catalog.content[catalog.items.index["pear"]] == pytest.approx([0, 1, 0], abs=0.2)


def test_many_new_articles_leave_catalogues_that_were_given_out_alone() -> None:
    live = Live()
    first = live.after(PEAR).runtime.catalog
    kept = first.content.copy()
    live.after(*[Article(article_id=f"new-{n}", title=f"Cheese {n}") for n in range(3_000)])
    assert np.array_equal(first.content, kept)
    assert len(first.items) == N + 1
    last = live.after(Article(article_id="one-more", title="Bread")).runtime.catalog
    assert len(last.items) == N + 3_002
    assert np.array_equal(last.content[: N + 1], kept)
