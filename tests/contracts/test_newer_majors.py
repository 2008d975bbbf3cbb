"""What of a newer major, or of no known kind, comes over a topic: a dead letter, and the process goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.clock import ManualClock
from infra.settings import RedisSettings, RegistrySettings, Settings
from serving.responder import Responder
from streams.dead_letters import decode_dead_letter
from streams.processor import RawMessage
from streams.worker import FoldWorker
from tests.contracts.meanings import NOON, saved
from tests.serving.toy_shop import CountingStore, ToyLink, ToySource

FUTURE_EVENT = b'{"schema_version":2,"event_id":"9","type":"purchase","at":1,"who":"anna"}'
RETURN = (
    b'{"event_id":"9","type":"return","occurred_at":"2017-03-01T10:00:00Z","customer_id":"anna","article_id":"hat"}'
)


class Tray:
    """Stands in for the producer."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send_many(self, messages: Any) -> int:
        self.sent += messages
        return len(self.sent)


def a_worker(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FoldWorker, Tray]:
    """Without a broker, and what it sends."""

    async def nothing_to_create(*_: object) -> list[str]:
        return []

    tray = Tray()
    monkeypatch.setattr("streams.worker.ensure_topics", nothing_to_create)
    monkeypatch.setattr("streams.worker.Producer", lambda *_, **__: tray)
    monkeypatch.setattr("streams.worker.Subscriptions.start", nothing_to_create)
    settings = Settings(
        redis=RedisSettings(url="memory://"), registry=RegistrySettings(url=f"file://{directory}/registry")
    )
    return FoldWorker(settings, clock=ManualClock(NOON)), tray


async def test_the_worker_keeps_what_it_cannot_know_as_dead_letters_and_folds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, tray = a_worker(tmp_path, monkeypatch)
    await worker.start()
    values = [FUTURE_EVENT, *saved("Event"), RETURN]
    await worker([RawMessage("transactions", 0, n, b"k", value) for n, value in enumerate(values)])
    await worker.stop()
    assert worker.totals == {"applied": 3, "rejected": 2}
    letters = [decode_dead_letter(value) for topic, _, value in tray.sent if topic == "dead-letters"]
    assert [(letter.offset, letter.raw_bytes) for letter in letters] == [(0, FUTURE_EVENT), (4, RETURN)]
    assert "schema_version 2 is newer than version 1" in letters[0].error
    assert letters[1].error.endswith("type 'return'; allowed: purchase, view, cart")


@pytest.mark.parametrize(
    ("topic", "kind", "key"),
    [
        ("articles", "Article", b"hat"),
        ("article-vectors", "ArticleVector", b"minilm-1/hat"),
        ("subscriptions", "Subscription", b"anna"),
    ],
)
async def test_the_worker_keeps_what_nobody_can_read_of_the_tables(
    topic: str, kind: str, key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needs them passes over what it cannot read; one process has to tell of it."""
    worker, tray = a_worker(tmp_path, monkeypatch)
    await worker.start()
    newer = b'{"schema_version":2,"who":"hat"}'
    values = [saved(kind)[0], newer, b"not json", None]
    await worker([RawMessage(topic, 0, n, key, value) for n, value in enumerate(values)])
    await worker.stop()
    letters = [decode_dead_letter(value) for to, _, value in tray.sent if to == "dead-letters"]
    assert [(letter.topic, letter.offset, letter.raw_bytes) for letter in letters] == [
        (topic, 1, newer),
        (topic, 2, b"not json"),
    ]
    assert "schema_version 2 is newer than version 1" in letters[0].error


async def test_the_responder_refuses_and_keeps_requests_of_a_newer_major_or_an_unknown_strategy() -> None:
    link = ToyLink()
    responder = Responder(ToySource(), CountingStore(), link, ManualClock(NOON))
    values = [
        b'{"request_id":"r-9","customer_id":"anna","schema_version":2,"k":{"home":3}}',
        b'{"request_id":"r-10","customer_id":"anna","strategy":"oracle"}',
        saved("RecommendationRequest")[0],
    ]
    await responder.handle(
        [RawMessage("recommendation-requests", 0, n, b"anna", value) for n, value in enumerate(values)]
    )
    newer, unknown, known = link.on("recommendations")
    assert (newer["request_id"], newer["error"]["code"]) == ("r-9", "invalid_request")
    assert "schema_version 2 is newer than version 1" in newer["error"]["message"]
    assert "strategy 'oracle'; allowed: full" in unknown["error"]["message"]
    assert "error" not in known and known["schema_version"] == 1
    first, second = link.on("dead-letters")
    assert first["error"] == newer["error"]["message"] and second["error"] == unknown["error"]["message"]
