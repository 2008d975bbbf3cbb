"""TLS, SCRAM and an ACL user on real servers: who is let in, who is refused with which words, and no secret said.

Apache Kafka runs from its jars, so without Java these are skipped. The embedded Valkey is built without TLS; a
forwarder of the suite's own terminates it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from infra.apache_kafka import available
from infra.errors import BrokerUnavailable, ConfigurationError, ModisteError, StoreUnavailable
from infra.kafka import Producer, TopicSpec, ensure_topics, list_topics
from infra.kafka_consumer import BatchConsumer
from infra.kafka_group import GroupConsumer
from infra.kafka_probe import unread
from infra.redis_client import connect, connect_sync
from infra.settings import ClockSettings, KafkaSettings, RedisSettings, Settings
from serving.activity import ActivityRing
from serving.messages import RecommendationRequest
from serving.subscriber import ask
from serving.up import start_stack
from streams.events import Event
from streams.letter_desk import Wanted, read_letters
from streams.publisher import EventPublisher
from streams.redis_store import open_store
from streams.topics import TRANSACTIONS
from tests.support.certificates import DAY, Authority
from tests.support.consumers import Indifferent
from tests.support.secured import (
    KAFKA_PASSWORD,
    MAY_NOTHING,
    REDIS_PASSWORD,
    SecuredBroker,
    SecuredStore,
    secured_broker,
    secured_store,
)
from tests.support.tls_front import connections_to, silent_tls, tls_front

EXAMPLE = Path(__file__).parents[2] / "infra" / "modiste.example.toml"

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    reason = available()
    if reason is not None:
        pytest.skip(f"Apache Kafka cannot run here: {reason}")
    with secured_broker(tmp_path_factory.mktemp("secured-broker")) as started:
        yield started


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredStore]:
    found = re.search(r"ACL SETUSER modiste (.+)$", EXAMPLE.read_text(), re.MULTILINE)
    assert found is not None
    with secured_store(tmp_path_factory.mktemp("secured-store"), found[1]) as started:
        yield started


async def round_trip(settings: KafkaSettings) -> bytes:
    """Admin, producer and consumer, each through its own connection."""
    topic = f"test-{uuid.uuid4().hex[:8]}"
    assert await ensure_topics(settings, [TopicSpec(topic, 1)]) == [topic]
    async with Producer(settings) as producer:
        await producer.send(topic, b"k", b"v")
    async with GroupConsumer(settings, [topic], f"g-{topic}", Indifferent(), batch_size=1) as consumer:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for records in (await consumer.getmany(200)).values():
                return bytes(records[0].value or b"")
    raise AssertionError("nothing came back")


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("PLAINTEXT", "SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
        ("SASL_SSL", "SCRAM-SHA-512"),
        ("SASL_SSL", "SCRAM-SHA-256"),
        ("SASL_SSL", "PLAIN"),
    ],
)
async def test_who_is_known_is_let_in(broker: SecuredBroker, protocol: str, mechanism: str) -> None:
    assert await round_trip(broker.settings(protocol, sasl_mechanism=mechanism)) == b"v"


async def test_a_client_s_certificate_is_shown_where_it_is_asked_for(broker: SecuredBroker) -> None:
    certificate, key = broker.authority.issue("client")
    assert await round_trip(broker.settings("SSL", cert_file=certificate, key_file=key)) == b"v"


async def test_a_password_in_a_file_is_read_anew_for_each_client(broker: SecuredBroker, tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = broker.settings(password=None, password_file=file)
    file.write_text("not yet\n")
    with pytest.raises(ConfigurationError):
        await list_topics(settings)
    file.write_text(f"{KAFKA_PASSWORD}\n")
    await list_topics(settings)


GUESS = SecretStr("my-wrong-guess")


async def refused(start: Callable[[], Awaitable[object]]) -> ConfigurationError:
    """Why it cannot start, in the end: a broker with much to do may seem to be away at first, which is worth another
    try to every client."""
    for attempt in range(5):
        try:
            await start()
        except BrokerUnavailable:
            await asyncio.sleep(attempt)
        except ConfigurationError as error:
            return error
        else:
            raise AssertionError("it was let in")
    raise AssertionError("five times it was said to be away")


@pytest.mark.parametrize(
    ("protocol", "port", "given", "names"),
    [
        ("SASL_SSL", None, {"password": GUESS}, ["refuses user 'modiste' by SCRAM-SHA-512", "kafka.password"]),
        (
            "SASL_SSL",
            None,
            {"password": GUESS, "sasl_mechanism": "PLAIN"},
            ["refuses user 'modiste'", "kafka.password"],
        ),
        ("SASL_SSL", None, {"ca_file": "another"}, ["certificate is not trusted", "kafka.ca_file"]),
        ("SSL", None, {}, ["ends the TLS handshake", "kafka.cert_file"]),
        ("PLAINTEXT", "SASL_SSL", {}, ["speaks TLS", "kafka.security_protocol"]),
        ("SSL", "PLAINTEXT", {}, ["does not speak TLS", "kafka.security_protocol"]),
        ("SASL_PLAINTEXT", "PLAINTEXT", {}, ["asks for no user", "kafka.security_protocol to PLAINTEXT"]),
        ("SSL", "SASL_SSL", {}, ["asks for a user", "kafka.security_protocol to SASL_SSL"]),
    ],
)
async def test_a_broker_that_refuses_is_understood(
    broker: SecuredBroker,
    tmp_path: Path,
    protocol: str,
    port: str | None,
    given: dict[str, Any],
    names: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    if "ca_file" in given:
        given = {"ca_file": Authority(tmp_path, "another").ca_file}
    settings = broker.settings(protocol, port=broker.ports[port] if port else None, **given)
    for start in (
        lambda: list_topics(settings),
        lambda: Producer(settings).start(),
        lambda: GroupConsumer(settings, ["t"], "g", Indifferent(), batch_size=1).start(),
    ):
        error = await refused(start)
        said = str(error)
        assert not error.retryable
        assert all(name in said for name in names), said
        assert GUESS.get_secret_value() not in said + caplog.text
        assert KAFKA_PASSWORD not in said + caplog.text
    await asyncio.sleep(0.2)  # aiokafka closes what was refused without waiting for it, and the loop ends here


async def test_a_user_without_rights_is_told_so(broker: SecuredBroker) -> None:
    settings = broker.settings(username=MAY_NOTHING, password=SecretStr(MAY_NOTHING))
    topic = TopicSpec(f"test-{uuid.uuid4().hex[:8]}", 1)
    for what in (ensure_topics(settings, [topic]), produce_and_consume(settings, broker.settings(), topic)):
        with pytest.raises(ConfigurationError, match=r"does not allow user 'guest' .* kafka\.username"):
            await what


async def produce_and_consume(settings: KafkaSettings, owner: KafkaSettings, topic: TopicSpec) -> None:
    await ensure_topics(owner, [topic])
    async with BatchConsumer(settings, [topic.name], batch_size=1) as consumer, asyncio.timeout(10):
        while True:
            await consumer.getmany(100)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"ends_in": -DAY}, ["not valid any more", "kafka.ca_file"]),
        ({"host": "127.0.0.2"}, ["of another name", "kafka.url"]),
    ],
)
async def test_a_certificate_that_is_over_or_another_s_is_refused(
    broker: SecuredBroker, given: dict[str, Any], names: list[str]
) -> None:
    certificate, key = broker.authority.issue(f"bad-{uuid.uuid4().hex[:6]}", **given)
    with tls_front(broker.ports["PLAINTEXT"], certificate, key) as port, pytest.raises(ConfigurationError) as caught:
        await Producer(broker.settings("SSL", port=port)).start()
    assert all(name in str(caught.value) for name in names), caught.value


async def test_a_broker_that_is_away_is_worth_another_try(broker: SecuredBroker) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        await list_topics(broker.settings(port=1))
    assert caught.value.retryable


async def test_onlookers_show_who_they_are_too(broker: SecuredBroker) -> None:
    settings = broker.settings()
    topic = f"test-{uuid.uuid4().hex[:8]}"
    await ensure_topics(settings, [TopicSpec(topic, 1)])
    ring = ActivityRing(settings, topic)
    await ring.start()
    try:
        async with Producer(settings) as producer:
            publisher = EventPublisher(producer, topic)
            async with asyncio.timeout(20):
                while ring.count == 0:
                    await publisher.publish(event(1))
                    await asyncio.sleep(0.1)
    finally:
        await ring.stop()
    async with BatchConsumer(settings, [topic], batch_size=1) as consumer:
        await consumer.getmany(1_000)
        assert await unread(settings, dict.fromkeys(consumer.assignment, 0)) == dict.fromkeys(consumer.assignment, 0)
    with pytest.raises(ConfigurationError, match=r"kafka\.password"):
        await ask(
            broker.settings(password=GUESS),
            RecommendationRequest(request_id="r", customer_id="c"),
        )


async def test_the_acl_user_of_the_example_is_let_in_over_tls(store: SecuredStore) -> None:
    settings = store.settings()
    client = await connect(settings)
    assert await client.ping()
    await client.aclose()
    with connect_sync(settings) as sync:
        assert sync.ping()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"password": GUESS}, ["refuses us", "redis.password"]),
        ({"username": None, "password": None}, ["refuses us", "redis.username"]),
        ({"ca_file": None}, ["certificate is not trusted", "redis.ca_file"]),
        ({"scheme": "redis", "port": "tls"}, ["speaks TLS", "rediss://"]),
        ({"scheme": "rediss", "port": "plain", "timeout_ms": 300}, ["does not speak TLS", "redis://"]),
    ],
)
async def test_a_store_that_refuses_is_understood(store: SecuredStore, given: dict[str, Any], names: list[str]) -> None:
    ports = {"tls": store.tls, "plain": store.plain}
    given = {**given, "port": ports.get(given.get("port", ""))}
    settings = store.settings(**given)
    for start in (lambda: asyncio.to_thread(connect_sync, settings), lambda: connect(settings)):
        with pytest.raises(ConfigurationError) as caught:
            await start()
        assert all(name in str(caught.value) for name in names), caught.value
        assert GUESS.get_secret_value() not in str(caught.value) and REDIS_PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kind", "names"),
    [
        ({"ends_in": -DAY}, ConfigurationError, ["not valid any more", "redis.ca_file"]),
        ({"host": "127.0.0.2"}, ConfigurationError, ["of another name", "redis.url"]),
    ],
)
async def test_a_store_s_certificate_is_checked(
    store: SecuredStore, given: dict[str, Any], kind: type[ModisteError], names: list[str]
) -> None:
    certificate, key = store.authority.issue(f"bad-{uuid.uuid4().hex[:6]}", **given)
    with tls_front(store.plain, certificate, key) as port, pytest.raises(kind) as caught:
        await connect(store.settings(port=port))
    assert all(name in str(caught.value) for name in names), caught.value


async def test_a_store_may_ask_for_a_client_s_certificate(store: SecuredStore) -> None:
    certificate, key = store.authority.issue("front")
    ours, our_key = store.authority.issue("ours")
    with tls_front(store.plain, certificate, key, client_ca=store.authority.ca_file) as port:
        client = await connect(store.settings(port=port, cert_file=ours, key_file=our_key))
        await client.aclose()
        with pytest.raises(ConfigurationError, match=r"redis\.cert_file"):
            await connect(store.settings(port=port))


async def test_a_store_that_goes_silent_leaves_no_connection_open(store: SecuredStore) -> None:
    certificate, key = store.authority.issue("silent")
    with silent_tls(certificate, key) as port:
        with pytest.raises(StoreUnavailable):
            await connect(store.settings(port=port, timeout_ms=300))
        assert connections_to(port) == []


async def test_a_store_that_is_away_is_worth_another_try(store: SecuredStore) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await connect(store.settings(port=1))
    assert caught.value.retryable


async def test_the_acl_keeps_us_to_our_keys(store: SecuredStore) -> None:
    elsewhere = await open_store(store.settings(prefix="other"))
    try:
        with pytest.raises(ConfigurationError, match=r"redis\.prefix"):
            await elsewhere.load(["anna"])
    finally:
        await elsewhere.close()


def event(n: int) -> Event:
    return Event(
        event_id=f"e{n}",
        type="purchase",
        occurred_at=datetime(2017, 3, 1, tzinfo=UTC) + timedelta(minutes=n),
        customer_id="anna",
        article_id=f"a{n}",
    )


async def test_worker_and_archiver_work_over_tls_and_say_no_secret(
    broker: SecuredBroker, store: SecuredStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PLAIN, for it is the one whose requests hold the password itself; DEBUG, for there the libraries log them.
    kafka = broker.settings(sasl_mechanism="PLAIN")
    redis: RedisSettings = store.settings()
    settings = Settings(
        kafka=kafka, redis=redis, data_dir=tmp_path, clock=ClockSettings(), log={"level": "DEBUG"}, http={"port": 0}
    )
    monkeypatch.setenv("MODISTE_REDIS__PASSWORD", REDIS_PASSWORD)  # as a user gives it to `modiste up`
    log = tmp_path / "log"
    with log.open("w") as out:
        stack = await asyncio.to_thread(start_stack, settings, processes=["worker", "archiver"], out=out)
        try:
            pids = stack.supervisor.pids()
            for name, pid in pids.items():
                title = await asyncio.to_thread(process_file, pid, "cmdline")
                held = await asyncio.to_thread(process_file, pid, "environ")
                assert KAFKA_PASSWORD in held
                assert (REDIS_PASSWORD in held) == (name == "worker")
                assert KAFKA_PASSWORD not in title and REDIS_PASSWORD not in title
            async with Producer(kafka) as producer:
                await EventPublisher(producer).publish_many([event(n) for n in range(20)])
                await producer.send(TRANSACTIONS, b"anna", b"no event")
            assert await folded(redis, 20)
            (found,) = await read_letters(kafka, Wanted(), limit=1)
            assert found.letter.raw_bytes == b"no event"
            assert await asyncio.to_thread(archived, tmp_path / "archive" / TRANSACTIONS)
        finally:
            await asyncio.to_thread(stack.stop)
    said = log.read_text()
    assert "aiokafka.conn" in said  # the lines that could have held it were written
    assert KAFKA_PASSWORD not in said and REDIS_PASSWORD not in said


def process_file(pid: int, name: str) -> str:
    """Empty for a moment, while one program takes another's place."""
    end = time.monotonic() + 10
    while not (text := Path(f"/proc/{pid}/{name}").read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    return text


def archived(directory: Path) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end and not list(directory.rglob("*.parquet")):
        time.sleep(0.1)
    return bool(list(directory.rglob("*.parquet")))


async def folded(settings: RedisSettings, events: int) -> bool:
    end = time.monotonic() + 40
    while time.monotonic() < end:
        with contextlib.suppress(StoreUnavailable):
            state_store = await open_store(settings)
            try:
                (found,) = await state_store.load(["anna"])
            finally:
                await state_store.close()
            if found is not None and len(found.state) == events:
                return True
        await asyncio.sleep(0.2)
    return False
