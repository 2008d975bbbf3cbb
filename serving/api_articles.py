"""HTTP routes of articles: what one is now, and what is like it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response

from serving.api_problems import Problem
from serving.api_routes import ASKED, ArticleId, Needs, message, not_found
from serving.api_schemas import ArticleView
from serving.articles import details, similar
from serving.messages import MAX_K

SIMILAR_EXAMPLE: dict[str, Any] = {
    "article_id": "0108775015",
    "by": "content",
    "bundle_id": "20261105T031200Z-8f3c1a9",
    "items": [{"article_id": "0573085028", "rank": 1, "score": 0.93, "source": "content", "price": 9.99}],
}
SIMILAR = message("Similar", "Articles that can be had, the most similar first.", SIMILAR_EXAMPLE)

router = APIRouter(tags=["articles"], responses=ASKED | not_found("article in the bundle that answers now"))


@router.get("/v1/articles/{article_id}", summary="An article as it is now")
async def article(article_id: ArticleId, gateway: Needs) -> ArticleView:
    """Attributes, live price and stock, and its variants."""
    loaded = gateway.holder.current
    found = details(loaded, article_id)
    if found is None:
        raise _unknown(article_id, loaded.bundle_id)
    return ArticleView.model_validate(found)


@router.get("/v1/articles/{article_id}/similar", summary="Articles like an article", responses=SIMILAR)
async def similar_articles(
    article_id: ArticleId,
    gateway: Needs,
    by: Annotated[
        Literal["content", "two_tower", "covisitation", "blend"],
        Query(
            description="looks and reads alike, is bought by alike customers, is bought together with it, or the first "
            "two at once"
        ),
    ] = "content",
    top_k: Annotated[int, Query(ge=1, le=MAX_K)] = 12,
    variants: Annotated[bool, Query(description="whether the same product in another colour counts")] = True,
) -> Response:
    """Only what can be had now. An empty list where nothing is known by which to tell."""
    loaded = gateway.holder.current
    found = await asyncio.to_thread(similar, loaded, article_id, by, top_k, variants=variants)
    if found is None:
        raise _unknown(article_id, loaded.bundle_id)
    return Response(msgspec.json.encode(found), media_type="application/json")


def _unknown(article_id: str, bundle_id: str) -> Problem:
    return Problem(404, f"no article {article_id!r} in bundle {bundle_id}, nor on the topic `articles`")
