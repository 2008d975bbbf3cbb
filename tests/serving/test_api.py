"""The gateway: same parsers, same responder, clear refusals; nothing is acknowledged that the broker has not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.clock import ManualClock
from infra.errors import BrokerUnavailable
from infra.settings import ApiSettings, KafkaSettings, PageSettings, Settings
from serving import afterwards
from serving.activity import ActivityRing
from serving.afterwards import Afterwards
from serving.api import build_api
from serving.api_gateway import Gateway, PatientLink
from serving.cli import listen
from serving.responder import Responder
from streams.events import parse_event
from tests.serving.toy_shop import NOON, CountingStore, ToyLink, ToySource, buy


@dataclass
class Shop:
    source: ToySource = field(default_factory=ToySource)
    store: CountingStore = field(default_factory=CountingStore)
    link: ToyLink = field(default_factory=ToyLink)
    ring: ActivityRing = field(default_factory=lambda: ActivityRing(KafkaSettings(url="kafka://127.0.0.1:1")))

    @asynccontextmanager
    async def opened(self, _: Settings) -> AsyncIterator[Gateway]:
        clock = ManualClock(NOON)
        link = PatientLink(self.link)
        await link.start()
        responder = Responder(self.source, self.store, link, clock)
        yield Gateway(self.source, self.store, link, responder, self.ring, clock)
        await link.stop()


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    asyncio.run(buy(made.store, "anna", "bread"))
    return made


class Client:
    """Calls the application in this process, on a loop of its own, with its lifespan held open."""

    def __init__(self, shop: Shop, api: ApiSettings | None = None, page: PageSettings | None = None) -> None:
        self._settings = Settings(api=api or ApiSettings(), page=page or PageSettings())
        self._runner = asyncio.Runner()
        self._held = AsyncExitStack()
        self._client = self._runner.run(self._open(shop))

    async def _open(self, shop: Shop) -> httpx.AsyncClient:
        app = build_api(self._settings, shop.opened)
        state = await self._held.enter_async_context(app.router.lifespan_context(app))

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
        return await self._held.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop"))

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self._runner.run(self._client.get(path, **given))

    def options(self, path: str, **given: Any) -> httpx.Response:
        return self._runner.run(self._client.options(path, **given))

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self._runner.run(self._client.post(path, **given))

    def close(self) -> None:
        self._runner.run(self._held.aclose())
        self._runner.close()


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    client = Client(shop)
    yield client
    client.close()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_recommendations_are_the_message_of_the_topic(client: Client, shop: Shop) -> None:
    answer = client.post("/v1/recommendations", json={"customer_id": "anna", "k": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert [item["article_id"] for item in body["items"]] == ["bread", "tea"]
    assert body["request_id"] and body["bundle_id"] == "toy-1"
    assert len(shop.link.on("impressions")) == 1


def test_a_bad_request_is_a_problem_that_says_what_is_allowed(client: Client) -> None:
    answer = client.post("/v1/recommendations", json={"customer_id": "anna", "strategy": "best"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "'best'; allowed: full" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/events"])
def test_what_is_not_json_is_400_and_what_is_too_big_413(client: Client, path: str) -> None:
    assert client.post(path, content=b"{").status_code == 400
    assert client.post(path, content=b"[" * 100_000).status_code == 400
    big = client.post(path, content=b" " * 1_000_001)
    assert big.status_code == 413
    assert big.json()["allowed_bytes"] == 1_000_000
    chunked = client.post(path, content=chunks(b" " * 600_000, b" " * 600_000))
    assert chunked.status_code == 413


def test_no_bundle_is_503_and_retryable(client: Client, shop: Shop) -> None:
    shop.source.gone = True
    answer = client.post("/v1/recommendations", json={"customer_id": "anna"})
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "not_ready", True)
    assert answer.headers["retry-after"] == "1"


def test_an_event_gets_an_id_and_a_time_and_stands_on_the_topic(client: Client, shop: Shop) -> None:
    answer = client.post("/v1/events", json={"type": "purchase", "customer_id": "anna", "article_id": "tea"})
    assert answer.status_code == 202
    ((topic, key, value),) = shop.link.sent
    event = parse_event(value)
    assert (topic, key) == ("transactions", b"anna")
    assert answer.json()["event_ids"] == [event.event_id]
    assert event.occurred_at == NOON


def test_given_ids_and_times_are_kept(client: Client, shop: Shop) -> None:
    row = {"type": "view", "customer_id": "anna", "article_id": "tea", "occurred_at": "2026-01-02T03:04:05Z"}
    answer = client.post("/v1/events", json=[{**row, "event_id": "e1"}, {**row, "event_id": "e2"}])
    assert answer.json()["event_ids"] == ["e1", "e2"]
    assert [event["occurred_at"] for event in shop.link.on("transactions")] == ["2026-01-02T03:04:05Z"] * 2


def test_what_lies_ahead_of_the_present_and_a_day_is_refused_as_the_worker_does(client: Client, shop: Shop) -> None:
    row = {"type": "view", "customer_id": "anna", "article_id": "tea"}
    refused = client.post("/v1/events", json={**row, "occurred_at": "2026-11-22T12:00:01Z"})
    assert refused.status_code == 422
    assert "is after 2026-11-22T12:00:00+00:00, the present and a day" in refused.json()["detail"]
    assert not shop.link.sent
    assert client.post("/v1/events", json={**row, "occurred_at": "2026-11-22T12:00:00Z"}).status_code == 202


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/recommend/user/anna?topk=1", "'topk'; allowed: top_k, strategy, rerank, explain"),
        ("/v1/search/text?q=tea&color=Black", "'color'; allowed: q, customer_id"),
        ("/v1/customers?limit=3&Limit=3", "'Limit'; allowed: limit"),
        ("/v1/bundle?x=1", "'x'; this route has none"),
    ],
)
def test_a_parameter_that_the_route_does_not_know_is_refused(client: Client, path: str, said: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert said in answer.json()["detail"]
    assert client.get("/healthz?probe=1").status_code == 200


def test_one_bad_event_and_none_is_taken(client: Client, shop: Shop) -> None:
    good = {"type": "purchase", "customer_id": "anna", "article_id": "tea"}
    answer = client.post("/v1/events", json=[good, {**good, "type": "return"}, "x"])
    assert answer.status_code == 422
    assert [error["index"] for error in answer.json()["errors"]] == [1, 2]
    assert "allowed: purchase, view, cart" in answer.json()["detail"]
    assert not shop.link.sent


@pytest.mark.parametrize("count", [0, 1_001])
def test_too_many_events_in_one_call_or_none(client: Client, count: int) -> None:
    answer = client.post("/v1/events", json=[{}] * count)
    assert answer.status_code == 422
    assert "1 to 1000 are allowed" in answer.json()["detail"]


def test_an_event_the_broker_does_not_have_is_not_acknowledged(client: Client, shop: Shop) -> None:
    shop.link.away = True
    answer = client.post("/v1/events", json={"type": "purchase", "customer_id": "a", "article_id": "tea"})
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


def test_the_broker_may_be_away_for_recommendations(client: Client, shop: Shop) -> None:
    shop.link.away = True
    assert client.post("/v1/recommendations", json={"customer_id": "anna"}).status_code == 200


class HangingLink(ToyLink):
    """A broker that has died behind a connection which stands."""

    async def send_many(self, messages: Sequence[tuple[str, bytes | None, bytes]]) -> int:
        await asyncio.Event().wait()
        return 0


def test_no_answer_waits_for_a_broker_that_hangs() -> None:
    client = Client(Shop(link=HangingLink()))
    try:
        assert client.post("/v1/recommendations", json={"customer_id": "anna"}, timeout=10).status_code == 200
    finally:
        client.close()


async def test_what_is_left_for_afterwards_is_bounded_and_ends() -> None:
    done: list[int] = []
    opened = asyncio.Event()

    async def work(n: int) -> None:
        await opened.wait()
        if n == 0:
            raise BrokerUnavailable("kafka is away")
        done.append(n)

    held = Afterwards(most=3)
    for n in range(5):
        held.do("impression", partial(work, n))
    opened.set()
    await held.finish()
    assert done == [1, 2]
    held.do("impression", partial(work, 5))
    await held.finish()
    assert done == [1, 2, 5]


async def test_what_does_not_end_is_left_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(afterwards, "FINISH_S", 0.01)
    held = Afterwards()
    held.do("impression", asyncio.Event().wait)
    async with asyncio.timeout(10):
        await held.finish()


def test_readiness_names_what_is_missing(client: Client, shop: Shop) -> None:
    assert client.get("/readyz").json()["checks"] == {"store": "ok", "broker": "ok", "bundle": "ok"}
    shop.store.away = shop.link.away = shop.source.gone = True
    answer = client.get("/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert ("redis" in checks["store"], "kafka" in checks["broker"]) == (True, True)
    assert "points nowhere" in checks["bundle"]
    assert client.get("/healthz").status_code == 200


def test_a_customer_has_a_history_with_titles(client: Client) -> None:
    body = client.get("/v1/customers/anna").json()
    assert body["known"] is True and body["as_of"] == "2026-11-21T12:00:00Z"
    (row,) = body["history"]
    assert (row["title"], row["price"], row["type"]) == ("BREAD", 1.25, "purchase")
    assert body["totals"] == {
        "events": 1,
        "first": "2026-11-21T12:00:00Z",
        "types": {"purchase": {"events": 1, "pieces": 1, "spent": 1.25}},
    }
    assert body["profile"] == {"segment": "30s", "favourites": {}, "usual_price": 1.25}
    assert client.get("/v1/customers", params={"limit": 5}).json() == {"customer_ids": ["anna"]}


def test_an_id_never_seen_is_a_customer_without_history(client: Client) -> None:
    assert client.get("/v1/customers/zoe").json() == {
        "customer_id": "zoe",
        "note": None,
        "known": False,
        "as_of": None,
        "events": 0,
        "totals": {"events": 0, "first": None, "types": {}},
        "profile": {"segment": None, "favourites": {}, "usual_price": None},
        "history": [],
    }


def test_a_state_that_cannot_be_read_is_said_of_its_customer(client: Client, shop: Shop) -> None:
    shop.store._values["anna"] = (1, b"\xff no state", None, None)
    for path in ("/v1/customers/anna", "/v1/customers/anna/history"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["known"]) == (200, False)
        assert answer.json()["note"].startswith("what is stored of this customer cannot be read: ")
    page = client.get("/", params={"customer": "anna"})
    assert page.status_code == 200
    assert "What is stored of this customer cannot be read." in page.text
    assert "Made without your history, which cannot be read" in page.text
    assert "new here" not in page.text and "Nothing yet" not in page.text
    assert client.get("/fragments/people").status_code == 200
    known = client.get("/fragments/customer", params={"customer": "anna", "knows": "anna-0-bread"})
    assert (known.status_code, known.headers["modiste-knows"]) == (200, "no")


def test_a_store_that_is_away_is_503(client: Client, shop: Shop) -> None:
    shop.store.away = True
    assert client.get("/v1/customers/anna").status_code == 503


def test_parameters_out_of_range_say_what_was_given(client: Client) -> None:
    answer = client.get("/v1/customers", params={"limit": "many"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "'many'" in answer.json()["detail"]


def test_activity_shows_the_newest_first(client: Client, shop: Shop) -> None:
    for n in range(60):
        shop.ring.add(
            parse_event(
                b'{"event_id":"e%d","type":"purchase","occurred_at":"2026-11-21T12:00:00Z",'
                b'"customer_id":"c%d","article_id":"tea"}' % (n, n)
            )
        )
    body = client.get("/v1/activity", params={"limit": 2}).json()
    assert body["count"] == 60
    assert [(row["customer_id"], row["title"]) for row in body["recent"]] == [("c59", "TEA"), ("c58", "TEA")]


def test_the_page_shows_history_and_a_button_for_each_article(client: Client) -> None:
    page = client.get("/", params={"customer": "anna"})
    assert page.status_code == 200
    assert page.text.count('class="buy"') == 3
    assert "Bread" in page.text and "two-tower" not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "style=" not in page.text and "onclick" not in page.text


def test_what_a_customer_id_contains_is_text_on_the_page(client: Client) -> None:
    page = client.get("/", params={"customer": '<script>"x'})
    assert "<script>&#34;" not in page.text and '<script>"x' not in page.text
    assert "new here" in page.text


def test_the_page_says_what_is_away(client: Client, shop: Shop) -> None:
    shop.store.away = True
    page = client.get("/fragments/customer", params={"customer": "anna"})
    assert page.status_code == 200
    assert "history cannot be read just now: redis is away" in page.text
    assert "Made without your history, which cannot be reached just now" in page.text
    assert "new here" not in page.text and "Nothing yet" not in page.text


def test_metrics_and_documents(client: Client) -> None:
    client.get("/healthz")
    assert 'modiste_http_requests_total{route="/healthz",status="200"}' in client.get("/metrics").text
    paths = client.get("/openapi.json").json()["paths"]
    assert "examples" in paths["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    assert client.get("/static/shop.js").status_code == 200


def test_the_answer_of_a_search_is_drawn(client: Client) -> None:
    item = {"article_id": "tea", "rank": 1, "score": 0.9, "source": "text"}
    page = client.post("/fragments/found", json={"items": [item], "found": 1_312, "query": "<b>tea", "scope": None})
    assert page.status_code == 200
    assert "“&lt;b&gt;tea”" in page.text and "1,312 found" in page.text and page.text.count('class="buy"') == 1
    page = client.post("/fragments/found", json={"items": [item], "degraded": ["words_only", "words_only", "tired"]})
    assert page.text.count('class="note"') == 2
    assert "Found by the words alone" in page.text and "Less than it should be: tired." in page.text
    assert "Nothing fits" in client.post("/fragments/found", json={"items": []}).text
    assert client.post("/fragments/found", json={"items": "tea"}).status_code == 422


def test_what_cannot_be_searched_offers_no_search(client: Client) -> None:
    assert 'role="search"' not in client.get("/").text


def test_the_fragment_says_whether_the_customer_has_the_event(client: Client, shop: Shop) -> None:
    page = client.get("/fragments/customer", params={"customer": "anna", "knows": "anna-0-bread"})
    assert page.headers["modiste-knows"] == "yes"
    assert "modiste-knows" not in client.get("/fragments/customer", params={"customer": "anna"}).headers


def test_two_strategies_stand_side_by_side(client: Client) -> None:
    page = client.get("/", params={"customer": "anna", "strategy": "full", "against": "popular"})
    assert "3 of 3 are in both lists" in page.text
    assert client.get("/", params={"customer": "anna", "against": "best"}).status_code == 422


def test_the_page_chooses_who_did_most(client: Client, shop: Shop) -> None:
    asyncio.run(buy(shop.store, "zoe", "tea", "milk", "bread"))
    assert 'data-customer="zoe"' in client.get("/").text
    shop.store.loads.clear()
    people = client.get("/fragments/people").text
    assert shop.store.loads == [["anna", "zoe"]]  # not one after the other
    assert people.index("anna") < people.index("zoe")
    assert "3 events ·" in people and "1 event ·" in people


def test_somebody_new_has_an_id_of_their_own(client: Client) -> None:
    places = {client.get("/new").headers["location"] for _ in range(2)}
    assert len(places) == 2 and all(place.startswith("/?customer=guest-") for place in places)


def test_the_page_can_be_taken_away(shop: Shop) -> None:
    client = Client(shop, page=PageSettings(enabled=False))
    try:
        assert client.get("/healthz").status_code == 200
        for path in ("/", "/live", "/pictures/tea", "/static/shop.js"):
            assert client.get(path).status_code == 404
    finally:
        client.close()


def test_a_picture_comes_with_a_tag_and_may_do_nothing(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "tea.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    client = Client(shop, page=PageSettings(pictures=tmp_path))
    try:
        picture = client.get("/pictures/tea")
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/svg+xml")
        assert picture.headers["cache-control"] == "private, max-age=86400"
        assert "script" not in picture.headers["content-security-policy"].replace("sandbox", "")
        assert picture.headers["content-security-policy"].endswith("sandbox")
        tagged = client.get("/pictures/tea", headers={"if-none-match": picture.headers["etag"]})
        assert (tagged.status_code, tagged.content) == (304, b"")
        assert client.get("/pictures/milk").status_code == 404
        assert client.get("/pictures/..%2Ftea").status_code == 404
        assert client.get("/pictures/tea", params={"width": 5_000}).json()["allowed"] == [320, 640]
        page = client.get("/", params={"customer": "anna"}).text
        assert 'src="/pictures/tea?width=320"' in page and 'src="/pictures/milk' not in page
    finally:
        client.close()


@pytest.mark.parametrize(("method", "path", "status"), [("get", "/nowhere", 404), ("post", "/v1/customers", 405)])
def test_what_no_route_answers_is_a_problem_too(client: Client, method: str, path: str, status: int) -> None:
    answer = getattr(client, method)(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert path in answer.json()["detail"]
    if status == 405:
        assert answer.headers["allow"] == "GET"


def test_whole_numbers_may_be_written_as_floats(client: Client, shop: Shop) -> None:
    row = {"type": "purchase", "customer_id": "anna", "article_id": "tea"}
    assert client.post("/v1/events", content=json.dumps({**row, "quantity": 2.0})).status_code == 202
    assert client.post("/v1/events", content=json.dumps({**row, "quantity": 2.5})).status_code == 422
    assert [event["quantity"] for event in shop.link.on("transactions")] == [2]


def test_the_short_way_to_ask_gives_the_same_answer(client: Client) -> None:
    long = client.post("/v1/recommendations", json={"customer_id": "anna", "k": 2}).json()
    short = client.get("/v1/recommend/user/anna", params={"top_k": 2}).json()
    assert short["items"] == long["items"]
    assert short["request_id"] != long["request_id"]
    assert short.get("trace") is None
    wrong = client.get("/v1/recommend/user/anna", params={"strategy": "best"})
    assert wrong.status_code == 422 and "allowed: full, hybrid" in wrong.json()["detail"]


def test_history_goes_on_before_the_last_one(client: Client, shop: Shop) -> None:
    for minute, article in enumerate(("tea", "milk")):
        asyncio.run(buy(shop.store, "anna", article, at=NOON - timedelta(minutes=minute + 1)))
    page = client.get("/v1/customers/anna/history", params={"limit": 2}).json()
    assert ([row["article_id"] for row in page["events"]], page["more"]) == (["bread", "tea"], True)
    rest = client.get("/v1/customers/anna/history", params={"before": page["events"][-1]["occurred_at"]}).json()
    assert ([row["article_id"] for row in rest["events"]], rest["more"]) == (["milk"], False)
    assert client.get("/v1/customers/anna/history", params={"type": "view"}).json()["events"] == []
    assert client.get("/v1/customers/zoe/history").json() == {
        "customer_id": "zoe",
        "note": None,
        "known": False,
        "events": [],
        "more": False,
    }
    assert client.get("/v1/customers/anna/history", params={"before": "1511100000"}).status_code == 422


def test_any_answer_can_be_explained_for_a_while(client: Client) -> None:
    asked = {"request_id": "r-1", "customer_id": "anna", "k": 2}
    answer = client.post("/v1/recommendations", json=asked).json()
    told = client.get("/v1/explain/r-1").json()
    assert told["answered_at"] == "2026-11-21T12:00:00Z"
    assert told["answer"] == {**answer, "trace": [{"stage": "toy"}]}
    never = client.get("/v1/explain/r-2")
    assert (never.status_code, never.json()["kept_s"]) == (404, 900)
    assert "'r-2'" in never.json()["detail"]


def test_personal_answers_stay_out_of_caches(client: Client) -> None:
    assert client.get("/v1/customers/anna").headers["cache-control"] == "no-store"
    assert client.get("/v1/recommend/user/anna").headers["cache-control"] == "no-store"


async def test_answers_are_sent_at_once() -> None:
    connected: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connected.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen("127.0.0.1", 0) as listener:
        async with await asyncio.start_server(on_connect, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await connected, "Nagle's delay is on: every small answer would wait for an acknowledgement"
            writer.close()
