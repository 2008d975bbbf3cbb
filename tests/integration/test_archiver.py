"""The archiver against a real broker: killed at random points the archive equals the topic, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.embedded import tansu
from infra.errors import DataError
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.settings import ArchiverSettings, KafkaSettings, Settings
from streams.archive import TopicArchive, read_rows
from streams.archive_compaction import compact
from streams.archiver import Archiver
from streams.events import Event, encode_event
from streams.topics import ARTICLES, TRANSACTIONS, topic_specs
from tests.support.servers import running
from tests.support.worker_process import WorkerProcess

pytestmark = pytest.mark.broker

START = datetime(2026, 11, 20, tzinfo=UTC)
KILLS = 5
PARTITIONS = 3


def event(number: int, run: str = "e") -> Event:
    """Every tenth is a day late."""
    moment = START + timedelta(seconds=number) - timedelta(days=number % 10 == 0)
    return Event(
        event_id=f"{run}{number}",
        type="purchase",
        occurred_at=moment,
        customer_id=f"customer-{number % 17}",
        article_id=f"article-{number % 5}",
        price=float(number),
    )


async def send(kafka: KafkaSettings, events: list[Event], poison: int = 0) -> None:
    async with Producer(kafka, linger_ms=2) as producer:
        await producer.send_many((TRANSACTIONS, e.customer_id.encode(), encode_event(e)) for e in events)
        await producer.send_many((TRANSACTIONS, b"poison", b"{not an event") for _ in range(poison))


def archived(archive: TopicArchive) -> list[str]:
    for _ in range(20):
        paths = [*archive.day_files(), *archive.segments()]
        with contextlib.suppress(DataError):  # compacted meanwhile
            return [event_id for path in paths for event_id in read_rows(path)["event_id"].to_pylist()]
    raise AssertionError("the archive cannot be read")


async def test_killed_at_random_points_it_neither_loses_nor_doubles(tmp_path: Path) -> None:
    dice = random.Random(5)
    with running(tansu(), tmp_path / "broker.log") as url:
        kafka = KafkaSettings(url=url, partitions=PARTITIONS)
        await ensure_topics(kafka, topic_specs(kafka))
        env = {
            "MODISTE_KAFKA__URL": url,
            "MODISTE_KAFKA__PARTITIONS": str(PARTITIONS),
            "MODISTE_DATA_DIR": str(tmp_path),
            "MODISTE_ARCHIVER__FLUSH_MS": "20",
            "MODISTE_ARCHIVER__SEGMENT_ROWS": "40",
            "MODISTE_ARCHIVER__COMPACT_SEGMENTS": "6",
        }
        archive = TopicArchive(tmp_path / "archive", TRANSACTIONS)
        sent = 0

        async def grows() -> bool:
            """Some of what was sent since the last kill is there, so that the next one interrupts work."""
            return len(set(archived(archive))) > before

        for _ in range(KILLS):
            before = len(set(archived(archive)))
            with WorkerProcess(tmp_path, env, ("streams", "archiver")) as process:
                feeding = asyncio.create_task(_feed(kafka, sent, sent + 600))
                await process.until(grows)
                await asyncio.sleep(dice.random() * 0.3)
                process.kill()
            await feeding
            sent += 600
        with WorkerProcess(tmp_path, env, ("streams", "archiver")) as process:

            async def whole() -> bool:
                return "archiving" in process.log and len(set(archived(archive))) == sent

            await process.until(whole)
            assert process.terminate() == 0
            assert "archiver stopped" in process.log
    assert Counter(archived(archive)) == Counter(f"e{n}" for n in range(sent))
    assert compact(archive).repeated == 0
    wanted = Counter(event(n).occurred_at.date().isoformat() for n in range(sent))
    assert {path.name[:10]: read_rows(path).num_rows for path in archive.day_files()} == wanted
    offsets = [
        place
        for path in archive.day_files()
        for place in zip(*(read_rows(path)[name].to_pylist() for name in ("partition", "offset")), strict=True)
    ]
    # Every message that is no event has an offset too, and is counted.
    assert len(set(offsets)) == sent and archive.compacted().skipped == KILLS * 12
    last = {int(partition): position.last for partition, position in archive.compacted().through.items()}
    assert sum(n + 1 for n in last.values()) == sent + KILLS * 12


async def _feed(kafka: KafkaSettings, start: int, end: int) -> None:
    for first in range(start, end, 50):
        await send(kafka, [event(n) for n in range(first, first + 50)], poison=1)
        await asyncio.sleep(0.02)


async def _archive(settings: Settings, directory: Path, rows: int, *, seconds: float = 30.0) -> Archiver:
    """Run an archiver in this process until the archive holds so many rows."""
    archiver = Archiver(settings, directory)
    task = asyncio.create_task(archiver.run())
    archive = TopicArchive(directory, TRANSACTIONS)
    async with asyncio.timeout(seconds):
        while len(archived(archive)) < rows:
            if task.done():
                task.result()
            await asyncio.sleep(0.05)
    archiver.stop()
    await task
    return archiver


async def test_a_topic_made_anew_begins_a_new_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker in memory comes back empty: longer or shorter than before, nothing of its second life is skipped."""
    monkeypatch.setattr("streams.archiver.CHECK_S", 0.3)
    directory = tmp_path / "archive"
    total = 0
    for life, count in enumerate((30, 80, 10)):
        with running(tansu(), tmp_path / f"broker-{life}.log") as url:
            kafka = KafkaSettings(url=url, partitions=2)
            settings = Settings(kafka=kafka, archiver=ArchiverSettings(flush_ms=50))
            await ensure_topics(kafka, topic_specs(kafka))
            events = [event(n, f"life-{life}-") for n in range(count)]
            await send(kafka, events)
            total += count
            await _archive(settings, directory, total)
            # Taken up once more, nothing of it comes again.
            again = await _archive(settings, directory, total)
            assert again.totals["archived"] == 0
    archive = TopicArchive(directory, TRANSACTIONS)
    assert len(set(archived(archive))) == total == 120
    assert {position.generation for position in archive.positions().values()} == {2}


async def test_a_broker_that_comes_back_empty_under_a_running_archiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.archiver.CHECK_S", 0.3)
    monkeypatch.setattr("streams.archiver.IDLE_S", 0.5)
    server = tansu()
    settings = Settings(
        kafka=KafkaSettings(url=server.url, partitions=1, request_timeout_ms=2_000),
        archiver=ArchiverSettings(flush_ms=50),
    )
    archive = TopicArchive(tmp_path, TRANSACTIONS)
    specs = [TopicSpec(TRANSACTIONS, 1), TopicSpec(ARTICLES, 1)]
    archiver = Archiver(settings, tmp_path)
    task: asyncio.Task[None] | None = None
    for life in range(2):
        with running(server, tmp_path / f"broker-{life}.log"):
            await ensure_topics(settings.kafka, specs)
            await send(settings.kafka, [event(n, f"life-{life}-") for n in range(10 + 10 * life)])
            task = task or asyncio.create_task(archiver.run())
            async with asyncio.timeout(60):
                while len(archived(archive)) < (10, 30)[life]:
                    assert not task.done(), task.result()
                    await asyncio.sleep(0.05)
    archiver.stop()
    assert task is not None
    await task
    assert len(set(archived(archive))) == 30


async def test_messages_on_articles_are_kept_as_they_are(kafka_url: str, tmp_path: Path) -> None:
    kafka = KafkaSettings(url=kafka_url)
    await ensure_topics(kafka, topic_specs(kafka))
    key = uuid.uuid4().hex.encode()
    async with Producer(kafka) as producer:
        await producer.send(ARTICLES, key, b'{"price": 2.5}')
        await producer.send(ARTICLES, key, b'{"price": 3.5}')
    archive = TopicArchive(tmp_path, ARTICLES)
    archiver = Archiver(Settings(kafka=kafka, archiver=ArchiverSettings(flush_ms=50)), tmp_path, topics=(ARTICLES,))
    task = asyncio.create_task(archiver.run())
    found: list[bytes] = []
    async with asyncio.timeout(30):
        while not found:
            assert not task.done(), task.result()
            await asyncio.sleep(0.1)
            rows = [row for path in archive.segments() for row in read_rows(path).to_pylist()]
            found = [row["value"] for row in rows if row["key"] == key]
    archiver.stop()
    await task
    compact(archive)
    rows = [row for path in archive.day_files() for row in read_rows(path).to_pylist() if row["key"] == key]
    assert [row["value"] for row in rows] == [b'{"price": 2.5}', b'{"price": 3.5}']
