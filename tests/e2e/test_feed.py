"""Subscribe, buy, and the new list is on the topic; many purchases, one list; unsubscribed, none."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TextIO

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

EXAMPLE = Path(serving.__path__[0]) / "examples" / "subscriber.py"


def purchase(customer: str, n: int) -> Event:
    return Event(
        event_id=uuid.uuid4().hex,
        type="purchase",
        occurred_at=PRESENT - timedelta(hours=1) + timedelta(seconds=n),
        customer_id=customer,
        article_id=article_number("shoe", n % 6),
        price=9.5,
    )


def listener(servers: str, customer: str, out: TextIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, EXAMPLE, servers, customer], stdout=out)


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


async def test_a_subscribed_customer_hears_of_what_they_bought(settings: Settings, tmp_path: Path) -> None:
    customer = f"subscriber-{uuid.uuid4().hex[:8]}"
    servers = bootstrap_servers(settings.kafka.url)
    log = tmp_path / "example"
    with log.open("w") as out, listener(servers, customer, out) as example:
        try:
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
        finally:
            example.terminate()
    lines = log.read_text().splitlines()
    assert lines[0] == "listening"
    assert f"{customer} {burst[-1].occurred_at.isoformat().replace('+00:00', 'Z')}" in lines[-1]
