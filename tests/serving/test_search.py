"""Searching the toy shop (tests/support/toy_catalog.py): whose answers can be worked out by hand."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.clock import ManualClock
from infra.errors import InvalidMessage
from serving.content_space import ContentSpace, Floats, Projection
from serving.live_catalog import LiveCatalog
from serving.messages import Filters, Item
from serving.pipeline import Pipeline
from serving.search import Searcher
from serving.search_messages import ImageSearch, SearchResults, TextSearch
from serving.searchable import Searchable, SearchUnavailable
from serving.shelf import Shelf
from serving.word_index import WordIndex, weighted_words
from streams.catalog import Article
from streams.store import StoredCustomer
from tests.support.toy_catalog import ARTICLES, CONTENT, IDS, TODAY, BrokenRanker, N, event, moment, pipeline, state

ANNA = StoredCustomer(state(event(80, "cheese"), event(90, "cheese"), event(95, "milk")))
MEANINGS = {"toast": [1, 0, 0], "foot warmers": [0, 0, 1]}
# Photos of bread, milk and shirt; the others have none. The query's photo is seen as its mean colour.
PHOTOS = np.zeros((N, 3), np.float32)
PHOTOS[[IDS.index("bread"), IDS.index("milk"), IDS.index("shirt")]] = [[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]]


def encode(texts: Sequence[str]) -> Floats:
    return np.array([MEANINGS.get(text, [0, 0, 0]) for text in texts], np.float32)


def photo(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "PNG")
    return out.getvalue()


RED_PHOTO = photo((255, 0, 0))


class ToyPictures:
    threshold = 0.5
    articles = PHOTOS

    def __call__(self, content: bytes) -> Floats:
        pixel = np.array(Image.open(io.BytesIO(content)).getpixel((0, 0)), np.float32)
        return np.asarray(pixel / np.linalg.norm(pixel), np.float32)


def searchable(**parts: Any) -> Any:
    said = [[f"{row[1]} · {row[3]} · {row[4]} · {row[5]}", row[7] or "", ""] for row in ARTICLES]
    space = ContentSpace(
        "toy-1", 1.0, np.empty(0, np.float32), Projection(np.zeros(3, np.float32), np.eye(3, dtype=np.float32))
    )
    known = {"words": WordIndex.build(weighted_words(parts) for parts in said), "encode_text": encode, "space": space}
    return SimpleNamespace(**known | {"pictures": ToyPictures()} | parts)


def searcher(*messages: Article, ranker: Any = None, **parts: Any) -> Searcher:
    runtime = replace(pipeline(ranker).runtime, searchable=searchable(**parts))
    shelf: Shelf | None = None
    if messages:
        runtime, shelf = LiveCatalog(runtime).apply({message.article_id: message for message in messages})
    return Searcher(runtime, Pipeline(runtime, ManualClock(moment(TODAY)), shelf=shelf))


def asked(query: str = "", **fields: Any) -> TextSearch:
    return TextSearch(search_id="s", query=query, **{"taste_weight": 0.0} | fields)


def ids(results: SearchResults) -> list[str]:
    return [item.article_id for item in results.items]


def test_what_a_search_needs_is_opened_once_however_many_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def slow(_: object, encoder: str) -> None:
        opened.append(encoder)
        time.sleep(0.05)

    monkeypatch.setattr("serving.searchable.open_text_encoder", slow)
    bundle: Any = SimpleNamespace()
    space: Any = SimpleNamespace(encoder="toy-1")
    one = Searchable(bundle, 1, space)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: one.encode_text, range(8))) == [None] * 8
    assert opened == ["toy-1"]


def test_words_alone_find_what_says_them() -> None:
    found = searcher().by_text(asked("red", meaning_weight=0.0), None)
    assert set(ids(found)) == {"apple", "hat"}
    assert [item.source for item in found.items] == ["text", "text"]
    assert (found.kind, found.found, found.degraded) == ("text", 2, [])


def test_meaning_finds_what_says_something_else() -> None:
    found = searcher().by_text(asked("toast"), None)
    # Cosines 1, 0.8, 0.6; cheese and apple are below the least that counts.
    assert ids(found) == ["bread", "rolls", "milk"]
    assert [item.score for item in found.items] == pytest.approx([1.0, 0.8, 0.6])


def test_without_an_encoder_words_are_all_there_is() -> None:
    found = searcher(encode_text=None).by_text(asked("toast"), None)
    assert (ids(found), found.degraded) == ([], ["words_only"])


def test_taste_moves_what_the_customer_would_like() -> None:
    one = searcher()
    likest = ids(one.by_text(asked("food", meaning_weight=0.0), ANNA))
    # Anna's vector is cheese twice and milk once: the toy ranker scores by it.
    tasted = ids(one.by_text(asked("food", meaning_weight=0.0, taste_weight=1.0), ANNA))
    assert set(tasted) == set(likest)
    assert tasted[:2] == ["cheese", "milk"]
    assert likest[:2] != ["cheese", "milk"]


def test_of_a_stranger_taste_is_what_sells() -> None:
    tasted = ids(searcher().by_text(asked("food", meaning_weight=0.0, taste_weight=1.0), None))
    assert tasted == [article for article in IDS if article in tasted]


def test_a_broken_ranker_costs_the_taste_alone() -> None:
    found = searcher(ranker=BrokenRanker()).by_text(asked("red", meaning_weight=0.0, taste_weight=0.5), ANNA)
    assert set(ids(found)) == {"apple", "hat"}
    assert found.degraded == ["ranker_failed"]


PRICES = {row[0]: row[8] for row in ARTICLES}
CATEGORIES = {row[0]: row[4] for row in ARTICLES}


@settings(max_examples=60)
@given(
    st.sets(st.sampled_from(IDS)),
    st.sets(st.sampled_from(sorted(set(CATEGORIES.values())))),
    st.one_of(st.none(), st.floats(0, 25)),
    st.one_of(st.none(), st.floats(0, 25)),
    st.booleans(),
    st.floats(0, 1),
    st.integers(1, 10),
    st.lists(st.sampled_from(IDS), max_size=3),
)
def test_no_filter_is_ever_broken(
    sold_out: set[str],
    categories: set[str],
    low: float | None,
    high: float | None,
    bought: bool,
    taste: float,
    k: int,
    exclude: list[str],
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    filters = Filters(
        attributes={"category": sorted(categories)} if categories else {},
        min_price=low,
        max_price=high,
        exclude_bought=bought,
    )
    one = searcher(*(Article(article_id=article, available=False) for article in sold_out))
    fields = {"filters": filters, "exclude": exclude, "taste_weight": taste, "k": k}
    everything = "food wear red white black yellow knit farm own"
    answers = [
        one.by_text(asked(everything, **fields), ANNA),
        one.by_image(ImageSearch(search_id="s", threshold=-1.0, **fields), RED_PHOTO, ANNA),
    ]
    for answer in answers:
        assert len(answer.items) <= k
        assert not {*ids(answer)} & ({*sold_out} | {*exclude} | ({"cheese", "milk"} if bought else set()))
        for item in answer.items:
            assert not categories or CATEGORIES[item.article_id] in categories
            assert item.price == PRICES[item.article_id]
            assert (low is None and high is None) or low_to_high(item.price, low, high)
        assert [item.score for item in answer.items] == sorted((item.score for item in answer.items), reverse=True)
        assert [item.rank for item in answer.items] == list(range(1, len(answer.items) + 1))


def low_to_high(price: float | None, low: float | None, high: float | None) -> bool:
    return price is not None and (low is None or price >= low) and (high is None or price <= high)


def test_a_price_of_now_decides_and_is_told() -> None:
    one = searcher(Article(article_id="hat", price=3.0))
    found = one.by_text(asked("red", meaning_weight=0.0, filters=Filters(max_price=4.0)), None)
    assert [(item.article_id, item.price) for item in found.items] == [("hat", 3.0)]


def test_an_article_that_came_after_the_bundle_is_found_by_its_words() -> None:
    pear = Article(article_id="pear", title="Pears", category="Fruit", colour="Green", price=1.0)
    one = searcher(pear, Article(article_id="socks", available=False))
    assert ids(one.by_text(asked("green pear", meaning_weight=0.0), None)) == ["pear"]
    assert ids(one.by_text(asked("fruit", meaning_weight=0.0), None)) == ["pear", "apple"]


def test_a_filter_that_could_never_work_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="articles have department"):
        searcher().by_text(asked("red", filters=Filters(attributes={"size": ["M"]})), None)


def test_a_photo_finds_what_looks_like_it() -> None:
    search = ImageSearch(search_id="s", taste_weight=0.0)
    found = searcher().by_image(search, RED_PHOTO, None)
    assert [(item.article_id, item.score, item.source) for item in found.items] == [
        ("bread", pytest.approx(1.0), "image"),
        ("milk", pytest.approx(0.6), "image"),
    ]
    assert (found.threshold, found.scope) == (0.5, "catalogue")
    closer = searcher().by_image(replace_threshold(search, 0.7), RED_PHOTO, None)
    assert ids(closer) == ["bread"]


def replace_threshold(search: ImageSearch, threshold: float) -> ImageSearch:
    return ImageSearch(search_id=search.search_id, taste_weight=search.taste_weight, threshold=threshold)


FEED = [
    Item(article_id=article, rank=n, score=1 / n, source="full")
    for n, article in enumerate(["milk", "socks", "shirt", "bread"], start=1)
]


@pytest.mark.parametrize(("weight", "expected"), [(0.0, ["bread", "milk"]), (1.0, ["milk", "bread"])])
def test_a_feed_keeps_what_looks_like_the_photo_and_is_sorted_again(weight: float, expected: list[str]) -> None:
    search = ImageSearch(search_id="s", scope="feed", taste_weight=weight)
    found = searcher().by_image(search, RED_PHOTO, ANNA, FEED)
    assert (ids(found), found.found, found.scope) == (expected, 2, "feed")


def test_a_bundle_without_the_files_says_so() -> None:
    bare = Searcher(pipeline().runtime, pipeline())
    with pytest.raises(SearchUnavailable, match="nothing to search by"):
        bare.by_text(asked("red"), None)


def test_content_of_the_toy_shop_is_what_the_tests_above_count_on() -> None:
    assert CONTENT[:3, 0].tolist() == pytest.approx([1, 0.8, 0.6])
