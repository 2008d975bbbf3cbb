"""What the routes of the shop page share: how prices and pictures are shown, and how many pages follow the shop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response

from infra.settings import PageSettings
from infra.telemetry import gauge
from serving.api_gateway import Gateway
from serving.api_problems import Problem
from serving.page_view import Article, article_of
from serving.pictures import WIDTHS, PictureDirectory

MAX_LINES = 200
KEEP_S = 86_400

LINES = gauge("live_pages", "Pages that follow the shop as it happens")

router = APIRouter(include_in_schema=False)


class Front:
    """One for each application, from its settings.

    Raises:
        ConfigurationError: page.pictures names no directory.
    """

    def __init__(self, settings: PageSettings) -> None:
        self.currency = settings.currency
        self.hide_bought = settings.hide_bought
        self._prices = settings.prices
        self.pictures = None if settings.pictures is None else PictureDirectory(settings.pictures)
        self._lines = 0
        self._closing = asyncio.Event()

    def article(self, gateway: Gateway, article_id: str) -> Article:
        """An article as a card shows it."""
        return article_of(gateway.describe(article_id), self._pictured)

    def _pictured(self, article_id: str) -> bool:
        return self.pictures is not None and self.pictures.find(article_id) is not None

    def price(self, value: float | None) -> str:
        """`$1.99`; "" where it is unknown, or prices are not shown."""
        return "" if value is None or not self._prices else f"{self.currency}{value:,.2f}"

    async def line(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The messages of one page that follows the shop, counted as long as it does, until `close`."""
        self._lines += 1
        LINES.set(self._lines)
        closing = asyncio.ensure_future(self._closing.wait())
        coming: asyncio.Future[bytes] | None = None
        try:
            while not closing.done():
                coming = asyncio.ensure_future(anext(messages))
                await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    yield coming.result()
        except StopAsyncIteration:
            return
        finally:
            for waiting in (closing, coming):
                if waiting is not None:
                    waiting.cancel()
            self._lines -= 1
            LINES.set(self._lines)

    def close(self) -> None:
        """End all lines: an answer without an end would hold up the server that wants to stop."""
        self._closing.set()

    def check_room(self) -> None:
        """Raises:
        Problem: MAX_LINES pages follow the shop already.
        """
        if self._lines >= MAX_LINES:
            raise Problem(503, f"{MAX_LINES} pages follow the shop already; try again later", allowed=MAX_LINES)


def picture_url(article: Article, width: int = WIDTHS[0]) -> str | None:
    """Where the article's picture is; None where it has none."""
    return f"/pictures/{quote(article.article_id, safe='')}?width={width}" if article.picture else None


async def get_front(request: Request) -> Front:
    """The one that `install_page` made."""
    return cast(Front, request.app.state.front)


Fronts = Annotated[Front, Depends(get_front)]


@router.get("/pictures/{article_id}")
async def picture(
    request: Request, front: Fronts, article_id: str, width: Annotated[int, Query()] = WIDTHS[0]
) -> Response:
    """The article's picture, no wider than asked for; a browser keeps it for a day, and nobody on the way: it may have
    needed a key."""
    if width not in WIDTHS:
        raise Problem(422, f"width {width}; allowed: {', '.join(map(str, WIDTHS))}", allowed=list(WIDTHS))
    found = None if front.pictures is None else await asyncio.to_thread(front.pictures.get, article_id, width)
    if found is None:
        raise Problem(404, "the shop has no picture of this article", article_id=article_id[:128])
    headers = {"etag": found.etag, "cache-control": f"private, max-age={KEEP_S}"}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    # Opened by itself, an SVG is a document that could carry a script: this one may do nothing.
    headers["content-security-policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return Response(found.content, media_type=found.media_type, headers=headers)
