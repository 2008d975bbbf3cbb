"""The commands: what they print, and with which code they end."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.cli import cli
from infra.compacted import CompactedTable
from infra.settings import KafkaSettings, RedisSettings
from streams.events import Event, encode_event
from streams.redis_store import open_store
from streams.state import empty_state, fold
from streams.store import StoredCustomer
from tests.support.worker_process import WorkerProcess

HAT = Event(
    event_id="1",
    type="purchase",
    occurred_at=datetime(2017, 3, 1, tzinfo=UTC),
    customer_id="anna",
    article_id="hat",
    price=9.5,
)


def run(*arguments: str, **env: str) -> Result:
    # In a thread of its own: a command's asyncio.run would put away the event loop of the suite's thread.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(CliRunner().invoke, cli, ["streams", *arguments], env=env).result()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not an event"),
        (encode_event(HAT).replace(b"purchase", b"return"), "type 'return'; allowed: purchase, view, cart"),
    ],
)
def test_publish_names_the_wrong_line_and_sends_nothing(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode_event(HAT) + b"\n\n" + line + b"\n")
    # No broker at all: the file is refused before one is looked for.
    result = run("publish", str(file), MODISTE_KAFKA__URL="kafka://127.0.0.1:1")
    assert result.exit_code == 2
    assert f"file {file}, row 3: " in result.stderr
    assert reason in result.stderr


def test_publish_without_the_file_is_wrong_use(tmp_path: Path) -> None:
    result = run("publish", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_worker_without_a_broker_setting_says_what_to_set(tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, {"MODISTE_KAFKA__URL": "embedded://"}) as worker:
        assert worker.process.wait(30) == 2
    assert worker.log.startswith("error: ")
    assert "MODISTE_KAFKA__URL=kafka://host:port" in worker.log


@pytest.mark.broker
def test_publish_and_topics_on_a_broker(kafka_url: str, tmp_path: Path) -> None:
    first = run("topics", "ensure", "--json", MODISTE_KAFKA__URL=kafka_url)
    assert first.exit_code == 0, first.stderr
    told = json.loads(first.stdout)
    assert "transactions" in told["created"] + told["existed"]
    again = json.loads(run("topics", "ensure", "--json", MODISTE_KAFKA__URL=kafka_url).stdout)
    assert again["created"] == []
    listed = json.loads(run("topics", "list", "--json", MODISTE_KAFKA__URL=kafka_url).stdout)
    assert listed["missing"] == []
    assert listed["topics"]["bundles"] == 1
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join([encode_event(HAT)] * 3))
    sent = run("publish", str(file), "--json", MODISTE_KAFKA__URL=kafka_url)
    assert sent.exit_code == 0, sent.stderr
    assert json.loads(sent.stdout) == {"file": str(file), "events": 3, "topic": "transactions"}
    assert KafkaSettings().partitions == listed["topics"]["transactions"]


async def _store_hat(settings: RedisSettings) -> None:
    store = await open_store(settings)
    await store.save([StoredCustomer(fold(empty_state("anna"), [HAT])[0])])
    await store.close()


async def test_state_show(redis_url: str) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    await _store_hat(RedisSettings(url=redis_url, prefix=prefix))
    env = {"MODISTE_REDIS__URL": redis_url, "MODISTE_REDIS__PREFIX": prefix}
    found = run("state", "show", "anna", "--json", **env)
    assert json.loads(found.stdout) == {
        "customer_id": "anna",
        "version": 1,
        "as_of": "2017-03-01T00:00:00+00:00",
        "space": None,
        "embedding_dim": None,
        "totals": {
            "events": 1,
            "first": "2017-03-01T00:00:00+00:00",
            "last": "2017-03-01T00:00:00+00:00",
            "types": {"purchase": {"events": 1, "pieces": 1, "spent": 9.5}},
        },
        "events": [
            {
                "occurred_at": "2017-03-01T00:00:00+00:00",
                "type": "purchase",
                "article_id": "hat",
                "quantity": 1,
                "price": 9.5,
            }
        ],
    }
    shown = run("state", "show", "anna", **env).stdout
    assert "hat" in shown
    assert "in all 1 events since 2017-03-01T00:00:00+00:00\n  purchase  1 events, 1 pieces, 9.50 spent\n" in shown
    unknown = run("state", "show", "nobody", **env)
    assert unknown.exit_code == 1
    assert "nothing is known of customer 'nobody'" in unknown.stderr


@pytest.mark.broker
async def test_articles_publish_and_forget(kafka_url: str, tmp_path: Path) -> None:
    settings = KafkaSettings(url=kafka_url)
    ids = [f"{name}-{uuid.uuid4().hex[:8]}" for name in ("hat", "cap")]
    file = tmp_path / "articles.jsonl"
    file.write_text("".join(f'{{"article_id":"{article_id}","price":9.5}}\n\n' for article_id in ids))
    env = {"MODISTE_KAFKA__URL": kafka_url}
    done = run("articles", "publish", str(file), "--json", **env)
    assert json.loads(done.stdout) == {"file": str(file), "articles": 2, "topic": "articles"}
    gone = run("articles", "forget", ids[1], **env)
    assert "1 articles on articles" in gone.stdout
    table = CompactedTable(settings, "articles", lambda *_: True, lambda _: None)
    await table.start()
    try:
        kept = {key: value for key, value in table.table.items() if key.decode() in ids}
    finally:
        await table.stop()
    assert kept == {ids[0].encode(): f'{{"article_id":"{ids[0]}","schema_version":1,"price":9.5}}'.encode()}
    assert run("articles", "forget", ids[0], **env).exit_code == 0


def test_a_wrong_article_sends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "articles.jsonl"
    file.write_text('{"article_id":"hat"}\n{"article_id":"cap","price":-1}\n')
    refused = run("articles", "publish", str(file), MODISTE_KAFKA__URL="kafka://127.0.0.1:1")
    assert refused.exit_code == 2
    assert "row 2" in refused.stderr
    assert "price" in refused.stderr
