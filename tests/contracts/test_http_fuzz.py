"""Requests made from the OpenAPI document, good ones and bad ones: the gateway answers every one as it says it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import schemathesis
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema

from infra.settings import ApiSettings
from serving.api_keys import ADMIN, entry_of
from serving.runtime import load_runtime
from tests.serving.toy_shop import NOON
from tests.support.http_shop import HttpShop
from tests.support.seen import photo, seen
from tests.support.tiny_fixture import Tiny

KEY = "a-key-of-the-test"
HEADERS = {"Authorization": f"Bearer {KEY}"}
EXAMPLES = 15  # of each route and kind; all of it together takes less than a minute

PATHS = json.loads((Path(__file__).parent / "openapi.json").read_text())["paths"]
ROUTES = [(path, method) for path, methods in PATHS.items() for method in methods]
ASKED = [(path, method) for path, method in ROUTES if {"parameters", "requestBody"} & PATHS[path][method].keys()]

# Any time of RFC 3339, of which the document says that it must lie neither before 1970 nor ahead.
since_1970 = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 (hypothesis adds the zone)
    NOON.replace(tzinfo=None),
    timezones=st.just(UTC),
).map(datetime.isoformat)
schemathesis.openapi.format("date-time", since_1970)
# To a schema a photo is any bytes.
for kind in ("JPEG", "PNG", "WEBP"):
    schemathesis.openapi.media_type(f"image/{kind.lower()}", st.just(photo((220, 20, 20), kind)))


@pytest.fixture(scope="module")
def schema(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The document that a running gateway gives."""
    colours = [(220, 20 * row, 20) for row in range(len(tiny.runtime.items))]
    bundle = seen(tiny.bundle, tmp_path_factory.mktemp("seen"), colours)
    api = ApiSettings(keys=entry_of("fuzzer", [ADMIN], KEY), requests_per_s=1e6, burst=1_000_000)
    with HttpShop.of(load_runtime(bundle)).serving(api) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", headers=HEADERS)


def sensible(body: dict[str, Any]) -> dict[str, Any]:
    """A request for recommendations without what a schema cannot say: 1 ms may be too short (503 is right then), and
    min_price too high."""
    filters = body.get("filters", {})
    if None not in (filters.get("min_price"), filters.get("max_price")):
        filters["min_price"], filters["max_price"] = sorted((filters["min_price"], filters["max_price"]))
    return {**body, "deadline_ms": None}


def check(schema: BaseSchema, path: str, method: str, mode: GenerationMode) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(schema[path][method].as_strategy(generation_mode=mode))
    def answered_as_documented(case: schemathesis.Case) -> None:
        if mode.is_positive and path == "/v1/recommendations":
            case.body = sensible(case.body)
        if mode.is_positive and {"min_price", "max_price"} <= (case.query or {}).keys():
            low, high = sorted((case.query["min_price"], case.query["max_price"]), key=float)
            case.query |= {"min_price": low, "max_price": high}
        case.call_and_validate(headers=HEADERS, timeout=60)  # a busy machine is no finding

    answered_as_documented()


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_what_the_document_allows_is_answered(schema: BaseSchema, path: str, method: str) -> None:
    check(schema, path, method, GenerationMode.POSITIVE)


@pytest.mark.parametrize(("path", "method"), ASKED)
def test_what_the_document_forbids_is_refused(schema: BaseSchema, path: str, method: str) -> None:
    check(schema, path, method, GenerationMode.NEGATIVE)


def test_the_fuzzer_would_find_what_is_wrong(schema: BaseSchema) -> None:
    """A document that says otherwise than the gateway does gives findings."""
    wrong = json.loads(json.dumps(schema.raw_schema))
    parameters = wrong["paths"]["/v1/activity"]["get"]["parameters"]
    parameters[0]["schema"]["maximum"] = 10_000_000
    found = schemathesis.openapi.from_dict(wrong)
    found.config.update(base_url=schema.get_base_url())
    with pytest.raises(schemathesis.core.failures.FailureGroup, match="Schema-valid request rejected"):
        check(found, "/v1/activity", "get", GenerationMode.POSITIVE)
