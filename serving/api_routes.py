"""What the HTTP routes share: their gateway, the kinds of parameters, bodies of JSON, and the errors they document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec
from fastapi import Depends, Request
from fastapi import Path as PathParam
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, GetPydanticSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from serving.api_gateway import Gateway
from serving.api_problems import MEDIA_TYPE, Problem
from streams.events import MAX_ID

# Not said by JSON Schema: a path has no empty parts, and a slash ends one.
PATH_ID = r"^[^/]+$"
PROBLEM = "Problem"
INT64 = 2**63


# Coroutines, for FastAPI calls a plain function in another thread, only to look something up.
async def get_gateway(request: Request) -> Gateway:
    """The gateway that the lifespan opened."""
    return cast(Gateway, request.state.gateway)


async def only_known(request: Request) -> None:
    """Raises:
    Problem: 422, the address has a parameter that the document does not: it would be without effect, unnoticed.
    """
    said = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()].get("parameters", [])
    names = [parameter["name"] for parameter in said if parameter["in"] == "query"]
    unknown = [name for name in request.query_params if name not in names]
    if unknown:
        allowed = f"allowed: {', '.join(names)}" if names else "this route has none"
        raise Problem(422, f"no parameter is named {unknown[0]!r}; {allowed}", given=unknown[:20], allowed=names)


STRICT = (Depends(only_known),)

Needs = Annotated[Gateway, Depends(get_gateway)]
CustomerId = Annotated[str, PathParam(min_length=1, max_length=MAX_ID, pattern=PATH_ID, examples=["1228"])]
ArticleId = Annotated[str, PathParam(min_length=1, max_length=MAX_ID, pattern=PATH_ID, examples=["1082185"])]
RequestId = Annotated[str, PathParam(min_length=1, max_length=MAX_ID, pattern=PATH_ID, examples=["r-1"])]


def one_of(names: Sequence[str]) -> GetPydanticSchema:
    """Marks a parameter that is one of these words."""

    def check(given: str) -> str:
        if given not in names:
            raise ValueError(f"allowed: {', '.join(names)}")
        return given

    def schema(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(check, handler(source))

    def said(_: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "enum": list(names)}

    return GetPydanticSchema(schema, said)


def reference(name: str) -> dict[str, str]:
    """A schema that `serving.api_document` puts among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def documented(description: str) -> dict[str, Any]:
    """An error of a route, for its `responses`."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": reference(PROBLEM)}}}


INVALID = documented("A parameter or field is missing, misspelt or out of range; `detail` says what is allowed.")
AWAY = documented("Store, broker or bundle is away; trying again can help.")
SLOW = documented("The body did not come whole within the setting api.body_timeout_ms.")
ASKED: dict[int | str, dict[str, Any]] = {422: INVALID, 503: AWAY}
# Of routes that read a body.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: documented("The body is not JSON."),
    408: SLOW,
    413: documented("The body is larger than the setting api.max_body_bytes allows."),
    **ASKED,
}


def not_found(what: str) -> dict[int | str, dict[str, Any]]:
    return {404: documented(f"No such {what}.")}


def body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that decodes its body itself, as the topics' parsers do."""
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def message(name: str, description: str, shown: object) -> dict[int | str, dict[str, Any]]:
    """A 200 whose body is a message that msgspec encodes."""
    content = {"application/json": {"schema": reference(name), "example": shown}}
    return {200: {"description": description, "content": content}}


def decode(raw: bytes) -> object:
    """The body as plain values, whole numbers as int: to JSON 2.0 is the same as 2, to the parsers it is not.

    Raises:
        Problem: 400, it is not JSON.
    """
    try:
        return _whole(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}", given=raw[:80].decode(errors="replace")) from error


def _whole(value: object) -> object:
    if isinstance(value, dict):
        return {name: _whole(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_whole(held) for held in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < INT64 else value
