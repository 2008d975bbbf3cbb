"""Saved messages are read for ever. These files are never edited, only added to: each stands on some topic or disk.

Of each type the first line is the least that was ever sent, and one has fields that this code does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from infra.announce import Announcement
from infra.bundle import FileEntry, Manifest, open_bundle
from infra.errors import InvalidMessage
from infra.registry import ChannelPointer
from serving.impressions import Impression, encode_impression
from serving.messages import (
    encode_recommendations,
    parse_recommendations,
    parse_request,
)
from streams.catalog import encode_article, parse_article, parse_article_vector
from streams.dead_letters import decode_dead_letter, encode_dead_letter
from streams.events import encode_event, parse_event
from streams.letter_desk import parse_settled
from streams.processor import RawMessage
from streams.subscriptions import parse_subscription, parse_update
from tests.contracts.meanings import HERE, MEANT, saved


def reader(kind: type[Any]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


READERS: dict[str, Callable[[bytes], Any]] = {
    "Event": parse_event,
    "RecommendationRequest": parse_request,
    "Recommendations": parse_recommendations,
    "Impression": reader(Impression),
    "DeadLetter": decode_dead_letter,
    "Settled": parse_settled,
    "Announcement": reader(Announcement),
    "Article": parse_article,
    "Subscription": lambda raw: parse_subscription(b"anna", raw),
    "CustomerUpdate": parse_update,
    "ArticleVector": lambda raw: parse_article_vector(b"minilm-1/hat", raw),
    "ChannelPointer": reader(ChannelPointer),
}

# Readers that refuse another major themselves.
REFUSING = (
    "Event",
    "RecommendationRequest",
    "Recommendations",
    "DeadLetter",
    "Article",
    "Subscription",
    "CustomerUpdate",
    "ArticleVector",
    "Settled",
)


def test_every_saved_file_has_a_reader_and_a_meaning() -> None:
    files = {path.stem for path in (HERE / "messages").iterdir()}
    assert files == set(READERS) == set(MEANT)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_saved_messages_are_read_as_they_were_meant(kind: str) -> None:
    assert [READERS[kind](line) for line in saved(kind)] == MEANT[kind]


def test_a_saved_bundle_is_opened_and_its_id_is_still_that_of_its_content() -> None:
    assert open_bundle(HERE / "bundle").manifest == Manifest(
        bundle_id="20261105T031200Z-9be4e8a",
        format=1,
        created_at=datetime(2026, 11, 5, 3, 12, tzinfo=UTC),
        code_revision="a989a78",
        trained_through=datetime(2026, 11, 4, tzinfo=UTC),
        config={"towers": {"epochs": 3}, "data": "archive"},
        contracts={"events": "1", "embedding_space": "s"},
        counts={"articles": 2},
        metrics={"full": {"map@12": 0.25}},
        files={
            "words.txt": FileEntry(sha256="2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", bytes=5)
        },
    )


def test_producers_write_the_version() -> None:
    refused = RawMessage("transactions", 0, 0, b"k", b"v")
    for raw in (
        encode_event(MEANT["Event"][0]),
        encode_recommendations(MEANT["Recommendations"][0]),
        encode_impression(MEANT["Impression"][0]),
        encode_dead_letter(refused, reason="rejected", error="why"),
        encode_article(MEANT["Article"][2]),
        msgspec.json.encode(MEANT["RecommendationRequest"][0]),
        *(
            msgspec.json.encode(MEANT[kind][0])
            for kind in ("Settled", "Announcement", "CustomerUpdate", "ArticleVector")
        ),
    ):
        assert msgspec.json.decode(raw)["schema_version"] == 1


@pytest.mark.parametrize("kind", REFUSING)
@pytest.mark.parametrize(
    ("version", "said"),
    [(2, "schema_version 2 is newer than version 1"), (0, "schema_version 0 is none that ever was")],
)
def test_another_major_is_refused_for_its_version(kind: str, version: int, said: str) -> None:
    message = {**msgspec.json.decode(saved(kind)[0]), "schema_version": version}
    with pytest.raises(InvalidMessage, match=said):
        READERS[kind](msgspec.json.encode(message))


@pytest.mark.parametrize("kind", REFUSING)
def test_a_newer_major_that_looks_quite_different_is_refused_for_its_version_too(kind: str) -> None:
    with pytest.raises(InvalidMessage, match="schema_version 7 is newer"):
        READERS[kind](b'{"schema_version":7,"who":{"id":"anna"},"what":[1,2]}')
