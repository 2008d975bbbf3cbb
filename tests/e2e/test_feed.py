"""Subscribe, buy, and the new list is on the topic; many purchases, one list; unsubscribed, none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

import serving
from infra.kafka_consumer import BatchConsumer
from infra.kafka_security import bootstrap_servers
from infra.settings import Settings
from offline.smoke import client
from serving.messages import Recommendations
from serving.up import modiste_argv, settings_env
from streams.events import Event
from streams.topics import RECOMMENDATIONS
from tests.e2e.conftest import PRESENT
from tests.support.tiny import article_number

pytestmark = [pytest.mark.broker, pytest.mark.slow]

needs_kcat = pytest.mark.skipif(
    shutil.which("kcat") is None, reason="no kcat on this machine (Debian: apt-get install kcat)"
)
EXAMPLES = Path(serving.__path__[0]) / "examples"


def purchase(customer: str, n: int) -> Event:
    return Event(
        event_id=uuid.uuid4().hex,
        type="purchase",
        occurred_at=PRESENT - timedelta(hours=1) + timedelta(seconds=n),
        customer_id=customer,
        article_id=article_number("shoe", n % 6),
        price=9.5,
    )


@contextlib.contextmanager
def listening(*argv: str | Path, kafka: str, out: Path) -> Iterator[None]:
    """An example that writes to `out` all the while."""
    with (
        out.open("w") as stdout,
        subprocess.Popen(argv, stdout=stdout, env={**os.environ, "KAFKA": kafka}, start_new_session=True) as example,
    ):
        try:
            yield
            assert example.poll() is None
        finally:
            os.killpg(example.pid, signal.SIGTERM)  # a script's pipeline is more than one process


def modiste(settings: Settings, *words: str) -> None:
    done = subprocess.run(
        modiste_argv(*words), env={**os.environ, **settings_env(settings)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


async def heard(consumer: BatchConsumer, customer: str, seconds: float, enough: int = 99) -> list[Recommendations]:
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(found) < enough:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            answers = [msgspec.json.decode(record.value, type=Recommendations) for record in records]
            found += [a for a in answers if a.trigger == "feed" and a.customer_id == customer]
    return found


@needs_kcat
def test_the_commands_of_kcat_work(settings: Settings) -> None:
    environment = {**os.environ, "KAFKA": bootstrap_servers(settings.kafka.url), "CUSTOMER": "somebody"}
    done = subprocess.run(
        ["bash", EXAMPLES / "kafka.sh"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = msgspec.json.decode(done.stdout, type=Recommendations)
    assert (answer.customer_id, answer.error, len(answer.items)) == ("somebody", None, 5)


async def test_a_subscribed_customer_hears_of_what_they_bought(settings: Settings, tmp_path: Path) -> None:
    customer = f"subscriber-{uuid.uuid4().hex[:8]}"
    servers = bootstrap_servers(settings.kafka.url)
    log = tmp_path / "example"
    with listening(sys.executable, EXAMPLES / "subscriber.py", servers, customer, kafka=servers, out=log):
        consumer = BatchConsumer(settings.kafka, [RECOMMENDATIONS], batch_size=500, from_beginning=False)
        async with consumer, client(settings) as one:
            await heard(consumer, customer, 0.5)
            await asyncio.to_thread(modiste, settings, "serving", "subscribe", customer, "--k", "3")
            # The processes hear of it a moment later; a purchase before that is nobody's to tell.
            first: list[Recommendations] = []
            for n in range(20):
                await one.buy([purchase(customer, n)])
                first = await heard(consumer, customer, 2.0, enough=1)
                if first:
                    break
            assert first[0].items[0].article_id in {article_number("shoe", i) for i in range(6)}
            assert len(first[0].items) == 3
            assert not first[0].cold_start
            assert first[0].bundle_id is not None

            # A burst is one message, of a state that has all of it.
            await heard(consumer, customer, 1.0)
            burst = [purchase(customer, n) for n in range(30, 50)]
            await one.buy(burst)
            (told,) = await heard(consumer, customer, 4.0)
            assert told.as_of == burst[-1].occurred_at
            assert told.request_id != first[0].request_id

            await asyncio.to_thread(modiste, settings, "serving", "unsubscribe", customer)
            await asyncio.sleep(1.0)
            await one.buy([purchase(customer, 60)])
            assert await heard(consumer, customer, 3.0) == []
    lines = log.read_text().splitlines()
    assert lines[0] == "listening"
    assert f"{customer} {burst[-1].occurred_at.isoformat().replace('+00:00', 'Z')}" in lines[-1]


@needs_kcat
async def test_kcat_hears_a_subscribed_customer(settings: Settings, tmp_path: Path) -> None:
    customer = f"subscriber-{uuid.uuid4().hex[:8]}"
    log = tmp_path / "example"
    with listening("bash", EXAMPLES / "feed.sh", customer, kafka=bootstrap_servers(settings.kafka.url), out=log):
        async with client(settings) as one:
            for who in (customer, f"{customer}-2"):
                await asyncio.to_thread(modiste, settings, "serving", "subscribe", who, "--k", "3")
            for n in range(20):
                await one.buy([purchase(f"{customer}-2", n), purchase(customer, n)])
                await asyncio.sleep(2.0)
                if log.read_text():
                    break
            for who in (customer, f"{customer}-2"):
                await asyncio.to_thread(modiste, settings, "serving", "unsubscribe", who)
    received = [msgspec.json.decode(line, type=Recommendations) for line in log.read_text().splitlines()]
    assert {(answer.customer_id, answer.trigger, len(answer.items)) for answer in received} == {(customer, "feed", 3)}
