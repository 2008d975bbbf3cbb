"""Who may ask for what, how often and how much: keys, scopes, limits, other origins."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.errors import ConfigurationError
from infra.settings import ApiSettings, Settings
from serving.api import build_api
from serving.api_envelope import BoundedBody
from serving.api_guard import address_of, scope_needed
from serving.api_keys import entry_of, parse_keys
from serving.cli import serving
from tests.serving.test_api import Client, Shop

SHOP_KEY, TILL_KEY, BOSS_KEY = "key-of-the-page", "key-of-the-till", "key-of-the-boss"
KEYS = " ".join(
    [
        entry_of("page", ["read"], SHOP_KEY),
        entry_of("till", ["write"], TILL_KEY),
        entry_of("boss", ["admin"], BOSS_KEY),
    ]
)
EVENT = {"type": "purchase", "customer_id": "anna", "article_id": "tea"}


@pytest.fixture
def guarded() -> Iterator[Client]:
    client = Client(Shop(), ApiSettings(keys=KEYS))
    yield client
    client.close()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/recommend/user/anna", "/openapi.json", "/", "/nowhere"])
def test_without_a_key_of_ours_nothing_is_told(guarded: Client, path: str) -> None:
    for headers in ({}, bearer("guessed"), bearer(""), {"authorization": "Digest x"}, {"authorization": "Basic §"}):
        answer = guarded.get(path, headers={k: v.encode("latin-1") for k, v in headers.items()})
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json"), headers
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_probes_and_what_a_page_is_made_of_need_no_key(guarded: Client) -> None:
    assert [guarded.get(path).status_code for path in ("/healthz", "/readyz", "/static/shop.js")] == [200] * 3


@pytest.mark.parametrize(
    ("key", "read", "write", "metrics"),
    [(SHOP_KEY, 200, 403, 403), (TILL_KEY, 403, 202, 403), (BOSS_KEY, 200, 202, 200)],
)
def test_a_key_opens_what_its_scopes_say(guarded: Client, key: str, read: int, write: int, metrics: int) -> None:
    assert guarded.get("/v1/customers", headers=bearer(key)).status_code == read
    assert guarded.post("/v1/events", headers=bearer(key), json=EVENT).status_code == write
    assert guarded.get("/metrics", headers=bearer(key)).status_code == metrics
    # To the patterns of the routes a newline at the end is not there.
    assert guarded.post("/v1/events%0A", headers=bearer(key), json=EVENT).status_code == write
    assert guarded.get("/metrics%0A", headers=bearer(key)).status_code == metrics


def test_a_refused_scope_is_named(guarded: Client) -> None:
    answer = guarded.post("/v1/events", headers=bearer(SHOP_KEY), json=EVENT)
    assert answer.json()["detail"] == "the key 'page' has the scopes read; this needs write"


def test_a_key_may_come_in_a_header_of_its_own_or_as_a_password(guarded: Client) -> None:
    assert guarded.get("/v1/customers", headers={"x-api-key": SHOP_KEY}).status_code == 200
    login = base64.b64encode(f"anybody:{SHOP_KEY}".encode()).decode()
    assert guarded.get("/", headers={"authorization": f"Basic {login}"}).status_code == 200
    asked = guarded.get("/", headers={"accept": "text/html"})
    assert asked.headers["www-authenticate"].startswith("Basic"), "a browser asks its user then"


def test_a_route_that_nobody_thought_of_needs_a_key() -> None:
    assert scope_needed("POST", "/v1/something-new") == "read"
    assert scope_needed("GET", "/staticx") == "read"


def test_no_key_stands_in_a_log_or_a_repr(guarded: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    guarded.get("/v1/customers", headers=bearer(SHOP_KEY))
    guarded.get("/v1/customers", headers=bearer("wrong-key-of-somebody"))
    found = parse_keys(KEYS).find(SHOP_KEY)
    assert SHOP_KEY not in caplog.text and "wrong-key" not in caplog.text
    assert found is not None and found.digest.hex() not in repr(found)


def test_a_new_key_opens_the_gateway_that_knows_its_entry() -> None:
    printed = CliRunner().invoke(
        serving,
        ["keys", "new", "--name", "till-2", "--scope", "read", "--scope", "write", "--json"],
        catch_exceptions=False,
    )
    made = json.loads(printed.stdout)
    assert made["entry"] == f"till-2:read+write:{hashlib.sha256(made['key'].encode()).hexdigest()}"
    client = Client(Shop(), ApiSettings(keys=f"{KEYS}\n{made['entry']}"))
    assert client.get("/v1/customers", headers=bearer(made["key"])).status_code == 200
    client.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modiste_averysecretkey", "the entry 'modiste_...' is not a key's"),
        (f"a:read:{'0' * 63}", "is not a key's"),
        (f"a:reed:{'0' * 64}", "has the scope 'reed'; allowed, joined by +: read, write, admin"),
        (f"a:read:{'0' * 64}:fast", "allows 'fast' requests a second"),
        (f"a:read:{'0' * 64} a:read:{'1' * 64}", "the name or the key of 'a' stands there twice"),
        (f"a:read:{'0' * 64},b:read:{'0' * 64}", "the name or the key of 'b' stands there twice"),
    ],
)
def test_an_entry_that_is_none_is_refused_at_the_start(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_api(Settings(api=ApiSettings(keys=text)))
    assert said in str(caught.value)
    assert "averysecretkey" not in str(caught.value)


def test_a_limit_says_when_the_next_request_is_allowed() -> None:
    client = Client(Shop(), ApiSettings(requests_per_s=0.001, burst=2))
    first = client.get("/v1/customers")
    assert (first.headers["x-ratelimit-limit"], first.headers["x-ratelimit-remaining"]) == ("2", "1")
    assert client.get("/nowhere").status_code == 404
    third = client.get("/v1/customers")
    assert (third.status_code, third.headers["content-type"]) == (429, "application/problem+json")
    assert 990 <= int(third.headers["retry-after"]) <= 1_000
    assert third.headers["x-ratelimit-remaining"] == "0"
    assert client.get("/healthz").status_code == 200
    client.close()


def test_keys_have_limits_of_their_own_and_guesses_one_too() -> None:
    quick = f"{entry_of('quick', ['read'], 'quick-key')}:1000000"
    client = Client(Shop(), ApiSettings(keys=f"{KEYS} {quick}", requests_per_s=0.001, burst=1))
    read = {key: client.get("/v1/customers", headers=bearer(key)).status_code for key in (SHOP_KEY, "quick-key")}
    assert read == {SHOP_KEY: 200, "quick-key": 200}
    assert client.get("/v1/customers", headers=bearer(SHOP_KEY)).status_code == 429
    assert client.get("/v1/customers", headers=bearer("quick-key")).status_code == 200
    assert [client.get("/v1/customers", headers=bearer(f"guess {n}")).status_code for n in range(2)] == [401, 429]
    client.close()


def test_a_key_may_have_a_limit_where_others_have_none() -> None:
    slow = f"{entry_of('slow', ['read'], 'slow-key')}:0.001"
    client = Client(Shop(), ApiSettings(keys=f"{KEYS} {slow}", burst=1))
    assert [client.get("/v1/customers", headers=bearer("slow-key")).status_code for _ in range(2)] == [200, 429]
    assert [client.get("/v1/customers", headers=bearer(SHOP_KEY)).status_code for _ in range(3)] == [200] * 3
    document = client.get("/openapi.json", headers=bearer(SHOP_KEY)).json()
    assert "429" in document["paths"]["/v1/customers"]["get"]["responses"]
    client.close()


@pytest.mark.parametrize(
    ("host", "caller"),
    [
        ("192.0.2.7", "address 192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address 2001:db8:1:2::/64"),
        ("/run/gateway.sock", "address /run/gateway.sock"),
    ],
)
def test_an_ipv6_network_counts_as_one(host: str, caller: str) -> None:
    assert address_of({"client": (host, 1)}) == caller


def test_a_page_of_elsewhere_cannot_send_what_changes_something() -> None:
    client = Client(Shop())
    assert client.post("/v1/events", json=EVENT, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post("/v1/events", json=EVENT, headers={"origin": "null"}).status_code == 403
    assert client.post("/v1/events", json=EVENT, headers={"origin": "http://shop"}).status_code == 202, "its own page"
    assert (
        "access-control-allow-origin"
        not in client.get("/v1/customers", headers={"origin": "https://a.example"}).headers
    )
    client.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("rebound.example:8000", 403),  # anybody's name, which points at us for the moment
        ("named.example", 202),
        ("127.0.0.1:8000", 202),
        ("[::1]:8000", 202),
        ("localhost:8000", 202),
        ("shop.localhost", 202),
        ("[::1", 403),
    ],
)
def test_without_keys_a_name_of_the_internet_is_a_page_of_ours_only_if_it_is_named(host: str, status: int) -> None:
    client = Client(Shop(), ApiSettings(cors_origins="http://named.example"))
    headers = {"host": host, "origin": f"http://{host}"}
    assert client.post("/v1/events", json=EVENT, headers=headers).status_code == status
    client.close()


def test_with_a_key_the_page_s_own_name_is_enough(guarded: Client) -> None:
    headers = {**bearer(TILL_KEY), "host": "shop.example", "origin": "https://shop.example"}
    assert guarded.post("/v1/events", json=EVENT, headers=headers).status_code == 202


def test_origins_that_are_named_may_call_from_a_browser() -> None:
    client = Client(Shop(), ApiSettings(cors_origins="https://shop.example, http://localhost:3000", keys=KEYS))
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    before = client.options("/v1/events", headers={**ask, "origin": "https://shop.example"})
    assert before.status_code == 200, "a browser asks without a key"
    headers = {**bearer(TILL_KEY), "origin": "https://shop.example"}
    answer = client.post("/v1/events", json=EVENT, headers=headers)
    assert answer.status_code == 202
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    other = client.options("/v1/events", headers={**ask, "origin": "https://other.example"})
    assert other.status_code == 400
    client.close()


@pytest.mark.parametrize("origin", ["*", "https://*.example", "shop.example", "https://shop.example/"])
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="is no origin; write https://HOST"):
        build_api(Settings(api=ApiSettings(cors_origins=origin)))


EVENTS: Scope = {"type": "http", "path": "/v1/events", "headers": []}
PHOTO: Scope = EVENTS | {"path": "/photo"}


def bounded(application: ASGIApp, timeout_s: float = 60, most_larger: int = 2) -> BoundedBody:
    return BoundedBody(application, 1_000, timeout_s, larger={"/photo": 2_000}, most_larger=most_larger)


def test_a_body_without_end_is_read_to_the_limit_only() -> None:
    reads = 0

    async def receive() -> Message:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the application was asked")

    asyncio.run(bounded(never)(EVENTS, receive, send))
    assert (reads, sent[0]["status"]) == (11, 413)


def messages(*given: Message) -> Receive:
    left = list(given)

    async def receive() -> Message:
        return left.pop(0)

    return receive


async def test_a_body_that_comes_in_bits_is_one_message_to_the_application() -> None:
    bits: list[Message] = [{"type": "http.request", "body": b"x", "more_body": True} for _ in range(900)]
    seen: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    async def send(message: Message) -> None:
        raise AssertionError(f"nothing is said: {message}")

    end: list[Message] = [{"type": "http.request", "body": b"y"}, {"type": "http.disconnect"}]
    await bounded(application)(EVENTS, messages(*bits, *end), send)
    assert seen == [
        {"type": "http.request", "body": b"x" * 900 + b"y", "more_body": False},
        {"type": "http.disconnect"},
    ]


async def test_an_upload_that_breaks_off_reaches_no_application() -> None:
    async def never(*_: object) -> None:
        raise AssertionError("the application was asked, or somebody was answered")

    bits = messages({"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"})
    await bounded(never)(EVENTS, bits, never)


@pytest.mark.parametrize("pause_s", [0.0, 60.0], ids=["bit by bit", "nothing at all"])
async def test_a_body_that_trickles_in_is_given_up(pause_s: float) -> None:
    """However busy it looks: the time counts from the headers to the end."""

    async def receive() -> Message:
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": b"", "more_body": True}

    async def never(*_: object) -> None:
        raise AssertionError("the application was asked")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    gateway = bounded(never, timeout_s=0.05, most_larger=1)
    for _ in range(2):  # what was held for the first is free for the second
        await gateway(PHOTO, receive, send)
    assert [message["status"] for message in sent[::2]] == [408, 408]
    assert (b"connection", b"close") in sent[0]["headers"]
    told = json.loads(sent[1]["body"])
    assert told["retryable"] is True and told["allowed_s"] == 0.05
    assert told["detail"].startswith("after 0.05 s 0 bytes of the body had come, and not its end; send it again")


async def test_few_large_uploads_are_held_at_once() -> None:
    """The others are refused before anything of them is read; small bodies are not counted."""
    opened, asked = asyncio.Event(), 0

    async def held(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await opened.wait()

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    gateway = bounded(held)
    whole: Message = {"type": "http.request", "body": b"x"}
    holding = [asyncio.create_task(gateway(PHOTO, messages(whole), send)) for _ in range(2)]
    holding.append(asyncio.create_task(gateway(EVENTS, messages(whole), send)))
    await asyncio.sleep(0)
    await gateway(PHOTO, messages(), send)
    assert (asked, sent[0]["status"]) == (3, 503)
    assert (b"retry-after", b"1") in sent[0]["headers"]
    opened.set()
    await asyncio.gather(*holding)
    await gateway(PHOTO, messages(whole), send)
    assert asked == 4


def test_who_has_no_key_sends_no_body() -> None:
    client = Client(Shop(), ApiSettings(keys=KEYS, max_body_bytes=10))
    assert client.post("/v1/events", content=b"x" * 100).status_code == 401
    assert client.post("/v1/events", content=b"x" * 100, headers=bearer(TILL_KEY)).status_code == 413
    client.close()
