"""The shop page: rendered here, refreshed by fragments of itself, so that there is one way to draw a
customer.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from infra.errors import Unavailable
from serving.api_gateway import Gateway
from serving.api_routes import Needs
from serving.messages import RecommendationRequest, Recommendations

HERE = Path(__file__).parent
SHOWN = 12
HISTORY_ROWS = 20
PICKER_SIZE = 60

SPANS = ((365 * 86_400, "year"), (30 * 86_400, "month"), (86_400, "day"), (3_600, "hour"), (60, "minute"))

router = APIRouter(include_in_schema=False)


def ago(moment: datetime, now: datetime) -> str:
    """How long before `now`, in the largest whole unit: "3 days ago"."""
    seconds = (now - moment).total_seconds()
    for size, unit in SPANS:
        count = int(seconds // size)
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def named_source(source: str) -> list[str]:
    """Badges of an item: "repurchase+two_tower" -> ["repurchase", "two-tower"]."""
    return [name.replace("_", "-") for name in source.split("+") if name]


def tidy(text: str) -> str:
    """Titles of some catalogues are in capitals throughout; those are set like the others."""
    return text.capitalize() if text.isupper() and len(text) > 3 else text


def _templates() -> Jinja2Templates:
    templates = Jinja2Templates(directory=HERE / "templates")
    templates.env.filters.update(ago=ago, badges=named_source, tidy=tidy)
    return templates


templates = _templates()


async def _view(gateway: Gateway, customer_id: str) -> dict[str, object]:
    """What the fragment shows; a part that cannot be had is replaced by the reason."""
    problems: list[str] = []
    view: dict[str, object] = {"customer_id": customer_id, "known": False, "history": [], "events": 0}
    try:
        view |= await gateway.customer(customer_id, HISTORY_ROWS)
    except Unavailable as error:
        problems.append(f"The history cannot be read just now: {error}")
    answer = await gateway.recommend(
        RecommendationRequest(request_id=str(uuid.uuid4()), customer_id=customer_id, k=SHOWN)
    )
    if answer.error is not None:
        problems.append(f"No recommendations just now: {answer.error.message}")
    return {
        **view,
        "answer": answer,
        "items": _rows(gateway, answer),
        "problems": problems,
        "now": gateway.clock.now(),
    }


def _rows(gateway: Gateway, answer: Recommendations) -> list[dict[str, object]]:
    top = max((item.score for item in answer.items), default=0.0)
    return [
        {
            **gateway.describe(item.article_id),
            "rank": item.rank,
            "score": item.score,
            "share": max(0.0, item.score / top) if top > 0 else 0.0,
            "source": item.source,
        }
        for item in answer.items
    ]


Asked = Annotated[str, Query(max_length=128)]


@router.get("/")
async def page(request: Request, gateway: Needs, customer: Asked = "") -> HTMLResponse:
    """The whole page for `customer`, or for the first one known."""
    problems: list[str] = []
    try:
        sample = sorted(await gateway.store.customer_ids(PICKER_SIZE))
    except Unavailable as error:
        sample = []
        problems.append(f"Customers cannot be listed just now: {error}")
    chosen = customer.strip() or (sample[0] if sample else "")
    context: dict[str, object] = {"sample": sample, "chosen": chosen, "page_problems": problems}
    if chosen:
        context["view"] = await _view(gateway, chosen)
    return templates.TemplateResponse(request, "shop.html", context)


@router.get("/fragments/customer")
async def fragment(
    request: Request, gateway: Needs, customer: Annotated[str, Query(min_length=1, max_length=128)]
) -> HTMLResponse:
    """The part of the page that changes with a customer or a purchase."""
    return templates.TemplateResponse(
        request,
        "customer.html",
        {"view": await _view(gateway, customer.strip() or customer)},
        headers={"cache-control": "no-store"},
    )


@router.get("/favicon.ico")
async def favicon() -> Response:
    return RedirectResponse("/static/mark.svg")


def install_page(app: FastAPI) -> None:
    """Add the page and the files it needs."""
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
