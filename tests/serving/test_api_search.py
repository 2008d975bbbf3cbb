"""The routes of the search: parameters and files in, problems that say what is allowed out."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from PIL import Image

from serving.messages import Filters, Item
from serving.search_messages import ImageSearch, SearchResults, TextSearch
from serving.searchable import SearchUnavailable
from tests.serving.test_api import Client, Shop
from tests.serving.toy_shop import ToyPipeline, ToySource, buy


class ToySearcher:
    """Keeps what it was asked and finds tea; a real decoder looks at the photo."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.lacking: str | None = None

    def by_text(self, search: TextSearch, customer: Any, degraded: Any) -> SearchResults:
        self._answer(search, customer, list(degraded))
        return SearchResults(search_id=search.search_id, kind="text", bundle_id="toy-1", items=[TEA], found=1)

    def by_image(self, search: ImageSearch, content: bytes, customer: Any, feed: Any, degraded: Any) -> SearchResults:
        from serving.image_decode import decode_picture

        size = decode_picture(content).size
        self._answer(search, customer, list(degraded), feed, size)
        return SearchResults(search_id=search.search_id, kind="image", bundle_id="toy-1", items=[TEA], found=1)

    def _answer(self, *asked: Any) -> None:
        if self.lacking:
            raise SearchUnavailable(self.lacking)
        self.asked.append(asked)


TEA = Item(article_id="tea", rank=1, score=0.5, source="text", price=2.5)


class SearchedSource(ToySource):
    def __init__(self) -> None:
        super().__init__()
        self.searcher = ToySearcher()
        self._loaded.__dict__["searcher"] = self.searcher  # where the cached property would put its own


@pytest.fixture
def shop() -> Shop:
    made = Shop(source=SearchedSource())
    asyncio.run(buy(made.store, "anna", "bread"))
    return made


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    client = Client(shop)
    yield client
    client.close()


def asked(shop: Shop) -> tuple[Any, ...]:
    assert isinstance(shop.source, SearchedSource)
    (one,) = shop.source.searcher.asked
    return one


def png(side: int = 8) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "PNG")
    return out.getvalue()


def test_words_and_filters_come_out_of_the_address(client: Client, shop: Shop) -> None:
    answer = client.get(
        "/v1/search/text",
        params={
            "q": "black tea", "customer_id": "anna", "k": 5, "taste_weight": 0.5, "meaning_weight": 0.25,
            "colour": ["Black", "White"], "category": "Food", "min_price": 1, "max_price": 2.5,
            "exclude_bought": "true", "exclude": "milk",
        },
    )  # fmt: skip
    assert answer.status_code == 200
    body = answer.json()
    assert [item["article_id"] for item in body["items"]] == ["tea"]
    assert body["latency_ms"] > 0
    search, customer, degraded = asked(shop)
    assert (search.query, search.customer_id, search.k) == ("black tea", "anna", 5)
    assert (search.taste_weight, search.meaning_weight, search.exclude) == (0.5, 0.25, ["milk"])
    assert search.filters == Filters(
        exclude_bought=True,
        attributes={"category": ["Food"], "colour": ["Black", "White"]},
        min_price=1.0,
        max_price=2.5,
    )
    assert customer.state.article_ids == ("bread",)
    assert degraded == []


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "query.q"),
        ({"q": ""}, "at least 1 character"),
        ({"q": "  "}, "query.q"),
        ({"q": "x" * 201}, "at most 200"),
        ({"q": "tea", "k": 0}, "greater than or equal to 1"),
        ({"q": "tea", "taste_weight": 1.5}, "less than or equal to 1"),
        ({"q": "tea", "taste_weight": "nan"}, "taste_weight"),
        ({"q": "tea", "max_price": -1}, "greater than or equal to 0"),
        ({"q": "tea", "customer_id": ""}, "customer_id"),
    ],
)
def test_a_parameter_out_of_range_is_422(client: Client, params: dict[str, Any], said: str) -> None:
    answer = client.get("/v1/search/text", params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


def test_without_the_store_the_search_goes_on_and_says_so(client: Client, shop: Shop) -> None:
    shop.store.away = True
    assert client.get("/v1/search/text", params={"q": "tea", "customer_id": "anna"}).status_code == 200
    assert asked(shop)[1:] == (None, ["store_unavailable"])


def test_a_bundle_that_cannot_be_searched_is_501_and_none_503(client: Client, shop: Shop) -> None:
    assert isinstance(shop.source, SearchedSource)
    shop.source.searcher.lacking = "bundle toy-1 has no word_index.npz"
    for answer in (client.get("/v1/search/text", params={"q": "tea"}), client.post("/v1/search/image", content=png())):
        assert (answer.status_code, answer.json()["code"]) == (501, "search_unavailable")
        assert "word_index.npz" in answer.json()["detail"]
    shop.source.gone = True
    answer = client.get("/v1/search/text", params={"q": "tea"})
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_a_photo_comes_as_the_body_or_in_a_form(client: Client, shop: Shop) -> None:
    sent: list[dict[str, Any]] = [
        {"content": png(8), "headers": {"content-type": "image/png"}},
        {"content": png(8)},
        {"files": {"image": ("dress.png", png(8), "image/png")}},
    ]
    for given in sent:
        answer = client.post("/v1/search/image", params={"threshold": 0.3, "taste_weight": 0}, **given)
        assert answer.status_code == 200, answer.text
    assert isinstance(shop.source, SearchedSource)
    for search, customer, degraded, feed, size in shop.source.searcher.asked:
        assert (search.scope, search.threshold, search.taste_weight) == ("catalogue", 0.3, 0.0)
        assert (customer, degraded, feed, size) == (None, [], None, (8, 8))


def test_a_feed_is_what_the_customer_would_be_recommended_under_the_filters(client: Client, shop: Shop) -> None:
    answer = client.post("/v1/search/image", params={"scope": "feed", "customer_id": "anna"}, content=png())
    assert answer.status_code == 200
    feed = asked(shop)[3]
    assert [item.article_id for item in feed] == ["bread", "tea", "milk"]
    assert not shop.link.on("impressions")  # nobody was shown this list


def test_a_feed_that_is_only_searched_is_not_ordered_by_a_language_model(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str | None] = []
    recommend = ToyPipeline.recommend

    def kept(self: ToyPipeline, requests: Any, customers: Any, *, degraded: Any = ()) -> Any:
        wanted.extend(request.rerank for request in requests)
        return recommend(self, requests, customers, degraded=degraded)

    monkeypatch.setattr(ToyPipeline, "recommend", kept)
    assert client.post("/v1/search/image", params={"scope": "feed"}, content=png()).status_code == 200
    assert wanted == ["none"]


def test_files_that_are_no_photos_are_refused_by_kind(client: Client) -> None:
    gif = io.BytesIO()
    Image.new("RGB", (8, 8)).save(gif, "GIF")
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"content": b""}, 422, "empty"),
        ({"content": gif.getvalue(), "headers": {"content-type": "image/gif"}}, 415, "no JPEG, PNG or WebP"),
        ({"content": b"<html>", "headers": {"content-type": "text/html"}}, 415, "content type 'text/html'"),
        ({"content": png(64)[:60]}, 422, "cut short"),
        ({"files": {"photo": ("a.png", png(), "image/png")}}, 422, "no file named 'image'; it has photo"),
        ({"files": [("image", ("a.png", png())), ("image", ("b.png", png()))]}, 400, "Too many files"),
        ({"data": {"image": "text"}}, 415, "application/x-www-form-urlencoded"),
        ({"content": b"--x--", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
    ]
    for given, status, said in cases:
        answer = client.post("/v1/search/image", **given)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), given
        assert said in answer.json()["detail"]


async def fifty_megabytes() -> AsyncIterator[bytes]:
    for _ in range(50):
        yield b"\0" * 1_000_000


def test_fifty_megabytes_are_refused_before_they_are_read(client: Client) -> None:
    declared = client.post("/v1/search/image", content=b"\0" * 11_000_000)
    chunked = client.post("/v1/search/image", content=fifty_megabytes())
    for answer in (declared, chunked):
        assert answer.status_code == 413
        assert answer.json()["allowed_bytes"] < 11_000_000
    # Other routes keep their limit.
    assert client.post("/v1/events", content=b" " * 1_000_001).status_code == 413


def test_the_document_tells_both_routes(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    text, image = paths["/v1/search/text"]["get"], paths["/v1/search/image"]["post"]
    assert {"q", "customer_id", "colour", "min_price", "taste_weight"} <= {one["name"] for one in text["parameters"]}
    assert set(image["requestBody"]["content"]) == {"image/jpeg", "image/png", "image/webp", "multipart/form-data"}
    assert {"413", "415", "501"} <= set(image["responses"])
    shown = text["responses"]["200"]["content"]["application/json"]
    assert shown["schema"] == {"$ref": "#/components/schemas/SearchResults"}
