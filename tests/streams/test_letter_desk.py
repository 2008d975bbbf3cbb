"""Dead letters on a real broker: chosen, sent again under their keys once, never for ever, taken away as a file."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from infra.cli import cli
from infra.errors import DataError
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.kafka_consumer import BatchConsumer
from infra.settings import KafkaSettings
from streams.batches import batch_of
from streams.dead_letters import MAX_RAW_BYTES, decode_dead_letter, encode_dead_letter, send_dead_letters
from streams.letter_desk import Letter, Wanted, as_row, export, read_letters, requeue
from streams.processor import RawMessage
from streams.topics import DEAD_LETTERS, SUBSCRIPTIONS, topic_specs

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def letter(value: bytes = b"v", *, reason: str = "rejected", topic: str = "t", requeued: int = 0) -> Letter:
    message = RawMessage(topic, 3, 41, b"anna", value, requeued)
    return Letter(decode_dead_letter(encode_dead_letter(message, reason=reason, error="why")), b"anna", 0, 7, AT)


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        (Wanted(), True),
        (Wanted(reason="rejected", topic="t", since=AT), True),
        (Wanted(reason="state_unreadable"), False),
        (Wanted(topic="u"), False),
        (Wanted(since=AT + timedelta(seconds=1)), False),
    ],
)
def test_which_letters_are_meant(wanted: Wanted, held: bool) -> None:
    assert wanted.holds(letter()) is held


def test_letter_keeps_how_often_it_came_back() -> None:
    assert letter(requeued=2).letter.requeued == 2


def test_export_as_json_lines_and_parquet(tmp_path: Path) -> None:
    letters = [letter(b"\xff{"), letter(b"", reason="state_unreadable")]
    export(letters, tmp_path / "x.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["raw"], row["text"], row["key"]) for row in rows] == [
        ("rejected", "/3s=", "\\xff{", "YW5uYQ=="),
        ("state_unreadable", "", "", "YW5uYQ=="),
    ]
    export(letters, tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [as_row(one) for one in letters]
    with pytest.raises(DataError, match=r"\.jsonl or \.parquet"):
        export(letters, tmp_path / "x.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.jsonl", "x.parquet"]


async def test_what_is_no_letter_hides_no_letter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    message = RawMessage("t", 3, 41, b"anna", b"v")
    values = [
        b"hello",
        encode_dead_letter(message, reason="rejected", error="why"),
        b'{"schema_version":2,"settled":[0,1]}',
        None,
    ]

    async def records(*_: object) -> AsyncIterator[Any]:
        for offset, value in enumerate(values):
            yield SimpleNamespace(partition=0, offset=offset, key=None, value=value, timestamp=0)

    monkeypatch.setattr("streams.letter_desk._records", records)
    found = await read_letters(KafkaSettings(), Wanted(), limit=9)
    assert [(one.offset, one.letter.raw_bytes) for one in found] == [(1, b"v")]
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(" is passed over")[0] for line in told] == [f"dead-letters/0@{n}" for n in (0, 2, 3)]
    assert "newer than version 1" in told[1]


def run(*arguments: str, url: str) -> Result:
    with ThreadPoolExecutor(1) as pool:  # a command's asyncio.run would put away the suite's event loop
        given = ["streams", "dead-letters", *arguments]
        return pool.submit(CliRunner().invoke, cli, given, env={"MODISTE_KAFKA__URL": url}).result()


@pytest.mark.broker
async def test_requeued_letters_come_back_whole_once_and_not_for_ever(
    kafka_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.letter_desk.QUIET_S", 0.5)
    kafka = KafkaSettings(url=kafka_url)
    topic = f"test-{uuid.uuid4().hex[:8]}"
    await ensure_topics(kafka, [TopicSpec(topic, 2), TopicSpec(DEAD_LETTERS, 4)])
    ours = Wanted(topic=topic)
    async with Producer(kafka) as producer:
        refused = [
            (RawMessage(topic, 0, 5, b"anna", b"\x00\xff"), "rejected", "bad"),
            (RawMessage(topic, 1, 6, None, b"often", 3), "rejected", "bad again"),
            (RawMessage(topic, 1, 7, b"bo", b"x" * (MAX_RAW_BYTES + 1)), "rejected", "huge"),
            (RawMessage(topic, 1, 8, b"carl", b"corrupt"), "state_unreadable", "his value"),
        ]
        await send_dead_letters(producer, refused)
    everything = await read_letters(kafka, ours, limit=100)
    assert sorted(one.letter.offset for one in everything) == [5, 6, 7, 8]
    assert [one.key for one in everything if one.letter.offset == 5] == [b"anna"]
    assert await requeue(kafka, everything, dry_run=True) == {"sent": 2, "too_often": 1, "incomplete": 1}
    assert len(await read_letters(kafka, ours, limit=100)) == 4

    told = run("requeue", "--topic", topic, "--reason", "rejected", "--since", "1h", "--json", url=kafka_url)
    assert json.loads(told.stdout) == {
        "sent": 1,
        "too_often": 1,
        "incomplete": 1,
        "superseded": 0,
        "dry_run": False,
    }
    shown = run("show", "--topic", topic, "--json", url=kafka_url)
    assert sorted(json.loads(line)["offset"] for line in shown.stdout.splitlines()) == [6, 7, 8]
    again = run("requeue", "--topic", topic, "--max-times", "4", url=kafka_url)
    assert again.stdout.splitlines() == ["2 sent again", "1 left: too large to be kept whole"]
    file = tmp_path / "left.jsonl"
    assert run("export", str(file), "--topic", topic, url=kafka_url).exit_code == 0
    assert [json.loads(line)["offset"] for line in file.read_text().splitlines()] == [7]

    back: dict[bytes | None, tuple[bytes | None, int]] = {}
    async with BatchConsumer(kafka, [topic], batch_size=10) as consumer:
        for _ in range(100):
            messages = batch_of(await consumer.getmany(100)).take()
            back |= {m.key: (m.value, m.requeued) for m in messages}
            if len(back) == 3:
                break
    assert back == {b"anna": (b"\x00\xff", 1), None: (b"often", 4), b"carl": (b"corrupt", 1)}


@pytest.mark.broker
async def test_a_letter_of_a_table_undoes_nothing_newer(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two subscriptions were refused; anna has unsubscribed since."""
    monkeypatch.setattr("streams.letter_desk.QUIET_S", 0.5)
    kafka = KafkaSettings(url=kafka_url)
    await ensure_topics(kafka, topic_specs(kafka))
    unique = uuid.uuid4().hex[:8]
    anna, bert = (f"{name}-{unique}".encode() for name in ("anna", "bert"))
    stood: dict[bytes | None, RawMessage] = {}
    async with Producer(kafka) as producer:
        for key in (anna, bert):
            await producer.send(SUBSCRIPTIONS, key, b"refused")
        async with BatchConsumer(kafka, [SUBSCRIPTIONS], batch_size=100) as consumer:
            for _ in range(100):
                stood |= {m.key: m for m in batch_of(await consumer.getmany(100)).take()}
                if stood.keys() >= {anna, bert}:
                    break
        await producer.send(SUBSCRIPTIONS, anna, None)
        await send_dead_letters(producer, [(stood[key], unique, "why") for key in (anna, bert)])
    letters = await read_letters(kafka, Wanted(reason=unique), limit=9)
    assert {one.key for one in letters} == {anna, bert}
    assert await requeue(kafka, letters, dry_run=True) == {"superseded": 1, "sent": 1}


def test_time_that_is_none_is_wrong_use() -> None:
    told = run("show", "--since", "yesterday", url="kafka://127.0.0.1:1")
    assert told.exit_code == 2
    assert "write 90s, 15m, 2h, 7d" in told.stderr
