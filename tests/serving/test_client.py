"""The client against the real gateway on a local socket: typed answers, errors as classes, a second try if it helps."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

import serving
from infra.errors import BrokerUnavailable
from infra.settings import ApiSettings
from serving.api_keys import ADMIN, entry_of
from serving.client import AsyncClient, Client, Retry
from serving.client_errors import (
    ApiError,
    Away,
    Forbidden,
    InvalidRequest,
    NotFound,
    NotOffered,
    RateLimited,
    TooLarge,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
    error_of,
)
from serving.messages import Filters, RecommendationRequest
from streams.events import Event, parse_event
from tests.serving.toy_shop import NOON
from tests.support.http_shop import HttpShop
from tests.support.tiny import article_number
from tests.support.tiny_fixture import Tiny

TOP, VARIANT = article_number("top", 0), article_number("top", 1)
ONCE = Retry(attempts=1)
QUICK = Retry(attempts=3, pause_s=0.001)


def purchase(n: int = 1) -> Event:
    return Event(event_id=f"order-{n}", type="purchase", occurred_at=NOON, customer_id="anna", article_id=TOP)


@pytest.fixture
def http_shop(tiny: Tiny) -> Iterator[HttpShop]:
    shop = HttpShop.of(tiny.runtime)
    with shop.serving():
        yield shop


@pytest.fixture
def client(http_shop: HttpShop) -> Iterator[Client]:
    with Client(http_shop.url, retry=QUICK) as client:
        yield client


def test_answers_are_typed(client: Client, http_shop: HttpShop) -> None:
    answer = client.recommend(
        RecommendationRequest(request_id="r-1", customer_id="anna", k=3, filters=Filters(exclude_bought=True))
    )
    assert (answer.request_id, len(answer.items)) == ("r-1", 3)
    assert not {TOP, VARIANT} & {item.article_id for item in answer.items}
    assert client.explain("r-1").answer.items == answer.items
    short = client.recommend_user("anna", top_k=2, strategy="repurchase", explain=True)
    assert {item.article_id for item in short.items} == {TOP, VARIANT} and short.trace
    assert client.similar(TOP, by="covisitation", top_k=1).items[0].rank == 1
    assert client.article(TOP).variants == [VARIANT]
    assert client.customers() == ["anna"]
    view = client.customer("anna", limit=1)
    assert (view.events, view.profile.favourites["category"][0].share) == (3, 1.0)
    history = client.history("anna", type="purchase", before=datetime(2027, 1, 1, tzinfo=UTC), limit=2)
    assert (len(history.events), history.more) == (2, True)
    assert client.bundle().bundle_id == answer.bundle_id
    assert client.ready().ready


def test_search_finds_what_the_filters_let_through(client: Client) -> None:
    white = Filters(attributes={"colour": ["White"]}, max_price=100)
    found = client.search_text("shoe", customer_id="anna", k=2, filters=white)
    assert [item.article_id for item in found.items] and found.customer_id == "anna"
    assert {client.article(item.article_id).colour for item in found.items} == {"White"}
    with pytest.raises(NotOffered, match="image search"):
        client.search_image(b"\xff\xd8 a photo")


def test_events_arrive_as_they_were_sent(client: Client, http_shop: HttpShop) -> None:
    accepted = client.send([purchase(1), purchase(2)])
    assert accepted.event_ids == ["order-1", "order-2"]
    sent = [parse_event(value) for topic, _, value in http_shop.link.sent if topic == "transactions"]
    assert sent == [purchase(1), purchase(2)]


def test_ids_may_hold_anything_but_a_slash(client: Client) -> None:
    assert client.customer("a b?c#d%41&é").customer_id == "a b?c#d%41&é"


async def test_the_asyncio_form_gives_the_same(http_shop: HttpShop) -> None:
    async with AsyncClient(http_shop.url, retry=QUICK) as client:
        answers = await asyncio.gather(*(client.recommend_user("anna", top_k=2) for _ in range(5)))
        assert len({tuple(item.article_id for item in answer.items) for answer in answers}) == 1
        assert (await client.recommend(RecommendationRequest(request_id="r-2", customer_id="anna"))).request_id == "r-2"
        assert (await client.explain("r-2")).request_id == "r-2"
        assert (await client.similar(TOP, top_k=1)).by == "content"
        assert len((await client.search_text("top", k=3)).items) == 3
        with pytest.raises(NotOffered):
            await client.search_image(b"\xff\xd8 a photo", scope="feed")
        assert (await client.article(TOP)).article_id == TOP
        assert (await client.send([purchase()])).event_ids == ["order-1"]
        assert await client.customers() == ["anna"]
        assert (await client.customer("anna")).known
        assert len((await client.history("anna", limit=1)).events) == 1
        assert (await client.bundle()).articles == 13
        assert (await client.ready()).ready
        with pytest.raises(NotFound):
            await client.article("nothing")
        http_shop.source.gone = True
        with pytest.raises(Away):
            await client.bundle()


def test_errors_are_classes_that_say_what_the_gateway_said(client: Client) -> None:
    with pytest.raises(NotFound, match="404: no article 'nothing' in bundle") as missing:
        client.article("nothing")
    assert (missing.value.status, missing.value.retryable) == (404, False)
    with pytest.raises(InvalidRequest, match="'best'") as invalid:
        client.recommend_user("anna", strategy="best")
    assert invalid.value.problem is not None and "allowed: full" in invalid.value.detail
    with pytest.raises(TooLarge):
        client.recommend(RecommendationRequest(request_id="r", customer_id="a", exclude=["x" * 2_000] * 1_000))


def test_keys_open_what_they_may(tiny: Tiny) -> None:
    keys = f"{entry_of('page', ['read'], 'page-key')} {entry_of('boss', [ADMIN], 'boss-key')}"
    shop = HttpShop.of(tiny.runtime)
    with shop.serving(ApiSettings(keys=keys)) as url:
        with Client(url) as client, pytest.raises(Unauthorized):
            client.customers()
        with Client(url, key="page-key") as client:
            assert client.customers() == ["anna"]
            with pytest.raises(Forbidden, match="this needs write"):
                client.send([purchase()])
        with Client(url, key="boss-key") as client:
            assert client.send([purchase()]).event_ids == ["order-1"]


def test_what_is_away_for_a_moment_is_asked_again(client: Client, http_shop: HttpShop) -> None:
    calls = 0
    send_many = http_shop.link.send_many

    async def failing(messages: Sequence[tuple[str, bytes | None, bytes]]) -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise BrokerUnavailable("kafka is away")
        return await send_many(messages)

    http_shop.link.send_many = failing  # type: ignore[method-assign]
    patient = Retry(attempts=3, pause_s=0.001)
    with Client(http_shop.url, retry=patient) as again:
        assert again.send([purchase()]).event_ids == ["order-1"]
    assert calls == 3


def test_it_gives_up_after_its_attempts_and_for_what_cannot_help(http_shop: HttpShop) -> None:
    http_shop.source.gone = True
    with Client(http_shop.url, retry=ONCE) as client:
        with pytest.raises(Away, match="points nowhere") as away:
            client.bundle()
        assert (away.value.retryable, away.value.retry_after_s) == (True, 1.0)
        assert client.ready().checks["bundle"] == "channel production points nowhere"


def test_the_pause_doubles_and_is_at_least_what_the_gateway_asks_for() -> None:
    retry = Retry(attempts=3, pause_s=0.2, longest_s=5)
    error = Away("away")
    for attempt, longest in ((1, 0.2), (2, 0.4)):
        waits = [retry.wait_s(attempt, error) or 0 for _ in range(50)]
        assert longest / 2 <= min(waits) and max(waits) <= longest
    assert retry.wait_s(3, error) is None
    assert retry.wait_s(1, NotFound("no")) is None
    error.retry_after_s = 2.0
    assert retry.wait_s(1, error) == 2.0
    error.retry_after_s = 6.0
    assert retry.wait_s(1, error) is None


def test_a_limit_is_waited_for_or_told(tiny: Tiny) -> None:
    shop = HttpShop.of(tiny.runtime)
    with shop.serving(ApiSettings(requests_per_s=2.0, burst=1)) as url:
        with Client(url) as patient:
            assert [patient.customers(), patient.customers()] == [["anna"], ["anna"]]
        with Client(url, retry=ONCE) as hasty, pytest.raises(RateLimited) as limited:
            hasty.customers()
            hasty.customers()
        assert limited.value.retry_after_s == 1.0


def test_nobody_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", retry=QUICK) as client, pytest.raises(Unreachable, match="GET /v1/bundle"):
        client.bundle()


def test_another_program_there_is_told_apart() -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(page)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url) as client, pytest.raises(UnexpectedAnswer, match="answered by something else: '<html>'"):
            client.bundle()
        thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (408, Unreachable),
        (502, Away),
        (504, Away),
        (500, UnexpectedAnswer),
        (302, UnexpectedAnswer),
    ],
)
def test_an_error_without_a_problem_document_still_has_its_class(status: int, kind: type[ApiError]) -> None:
    error = error_of(status, {}, b"<html>bad gateway</html>")
    assert type(error) is kind
    assert (error.problem, error.status) == (None, status)
    assert "<html>bad gateway" in error.detail


def test_a_filter_by_what_no_article_has_is_refused_before_it_is_sent(client: Client) -> None:
    """As a parameter it would be unknown, or another one: `q` would be what is searched for."""
    for name in ("q", "color"):
        with pytest.raises(InvalidRequest, match=f"filters.attributes: '{name}'; allowed: department, category"):
            client.search_text("tea", filters=Filters(attributes={name: ["black"]}))


def test_a_time_to_wait_is_a_number_or_nothing() -> None:
    assert error_of(429, {"retry-after": "3"}, b"").retry_after_s == 3.0
    assert error_of(429, {"retry-after": "\u00b2"}, b"").retry_after_s is None


def test_the_client_brings_no_model_and_no_server() -> None:
    probe = "import sys, serving.client; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    root = Path(serving.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", probe], cwd=root, capture_output=True, text=True, check=True)
    assert not {"faiss", "onnxruntime", "fastapi", "numpy", "aiokafka", "redis", "pyarrow"} & set(done.stdout.split())
