"""The AsyncAPI document: what it must hold, that it is the saved one, and that no schema changed under its readers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.settings import KafkaSettings
from serving.asyncapi import CHANNELS, PROCESSES, document
from serving.messages import parse_recommendations, parse_request
from streams.catalog import parse_article
from streams.dead_letters import decode_dead_letter
from streams.events import parse_event
from streams.topics import topic_specs
from tests.contracts.schema_changes import ADVICE, breaking

SAVED = Path(__file__).parent / "asyncapi.json"
RENEW = "modiste serving asyncapi > tests/contracts/asyncapi.json"

READERS: dict[str, Callable[[bytes], Any]] = {
    "Event": parse_event,
    "RecommendationRequest": parse_request,
    "Recommendations": parse_recommendations,
    "DeadLetter": decode_dead_letter,
    "Article": parse_article,
}


def schemas(of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = of["components"]["schemas"]
    return found


def test_no_schema_changed_under_its_readers() -> None:
    changes = breaking(schemas(json.loads(SAVED.read_text())), schemas(document()))
    assert changes == [], "\n".join([*changes, ADVICE])


def test_the_saved_document_is_the_code_s() -> None:
    assert json.loads(SAVED.read_text()) == document(), f"a topic, a text or an optional field is new; run: {RENEW}"


def changed(edit: Callable[[dict[str, Any]], object]) -> list[str]:
    now = copy.deepcopy(schemas(document()))
    edit(now)
    return breaking(schemas(document()), now)


def renamed(event: dict[str, Any]) -> None:
    event["properties"]["cost"] = event["properties"].pop("price")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda now: now["Event"]["properties"].update(colour={"type": "string", "default": ""}), []),
        (lambda now: now.update(Return={"type": "object"}), []),
        (lambda now: now["Event"].update(description="other words"), []),
        (lambda now: now["Event"]["properties"].pop("price"), ["Event.price is gone, or has another name"]),
        (lambda now: renamed(now["Event"]), ["Event.price is gone, or has another name"]),
        (lambda now: now.pop("Impression"), ["Impression is gone"]),
        (lambda now: now["Event"]["properties"]["quantity"].update(maximum=10), ["Event.quantity was"]),
        (lambda now: now["Event"]["properties"]["quantity"].update(default=2), ["Event.quantity was"]),
        (lambda now: now["Event"]["required"].append("price"), ["Event.price is required now"]),
        (lambda now: now["Event"]["required"].remove("type"), ["Event.type is not required any more"]),
        (lambda now: now["Event"].update(additionalProperties=False), ["Event: additionalProperties was None"]),
    ],
)
def test_what_breaks_readers_and_what_does_not(edit: Callable[[dict[str, Any]], object], said: list[str]) -> None:
    found = changed(edit)
    assert len(found) == len(said)
    assert all(line.startswith(begins) for line, begins in zip(found, said, strict=True)), found


def test_every_topic_stands_in_it_with_its_key_partitions_and_retention() -> None:
    channels = document()["channels"]
    specs = topic_specs(KafkaSettings())
    assert list(channels) == [channel.topic for channel in CHANNELS]
    assert set(channels) == {spec.name for spec in specs}
    for spec in specs:
        kafka = channels[spec.name]["bindings"]["kafka"]
        assert kafka["partitions"] == spec.partitions
        assert kafka["topicConfiguration"].get("retention.ms") == spec.retention_ms
        assert kafka["topicConfiguration"]["cleanup.policy"] == ["compact" if spec.compacted else "delete"]
        assert " Key: " in channels[spec.name]["description"]


def test_every_topic_is_received_or_sent_by_some_process() -> None:
    used = {operation["channel"]["$ref"].removeprefix("#/channels/") for operation in document()["operations"].values()}
    assert used == {channel.topic for channel in CHANNELS}
    assert {process.name for process in PROCESSES} >= {"worker", "responder", "api", "archiver"}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for key, text in value.items() if key == "$ref")
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_its_structure_is_that_of_asyncapi_3() -> None:
    # No maintained Python package carries AsyncAPI's own schema, so this checks what the document uses of it.
    made = document()
    assert made["asyncapi"] == "3.0.0"
    assert set(made) == {
        "asyncapi", "info", "defaultContentType", "servers", "channels", "operations", "components",
    }  # fmt: skip
    assert {"title", "version"} <= set(made["info"])
    for server in made["servers"].values():
        assert server["protocol"] in ("kafka", "kafka-secure")
        assert set(server) <= {"host", "protocol", "description", "variables", "security"}
    for channel in made["channels"].values():
        assert set(channel) == {"address", "description", "messages", "bindings"}
    for operation in made["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert set(operation) <= {"action", "channel", "summary", "tags", "bindings"}
    for reference in references(made):
        place: Any = made
        for part in reference.removeprefix("#/").split("/"):
            assert part in place, f"{reference} leads nowhere"
            place = place[part]


def test_the_examples_are_messages_that_the_code_reads() -> None:
    for name, message in document()["components"]["messages"].items():
        (example,) = message["examples"]
        raw = msgspec.json.encode(example["payload"])
        if name in READERS:
            READERS[name](raw)
        held = schemas(document())[name]
        assert set(held["required"]) <= set(example["payload"]) <= set(held["properties"])
