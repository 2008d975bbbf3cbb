"""HTTP routes of the search: by words, and by a photo that a customer uploads."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import UploadFile

from infra.errors import BundleNotFound, Unavailable
from serving.api_gateway import Gateway
from serving.api_problems import Problem
from serving.api_routes import ASKED, SLOW, Needs, documented, message
from serving.image_decode import ImageRefused
from serving.items import ATTRIBUTES
from serving.messages import MAX_K, Filters, Item, RecommendationRequest
from serving.reload import Loaded
from serving.search import NOBODY
from serving.search_messages import MAX_QUERY_CHARS, ImageSearch, SearchResults, TextSearch
from serving.searchable import SearchUnavailable
from streams.store import StoredCustomer, load_readable

log = logging.getLogger(__name__)

MAX_IMAGE_BYTES = 10 * 2**20  # a phone's photo has two to eight
FIELD = "image"
KINDS = ("image/jpeg", "image/png", "image/webp")
# Around the file stands a form.
LARGER = {"/v1/search/image": MAX_IMAGE_BYTES + 16_384}
STORE_TIMEOUT_S = 0.5
STATUS_OF_REFUSAL = {"type": 415, "size": 413, "broken": 422}
MAX_WAITING = 16

RESULT_EXAMPLE: dict[str, Any] = {
    "search_id": "6a0c8a8e-1f1a-4b7e-8a39-0f6f4b0f8a11",
    "kind": "text",
    "bundle_id": "20261105T031200Z-8f3c1a9",
    "items": [
        {"article_id": "0706016001", "rank": 1, "score": 0.731402, "source": "text", "price": 29.99},
        {"article_id": "0554450026", "rank": 2, "score": 0.698113, "source": "text", "price": 34.99},
    ],
    "found": 312,
    "customer_id": "1228",
    "latency_ms": 18.4,
}


class _Pictures:
    """Looks at one photo at a time: a large one takes 200 MB while it is unpacked (no more:
    `serving.image_decode`), and two at once are not sooner done. Few may wait, each with its bytes in memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._waiting = 0

    async def look(self, work: Callable[[], SearchResults]) -> SearchResults:
        if self._waiting >= MAX_WAITING:
            raise Problem(503, f"{MAX_WAITING} photos are waiting already; try again in a moment", retryable=True)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1


router = APIRouter(tags=["search"])
_pictures = _Pictures()
# Apart from the threads that recommend: the first searches of a bundle wait until its files are open.
_words = ThreadPoolExecutor(2, thread_name_prefix="words")


ANSWER = message("SearchResults", "Articles, best first; `found` says how many fit.", RESULT_EXAMPLE)
UNAVAILABLE = documented("The bundle in use carries nothing for this search; `detail` says how to build one that does.")
SEARCH_PROBLEMS: dict[int | str, dict[str, Any]] = {**ASKED, 501: UNAVAILABLE}
IMAGE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: documented("The form is broken."),
    408: SLOW,
    413: documented(f"The file has more than {MAX_IMAGE_BYTES} bytes, or the picture too many pixels."),
    415: documented("The file is no JPEG, PNG or WebP."),
    **SEARCH_PROBLEMS,
    422: documented("The picture is damaged or cut short, or a parameter is out of range."),
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "required": [FIELD], "properties": {FIELD: {"type": "string", "format": "binary"}}}
IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "description": "A JPEG, PNG or WebP: as the body itself, or as the file `image` of a form.",
        "content": {
            **dict.fromkeys(KINDS, _BINARY),
            "multipart/form-data": {"schema": _FORM, "encoding": {FIELD: {"contentType": ", ".join(KINDS)}}},
        },
    }
}

Values = Annotated[list[str] | None, Query(max_length=100, description="one of these values")]
Price = Annotated[float | None, Query(ge=0, description="articles of unknown price are left out")]
Limit = Annotated[int, Query(ge=1, le=MAX_K, description="how many articles")]
Share = Annotated[float, Query(ge=0, le=1, description="0 for likeness alone, 1 for the customer's taste alone")]
Customer = Annotated[
    str | None, Query(min_length=1, max_length=128, description="whose taste counts", examples=["1228"])
]


class Narrowed:
    """The filters of a search as they stand in its address: the same as those of a recommendation."""

    def __init__(
        self,
        department: Values = None,
        category: Values = None,
        subcategory: Values = None,
        brand: Values = None,
        colour: Values = None,
        min_price: Price = None,
        max_price: Price = None,
        exclude_bought: bool = False,
        exclude: Annotated[list[str] | None, Query(max_length=1_000, description="article_ids not to show")] = None,
    ) -> None:
        given = zip(ATTRIBUTES, (department, category, subcategory, brand, colour), strict=True)
        self.filters = Filters(
            exclude_bought=exclude_bought,
            attributes={name: values for name, values in given if values},
            min_price=min_price,
            max_price=max_price,
        )
        self.exclude = exclude or []


Narrow = Annotated[Narrowed, Depends()]


@router.get("/v1/search/text", summary="Find articles by words", responses=ANSWER | SEARCH_PROBLEMS)
async def search_text(
    gateway: Needs,
    narrow: Narrow,
    q: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_CHARS, pattern=r"\S", examples=["black summer dress"])],
    customer_id: Customer = None,
    k: Limit = 24,
    taste_weight: Share = 0.2,
    meaning_weight: Annotated[
        float, Query(ge=0, le=1, description="0 for the words themselves, 1 for their meaning alone")
    ] = 0.25,
) -> Response:
    """Articles that say the words or mean the same, those first that this customer would like. Only what can be had, at
    the prices of now."""
    started = time.perf_counter()
    search = TextSearch(
        search_id=str(uuid.uuid4()),
        customer_id=customer_id,
        k=k,
        taste_weight=taste_weight,
        filters=narrow.filters,
        exclude=narrow.exclude,
        query=q,
        meaning_weight=meaning_weight,
    )
    loaded = _loaded(gateway)
    customer, degraded = await _customer(gateway, customer_id)
    try:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(_words, loaded.searcher.by_text, search, customer, degraded)
    except SearchUnavailable as error:
        raise _unavailable(error) from error
    return _answer(found, started)


@router.post(
    "/v1/search/image",
    summary="Find articles that look like a photo",
    responses=ANSWER | IMAGE_PROBLEMS,
    openapi_extra=IMAGE_BODY,
)
async def search_image(
    request: Request,
    gateway: Needs,
    narrow: Narrow,
    customer_id: Customer = None,
    scope: Annotated[
        Literal["catalogue", "feed"],
        Query(description="everything, or what the customer would be recommended"),
    ] = "catalogue",
    k: Limit = 24,
    threshold: Annotated[float | None, Query(ge=-1, le=1, description="least cosine; the bundle's if missing")] = None,
    taste_weight: Share = 0.2,
) -> Response:
    """The photo and the articles' own photos are seen by the same network. In the scope `feed` what the customer would
    be recommended is left, sorted again, as far as it looks like the photo."""
    started = time.perf_counter()
    content = await _uploaded(request)
    search = ImageSearch(
        search_id=str(uuid.uuid4()),
        customer_id=customer_id,
        k=k,
        taste_weight=taste_weight,
        filters=narrow.filters,
        exclude=narrow.exclude,
        scope=scope,
        threshold=threshold,
    )
    loaded = _loaded(gateway)
    feed: Sequence[Item] | None = None
    customer: StoredCustomer | None = None
    degraded: Sequence[str] = ()
    if scope == "feed":
        feed, degraded = await _feed(gateway, search)
    else:
        customer, degraded = await _customer(gateway, customer_id)
    try:
        found = await _pictures.look(lambda: loaded.searcher.by_image(search, content, customer, feed, degraded))
    except SearchUnavailable as error:
        raise _unavailable(error) from error
    except ImageRefused as error:
        raise Problem(STATUS_OF_REFUSAL[error.why], str(error), code=f"image_{error.why}") from error
    return _answer(found, started)


async def _uploaded(request: Request) -> bytes:
    """The file: the body itself, or the first file of a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        if kind and not kind.startswith("image/") and kind != "application/octet-stream":
            raise Problem(415, f"content type {kind!r}; send image/jpeg, image/png, image/webp or a form", given=kind)
        return await request.body()
    async with request.form(max_files=1, max_fields=8) as form:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise Problem(422, f"the form has no file named {FIELD!r}; it has {', '.join(form) or 'nothing'}")
        return await file.read()


def _loaded(gateway: Gateway) -> Loaded:
    try:
        return gateway.holder.current
    except BundleNotFound as error:
        raise Problem(503, str(error), code="not_ready", retryable=True) from error


async def _customer(gateway: Gateway, customer_id: str | None) -> tuple[StoredCustomer | None, list[str]]:
    """What the store knows, and what the search has to do without."""
    if customer_id is None:
        return None, []
    try:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            states, unreadable = await load_readable(gateway.store, [customer_id])
    except (Unavailable, TimeoutError, OSError) as error:
        log.warning("store unavailable, searching without it: %s", error or type(error).__name__)
        return None, ["store_unavailable"]
    return states.get(customer_id), ["state_unreadable"] if unreadable else []


async def _feed(gateway: Gateway, search: ImageSearch) -> tuple[list[Item], list[str]]:
    """What the customer would be recommended now. Nobody is shown it as it stands, so it is no impression."""
    asked = RecommendationRequest(
        request_id=search.search_id,
        customer_id=search.customer_id or NOBODY,
        k=MAX_K,
        filters=search.filters,
        exclude=search.exclude,
        rerank="none",  # the order is only one part of what is shown, and no sentence of it is
    )
    answer = await gateway.responder.answer_one(asked)
    if answer.error is not None:
        status = 503 if answer.error.retryable else 500
        if answer.error.code == "invalid_request":
            status = 422
        raise Problem(status, answer.error.message, code=answer.error.code, retryable=answer.error.retryable)
    return answer.items, answer.degraded


def _unavailable(error: SearchUnavailable) -> Problem:
    return Problem(501, str(error), code="search_unavailable", retryable=False)


def _answer(found: SearchResults, started: float) -> Response:
    timed = msgspec.structs.replace(found, latency_ms=round((time.perf_counter() - started) * 1e3, 3))
    return Response(msgspec.json.encode(timed), media_type="application/json")
