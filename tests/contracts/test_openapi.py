"""The OpenAPI document: it is the saved one, sound, and its examples are what it says they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner

from serving.api_document import REFERENCE
from serving.cli import serving
from streams.events import EVENT_TYPES

SAVED = Path(__file__).parent / "openapi.json"
RENEW = "modiste serving openapi > tests/contracts/openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    printed = CliRunner().invoke(serving, ["openapi"], catch_exceptions=False)
    made: dict[str, Any] = json.loads(printed.stdout)
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_saved_document_is_the_code_s(document: dict[str, Any]) -> None:
    assert json.loads(SAVED.read_text()) == document, f"a route, a text or an optional field is new; run: {RENEW}"


def named(document: dict[str, Any]) -> set[str]:
    """All that other people's code may rely on by name."""
    parameters = {f"{name} {p['name']}" for name, held in operations(document) for p in held.get("parameters", [])}
    fields = {f"{name}.{f}" for name, s in document["components"]["schemas"].items() for f in s.get("properties", {})}
    return parameters | fields | {name for name, _ in operations(document)}


def test_nothing_is_gone_that_was_there(document: dict[str, Any]) -> None:
    gone = named(json.loads(SAVED.read_text())) - named(document)
    assert gone == set(), "under /v1 nothing goes or changes its name; put it back, or make a /v2"


def test_every_route_says_what_it_answers_and_how_it_refuses(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"] and operation["tags"], name
        responses = operation["responses"]
        assert {"200", "202"} & responses.keys(), name
        for status, response in responses.items():
            if int(status) >= 400 and not (name == "GET /readyz" and status == "503"):
                assert list(response["content"]) == ["application/problem+json"], (name, status)


def test_all_but_probes_need_a_key_and_have_a_limit(document: dict[str, Any]) -> None:
    free = {name for name, operation in operations(document) if "security" not in operation}
    assert free == {"GET /healthz", "GET /readyz"}
    limited = {name for name, operation in operations(document) if "429" in operation["responses"]}
    assert limited == {name for name, _ in operations(document)} - free
    scopes = {name: operation["description"].partition("Scope: ")[2] for name, operation in operations(document)}
    assert scopes["POST /v1/events"] == "`write`."
    assert scopes["GET /metrics"] == "`admin`."
    assert scopes["GET /v1/customers/{customer_id}"] == "`read`."


def examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Where, schema, value."""
    for name, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for content in [*bodies, *operation["responses"].values()]:
            for media in content.get("content", {}).values():
                for shown in [
                    *media.get("examples", {}).values(),
                    *([{"value": media["example"]}] if "example" in media else []),
                ]:
                    yield name, media["schema"], shown["value"]
        for parameter in operation.get("parameters", []):
            for value in parameter["schema"].get("examples", []):
                yield f"{name} {parameter['name']}", parameter["schema"], value
    for name, schema in document["components"]["schemas"].items():
        for value in schema.get("examples", []):
            yield name, schema, value


def test_examples_are_valid_and_there_is_one_for_each_body(document: dict[str, Any]) -> None:
    found = list(examples(document))
    for where, schema, value in found:
        whole = {**schema, "components": document["components"]}
        problems = [error.message for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(value)]
        assert problems == [], where
    places = {where for where, _, _ in found}
    assert {"POST /v1/recommendations", "POST /v1/events", "GET /v1/explain/{request_id}", "Problem"} <= places
    answered = set()
    for name, operation in operations(document):
        for status in ("200", "202"):
            for media in operation["responses"].get(status, {}).get("content", {}).values():
                held = media["schema"].get("$ref", "").rpartition("/")[2]
                if "example" in media or document["components"]["schemas"].get(held, {}).get("examples"):
                    answered.add(name)
    assert answered == {name for name, _ in operations(document)} - {"GET /metrics"}


def test_messages_have_the_schema_of_the_types_that_read_them(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["RecommendationRequest"]["required"] == ["customer_id"]
    assert schemas["Event"]["properties"]["type"]["enum"] == list(EVENT_TYPES)
    assert schemas["Recommendations"]["properties"]["items"]["items"] == {"$ref": REFERENCE.format(name="Item")}
