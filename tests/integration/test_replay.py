"""`modiste replay` as a real process on a real broker: killed, stopped, started again, beside what others sent."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiokafka.structs import ConsumerRecord

from infra.kafka import Producer, TopicSpec, ensure_topics, list_topics
from infra.kafka_consumer import BatchConsumer
from infra.kafka_tail import newest_messages
from infra.settings import KafkaSettings
from offline.event_log import EventLog, import_data, log_directory
from offline.topic_replay import NUMBER_HEADER, REPLAY_HEADER, History
from streams.events import Event, parse_event
from streams.publisher import message_of
from tests.support.tiny import write_tiny_shop

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
COMMAND = [
    sys.executable,
    "-c",
    "from infra.cli import cli; from offline.replay_cli import replay as r; cli.add_command(r); cli()",
]
DAYS, A_DAY = 40, 750
FIRST_DAY = datetime(2020, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny shop with 30,000 purchases of 300 customers in forty days, imported already under data/."""
    directory = tmp_path_factory.mktemp("shop")
    files = write_tiny_shop(directory / "hm")
    dice = random.Random(3)
    rows = DAYS * A_DAY
    article = pq.read_table(files / "articles.parquet")["article_id"][0].as_py()
    pq.write_table(
        pa.table(
            {
                "t_dat": [(FIRST_DAY + timedelta(days=n // A_DAY)).date().isoformat() for n in range(rows)],
                "customer_id": [f"customer-{dice.randrange(300)}" for _ in range(rows)],
                "article_id": pa.array([int(article)] * rows, pa.int64()),
                "price": [round(dice.random(), 2) for _ in range(rows)],
                "sales_channel_id": [dice.choice([1, 2]) for _ in range(rows)],
            }
        ),
        files / "transactions_train.parquet",
    )
    import_data("hm", files, log_directory(directory / "data", "hm"))
    return directory


@pytest.fixture
def log(shop: Path) -> EventLog:
    return EventLog(log_directory(shop / "data", "hm"))


@pytest.fixture
def topic() -> str:
    return f"history-{uuid.uuid4().hex[:8]}"


def start(shop: Path, kafka_url: str, topic: str, *options: str) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "MODISTE_DATA_DIR": str(shop / "data"),
        "MODISTE_KAFKA__URL": kafka_url,
        "MODISTE_KAFKA__PARTITIONS": "3",
    }
    words = ["replay", "--data", "hm", "--path", str(shop / "hm"), "--topic", topic, "--json", *options]
    return subprocess.Popen(
        [*COMMAND, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=shop
    )


def ended(process: subprocess.Popen[bytes], *, code: int = 0) -> tuple[dict[str, object], str]:
    """The JSON of stdout, and stderr."""
    out, err = (text.decode() for text in process.communicate(timeout=120))
    assert process.returncode == code, err
    return json.loads(out) if out else {}, err


async def messages(kafka_url: str, topic: str) -> dict[int, list[ConsumerRecord]]:
    """All that a topic holds, by partition."""
    found: dict[int, list[ConsumerRecord]] = defaultdict(list)
    async with BatchConsumer(KafkaSettings(url=kafka_url), [topic], batch_size=5_000) as consumer:
        while not await consumer.at_end():
            for place, records in (await consumer.getmany(200)).items():
                found[place.partition] += records
    return found


async def until_some(kafka_url: str, topic: str, least: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the topic holds so many messages."""
    kafka = KafkaSettings(url=kafka_url)
    async with asyncio.timeout(60):
        while process.poll() is None:
            if topic in await list_topics(kafka):
                tails = await newest_messages(kafka, topic, range(3), lambda record: True)
                if sum(tail.end for tail in tails.values()) >= least:
                    return
            await asyncio.sleep(0.05)
    raise AssertionError(f"it ended before {least} messages")


def expected(log: EventLog, since: datetime | None = None, until: datetime | None = None) -> list[Event]:
    return [Event(**row) for batch in log.scan(since, until) for row in batch.to_pylist()]


def assert_holds(found: dict[int, list[ConsumerRecord]], events: list[Event]) -> None:
    """Every event exactly once, with its number, and in order in each partition."""
    numbers = {p: [int(dict(r.headers)[NUMBER_HEADER]) for r in records] for p, records in found.items()}
    assert sorted(n for part in numbers.values() for n in part) == list(range(len(events)))
    for partition, part in numbers.items():
        assert part == sorted(part)
        for number, record in zip(part, found[partition], strict=True):
            assert (record.key, record.value) == message_of(events[number])
            assert parse_event(record.value) == events[number]


@pytest.mark.slow
async def test_killed_anywhere_and_started_again_each_event_is_there_once_and_in_order(
    shop: Path, kafka_url: str, topic: str, log: EventLog
) -> None:
    """Killed twice while it paces itself, once at full speed, stopped once; forty days in eight seconds otherwise."""
    pace = f"{DAYS * 86_400 // 8}x"
    for least, speed in ((2_000, pace), (6_000, pace), (12_000, "max")):
        process = start(shop, kafka_url, topic, "--speed", speed)
        await until_some(kafka_url, topic, least, process)
        process.kill()
        process.communicate()
    held = sum(map(len, (await messages(kafka_url, topic)).values()))
    assert 12_000 <= held < DAYS * A_DAY

    process = start(shop, kafka_url, topic, "--speed", pace)
    await until_some(kafka_url, topic, held + 1_000, process)
    process.terminate()
    stopped, said = ended(process)
    assert stopped["finished"] is False
    assert f"stopped after {stopped['position']:,} of 30,000 events, at " in said
    assert "the same command goes on from there" in said

    last, _ = ended(start(shop, kafka_url, topic, "--speed", "max"))
    assert last["finished"] is True
    assert last["replay_id"] == stopped["replay_id"]
    assert last["first"] == stopped["position"]
    assert last["sent"] == DAYS * A_DAY - int(str(stopped["position"]))
    found = await messages(kafka_url, topic)
    assert len(found) == 3
    assert_holds(found, expected(log))

    again, _ = ended(start(shop, kafka_url, topic, "--speed", "max"))
    assert (again["sent"], again["first"], again["position"]) == (0, None, DAYS * A_DAY)
    assert again["finished"] is True


async def test_a_part_of_history_and_what_stands_in_the_way(
    shop: Path, kafka_url: str, topic: str, log: EventLog
) -> None:
    days = ("--from", "2020-06-03", "--to", "2020-06-04T00:00:00+00:00", "--speed", "max")
    done, _ = ended(start(shop, kafka_url, topic, *days))
    assert (done["events"], done["sent"]) == (A_DAY, A_DAY)
    third = expected(log, datetime(2020, 6, 3, tzinfo=UTC), datetime(2020, 6, 4, tzinfo=UTC))
    assert {event.occurred_at.date().isoformat() for event in third} == {"2020-06-03"}
    assert_holds(await messages(kafka_url, topic), third)

    other = ("--from", "2020-06-04", "--to", "2020-06-05", "--speed", "max")
    _, said = ended(start(shop, kafka_url, topic, *other), code=2)
    assert f"with a message of replay {done['replay_id']}, not of replay" in said
    assert "choose another --topic, delete this one, or give --among-others" in said

    behind, _ = ended(start(shop, kafka_url, topic, *other, "--among-others"))
    assert behind["sent"] == A_DAY
    # Others go on in the meantime: what is behind this replay's messages does not hide them.
    async with Producer(KafkaSettings(url=kafka_url)) as producer:
        await producer.send_many((topic, f"{n}".encode(), b"{}") for n in range(200))
    for options, earlier in ((days, A_DAY), (other, A_DAY)):
        nothing, _ = ended(start(shop, kafka_url, topic, *options, "--among-others"))
        assert (nothing["sent"], nothing["position"]) == (0, earlier)
    found = await messages(kafka_url, topic)
    mine = {
        p: [r for r in records if dict(r.headers).get(REPLAY_HEADER) == str(behind["replay_id"]).encode()]
        for p, records in found.items()
    }
    assert_holds(mine, expected(log, datetime(2020, 6, 4, tzinfo=UTC), datetime(2020, 6, 5, tzinfo=UTC)))
    assert sum(map(len, found.values())) == 2 * A_DAY + 200
    _, said = ended(start(shop, kafka_url, topic, *other), code=2)
    assert "a message of another producer" in said


async def test_the_newest_wanted_message_is_found_however_far_back(kafka_url: str, topic: str) -> None:
    kafka = KafkaSettings(url=kafka_url)
    await ensure_topics(kafka, [TopicSpec(topic, 3)])
    async with Producer(kafka) as producer:
        await producer.send_in_order(topic, 0, [(b"k", b"%d" % n, [("n", b"%d" % n)]) for n in range(5_000)])
        await producer.send_in_order(topic, 1, [(None, b"7", [])])
    tails = await newest_messages(kafka, topic, range(3), lambda record: record.value.endswith(b"7"))
    assert {p: (t.end, t.newest and t.newest.value) for p, t in tails.items()} == {
        0: (5_000, b"4997"),
        1: (1, b"7"),
        2: (0, None),
    }
    tails = await newest_messages(kafka, topic, [0], lambda record: record.value == b"3")
    assert tails[0].newest is not None
    assert tails[0].newest.headers == (("n", b"3"),)
    tails = await newest_messages(kafka, topic, [0], lambda record: False)
    assert (tails[0].end, tails[0].newest) == (5_000, None)


def test_a_replay_is_named_by_its_events_and_the_partitions(log: EventLog) -> None:
    day = FIRST_DAY + timedelta(days=1)
    names = {
        History(log).replay_id(3),
        History(log).replay_id(4),
        History(log, day).replay_id(3),
        History(log, None, day).replay_id(3),
    }
    assert len(names) == 4
    assert History(EventLog(log.path)).replay_id(3) in names


def test_events_go_on_anywhere(log: EventLog) -> None:
    history = History(log, FIRST_DAY, FIRST_DAY + timedelta(days=2))
    everything = list(history.events(0))
    assert [number for number, _ in everything] == list(range(2 * A_DAY))
    for first in (1, A_DAY - 1, A_DAY, A_DAY + 1, 2 * A_DAY - 1, 2 * A_DAY):
        assert list(history.events(first)) == everything[first:]
