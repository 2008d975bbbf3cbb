"""What is bought live is in the next bundle: archive, rebuild, announcement, swap, answer, with real processes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.registry import Registry
from infra.settings import Settings, load_settings, make_clock
from offline.event_log import EventLog, import_data
from offline.rebuild import Rebuilder, Rhythm
from offline.smoke import client, warm_up
from serving.up import Stack, start_stack
from streams.archive import TopicArchive, read_rows
from streams.events import Event
from streams.topics import TRANSACTIONS
from tests.conftest import GIVEN
from tests.e2e.conftest import PRESENT
from tests.e2e.in_use import asked, command, everywhere, until
from tests.support.servers import choose_broker, running_broker
from tests.support.tiny import CUSTOMERS, TINY, article_number, build_tiny_bundle, customer_id

pytestmark = [pytest.mark.broker, pytest.mark.slow]

DAYS = 3
HAT = article_number("hat", 0)  # nobody has ever bought one


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    """A shop of its own, three days after its bundle: the archive must hold what happens here and nothing else."""
    build_tiny_bundle(tmp_path)
    (tmp_path / "broker").mkdir()
    with running_broker(choose_broker(GIVEN), tmp_path / "broker") as kafka_url:
        env = {
            "MODISTE_KAFKA__URL": kafka_url,
            "MODISTE_REDIS__URL": redis_url,
            "MODISTE_REDIS__PREFIX": f"loop-{uuid.uuid4().hex[:8]}",
            "MODISTE_REGISTRY__URL": f"file://{tmp_path / 'registry'}",
            "MODISTE_DATA_DIR": str(tmp_path / "data"),
            "MODISTE_HTTP__PORT": "0",
            "MODISTE_CLOCK__ORIGIN": (PRESENT + timedelta(days=DAYS)).isoformat(),
            "MODISTE_CLOCK__STARTED_AT": str(time.time()),
        }
        with start_stack(load_settings(env), processes=("worker", "responder", "api", "archiver")) as stack:
            yield stack


def craze() -> list[Event]:
    """For three days everybody buys two hats a day, apart from the last customer, who bought nothing."""
    return [
        Event(
            event_id=f"hat-{day}-{time_of_day}-{number}",
            type="purchase",
            occurred_at=PRESENT + timedelta(days=day, hours=time_of_day, minutes=number),
            customer_id=customer_id(number),
            article_id=HAT,
            price=4.0,
        )
        for day in range(DAYS)
        for time_of_day in (9, 17)
        for number in range(CUSTOMERS - 1)
    ]


def test_hats_bought_live_lead_the_next_bundle_s_answers(shop: Stack, tmp_path: Path) -> None:
    registry = Registry(shop.settings.registry.url)
    first = registry.pointer("production").bundle_id
    asyncio.run(buy_and_archive(shop.settings, craze()))
    told = rebuild(shop.settings, EventLog(tmp_path / "log"))
    assert told["outcome"] == "activated", told
    assert told["announced"]
    second = told["bundle_id"]
    assert second != first
    asyncio.run(everywhere(shop, second))
    assert asyncio.run(best(shop.settings)) == HAT
    # Back, as `modiste bundles rollback` does it, without a word to anyone.
    registry.activate("production", first)
    asyncio.run(everywhere(shop, first))
    assert asyncio.run(best(shop.settings)) != HAT
    # And forth, by the command, which tells them.
    done = command(shop, "bundles", "rollback")
    assert done.returncode == 0, done.stderr
    asyncio.run(everywhere(shop, second))


async def buy_and_archive(settings: Settings, events: list[Event]) -> None:
    archive = TopicArchive(settings.data_dir / "archive", TRANSACTIONS)

    async def archived() -> bool:
        paths = [*archive.day_files(), *archive.segments()] if archive.path.exists() else []
        return sum(len(read_rows(path)) for path in paths) >= len(events)

    async with client(settings) as one:
        await warm_up(one, "somebody")
        assert (await asked(one)).items[0].article_id != HAT
        await one.buy(events)
        await until(archived, "all events in the archive")


async def best(settings: Settings) -> str:
    async with client(settings) as one:
        return (await asked(one)).items[0].article_id


def rebuild(settings: Settings, base: EventLog) -> dict[str, Any]:
    """One round of `modiste offline run --data archive --base LOG --every 1h`."""
    told: list[dict[str, Any]] = []
    directory = settings.data_dir / "event-logs" / "archive"
    Rebuilder(
        settings,
        TINY,
        make_clock(settings.clock),
        lambda: import_data("archive", settings.data_dir / "archive", directory, base=base.path),
        Rhythm(every=3_600, retrain=3_600, rounds=1),
        told.append,
    ).run()
    return told[0]
