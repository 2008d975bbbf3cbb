"""HTTP routes of recommendations: asked in two ways, and explained afterwards."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response

from serving.api_gateway import Gateway
from serving.api_problems import Problem
from serving.api_routes import (
    ASKED,
    PROBLEMS,
    CustomerId,
    Needs,
    RequestId,
    body,
    decode,
    message,
    not_found,
    one_of,
    reference,
)
from serving.messages import (
    MAX_K,
    STRATEGIES,
    RecommendationRequest,
    Recommendations,
    encode_recommendations,
    parse_request,
)

STATUS_OF_ERROR = {
    "invalid_request": HTTPStatus.UNPROCESSABLE_ENTITY,
    "deadline_exceeded": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
}

REQUEST_EXAMPLES = {
    "short": {"summary": "Twelve articles for a customer", "value": {"customer_id": "1228"}},
    "filtered": {
        "summary": "Five articles not bought before, at most 10 each, with the trace",
        "value": {
            "request_id": "r-1",
            "customer_id": "1228",
            "k": 5,
            "strategy": "full",
            "filters": {"exclude_bought": True, "max_price": 10.0},
            "explain": True,
        },
    },
}
ANSWER_EXAMPLE: dict[str, Any] = {
    "request_id": "r-1",
    "customer_id": "1228",
    "items": [
        {"article_id": "1082185", "rank": 1, "score": 0.41, "source": "repurchase+popular", "price": 1.99},
        {"article_id": "995242", "rank": 2, "score": 0.17, "source": "covisitation", "price": 2.49},
    ],
    "bundle_id": "20261105T031200Z-8f3c1a9",
    "as_of": "2017-12-24T10:01:00Z",
    "latency_ms": 5.2,
    "schema_version": 1,
}
EXPLAINED_EXAMPLE = {
    "request_id": "r-1",
    "answered_at": "2017-12-24T10:02:00Z",
    "answer": {
        **ANSWER_EXAMPLE,
        "trace": [
            {"stage": "retrieval", "candidates": 412},
            {"stage": "filters", "kept": 377, "dropped": 35},
            {"stage": "ranking", "scored": 377, "ms": 1.9},
        ],
    },
}
ANSWER = message("Recommendations", "A `Recommendations` message, as on the topic of that name.", ANSWER_EXAMPLE)
TOLD = message("Explanation", "The answer with its trace, and when it was given.", EXPLAINED_EXAMPLE)

Strategy = Annotated[
    str, one_of(STRATEGIES), Query(description="which source answers; `full` ranks what all of them find")
]

router = APIRouter(tags=["recommendations"])


@router.post(
    "/v1/recommendations",
    summary="Recommend articles for a customer",
    responses=PROBLEMS | ANSWER,
    openapi_extra=body(reference("RecommendationRequest"), REQUEST_EXAMPLES),
)
async def recommend(request: Request, gateway: Needs) -> Response:
    """The request as on the topic; without `request_id` one is made up. How long a request waited is known here, so
    `requested_at` does not count."""
    given = decode(await request.body())
    if not isinstance(given, dict):
        raise Problem(422, f"expected one request object, given {type(given).__name__}")
    given.setdefault("request_id", str(uuid.uuid4()))
    given.pop("requested_at", None)
    return await _answer(gateway, parse_request(msgspec.json.encode(given)))


@router.get(
    "/v1/recommend/user/{customer_id}", summary="Recommend articles for a customer, by a link", responses=ASKED | ANSWER
)
async def recommend_user(
    customer_id: CustomerId,
    gateway: Needs,
    top_k: Annotated[int, Query(ge=1, le=MAX_K, description="how many articles")] = 12,
    strategy: Strategy = "full",
    rerank: Annotated[
        Literal["auto", "llm", "none"],
        Query(description="whether a language model orders the best of them; auto: as the settings say"),
    ] = "auto",
    explain: Annotated[bool, Query(description="with the trace of the stages")] = False,
) -> Response:
    """As the POST, for what needs no filters."""
    request = RecommendationRequest(
        request_id=str(uuid.uuid4()),
        customer_id=customer_id,
        k=top_k,
        strategy=strategy,
        rerank=None if rerank == "auto" else rerank,
        explain=explain,
    )
    return await _answer(gateway, request)


async def _answer(gateway: Gateway, request: RecommendationRequest) -> Response:
    answer: Recommendations = await gateway.recommend(request)
    if answer.error is not None:
        raise Problem(
            STATUS_OF_ERROR.get(answer.error.code, HTTPStatus.INTERNAL_SERVER_ERROR),
            answer.error.message,
            code=answer.error.code,
            retryable=answer.error.retryable,
            request_id=answer.request_id,
        )
    return Response(encode_recommendations(answer), media_type="application/json")


@router.get(
    "/v1/explain/{request_id}",
    summary="Why an answer was what it was",
    responses=ASKED | TOLD | not_found("answer, or not any more: they are kept for the setting api.explain_s"),
)
async def explain(request_id: RequestId, gateway: Needs) -> Response:
    """The answer with sources, scores and the trace of the stages. Kept for a bounded time: every answer of this
    process, and of all processes those whose request said `explain`."""
    found = await gateway.explanations.find(request_id)
    if found is None:
        kept_s = gateway.explanations.kept_s
        raise Problem(
            404,
            f"no answer {request_id!r} is kept here: it was never given, or more than {kept_s:g} s ago, or by another "
            "process to a request without `explain`",
            kept_s=kept_s,
        )
    return Response(found, media_type="application/json")
