"""The OpenAPI document of the HTTP gateway: FastAPI's, with the topics' messages and what stands before the routes.

Requests and answers that are messages of topics have the schemas of the types that decode and encode them, so there is
one source for HTTP, Kafka and code.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.answers import Explanation, Similar
from serving.api_guard import scope_needed
from serving.api_keys import SCOPES
from serving.api_routes import PROBLEM, documented
from serving.api_schemas import ProblemView
from serving.items import ATTRIBUTES, FIELDS
from serving.messages import SCHEMA_VERSION, STRATEGIES, RecommendationRequest, Recommendations
from serving.search_messages import SearchResults
from streams.events import EVENT_TYPES, MAX_PRICE, Event

MESSAGES = (RecommendationRequest, Recommendations, SearchResults, Explanation, Similar, Event)
MAX_DEADLINE_MS = 2**53  # beyond, JSON's numbers are not exact
SINCE_1970 = r"^(19[7-9]|[2-9][0-9]{2})[0-9]-"
REFERENCE = "#/components/schemas/{name}"

DESCRIPTION = """\
Purchases in, recommendations out. Everything here is also on the Kafka topics `transactions`,
`recommendation-requests` and `recommendations`; the messages are the same. Errors are
`application/problem+json` (RFC 9457) and say what was given and what is allowed.
"""
TAGS = (
    ("recommendations", "What to show a customer now, and why it was that."),
    ("search", "What is asked for by words or by a photo."),
    ("events", "What happened in the shop."),
    ("articles", "What the shop has, and what is like it."),
    ("customers", "What is known of a customer."),
    ("health", "The gateway itself."),
)
KEY_TEXT = "A key as `modiste serving keys new` prints it; its scopes: " + "; ".join(
    f"`{name}` for {what}" for name, what in SCOPES.items()
)
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": KEY_TEXT},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": KEY_TEXT},
}


def document(app: FastAPI, *, keys: bool, limits: bool) -> dict[str, Any]:
    """The document of an application that asks for keys and limits requests, or does not."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS],
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= _messages()
    problem = ProblemView.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= {**problem.pop("$defs"), PROBLEM: problem}
    if keys:
        made["components"]["securitySchemes"] = SCHEMES
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _guarded(operation, scope_needed(method.upper(), path), keys=keys, limits=limits)
    return made


def _guarded(operation: dict[str, Any], needed: str | None, *, keys: bool, limits: bool) -> None:
    """What the middleware in front of a route answers, said of the route."""
    if needed is None:
        return
    responses = operation["responses"]
    if keys:
        operation["security"] = [{scheme: []} for scheme in SCHEMES]
        operation["description"] = f"{operation.get('description', '')}\n\nScope: `{needed}`.".strip()
        responses["401"] = documented("A key is needed, or the one given is none of ours.") | _header(
            "WWW-Authenticate", "how to send a key", "string"
        )
        responses["403"] = documented(f"The key lacks the scope `{needed}`, or a page of another origin asks.")
    if limits:
        responses["429"] = documented("Too many requests of this key or address.") | _header(
            "Retry-After", "seconds until the next one is allowed", "integer"
        )
    operation["responses"] = dict(sorted(responses.items()))


def _header(name: str, text: str, kind: str) -> dict[str, Any]:
    return {"headers": {name: {"description": text, "required": True, "schema": {"type": kind}}}}


def _messages() -> dict[str, dict[str, Any]]:
    """Schemas of the messages, with what the parsers ask for beyond the types."""
    _, schemas = msgspec.json.schema_components(MESSAGES, ref_template=REFERENCE)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    request, event = schemas["RecommendationRequest"], schemas["Event"]
    request["required"].remove("request_id")
    request["properties"]["strategy"]["enum"] = list(STRATEGIES)
    del request["properties"]["requested_at"]
    request["properties"]["deadline_ms"]["anyOf"][0]["maximum"] = MAX_DEADLINE_MS
    _only(schemas["Filters"]["properties"]["attributes"], ATTRIBUTES)
    _only(schemas["Rules"]["properties"]["blocked"], FIELDS)
    schemas["Boost"]["properties"]["field"]["enum"] = list(FIELDS)
    event["required"] = [name for name in event["required"] if name not in ("event_id", "occurred_at")]
    event["properties"]["event_id"]["description"] = "made up where it is missing"
    event["properties"]["occurred_at"]["description"] = "from 1970 on, at most a day ahead; now where it is missing"
    event["properties"]["occurred_at"]["pattern"] = SINCE_1970
    event["properties"]["type"]["enum"] = list(EVENT_TYPES)
    event["properties"]["price"]["anyOf"][0]["maximum"] = MAX_PRICE
    for schema in schemas.values():
        if "schema_version" in schema.get("properties", {}):
            schema["properties"]["schema_version"] |= {"const": SCHEMA_VERSION, "default": SCHEMA_VERSION}
    return schemas


def _only(schema: dict[str, Any], names: Sequence[str]) -> None:
    """Let a mapping hold nothing but these names."""
    schema["properties"] = dict.fromkeys(names, schema["additionalProperties"])
    schema["additionalProperties"] = False
