"""The shop page: rendered here, refreshed by fragments of itself, so that there is one way to draw a thing.

The page acts as whoever is chosen on it: it is a window on the shop, for those who run it. Where keys are configured
the browser asks for one, as a password. `page.enabled = false` takes the page away.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from infra.errors import BundleNotFound, Unavailable
from infra.settings import PageSettings
from serving import api_front, api_live
from serving.api_front import Front, Fronts, picture_url
from serving.api_gateway import Gateway
from serving.api_problems import Problem
from serving.api_routes import Needs
from serving.api_search import Narrowed, search_text
from serving.articles import similar
from serving.known import until_known
from serving.messages import MAX_K, STRATEGIES, Filters, Item, RecommendationRequest
from serving.page_view import (
    NO_WORDS,
    STRATEGY_NAMES,
    ago,
    breakable,
    cards,
    favourites,
    monogram,
    named,
    notes,
    one_a_title,
    stages,
)
from serving.search_messages import MAX_QUERY_CHARS
from serving.wording import tidy
from streams.store import load_readable

HERE = Path(__file__).parent
SHOWN = 12
RAIL = 10
HISTORY_ROWS = 200  # of them HISTORY_SHOWN are shown, all count for what is liked best
HISTORY_SHOWN = 14
PEOPLE = 60

router = APIRouter(include_in_schema=False)


def _templates() -> Jinja2Templates:
    templates = Jinja2Templates(directory=HERE / "templates")
    templates.env.filters.update(
        ago=ago, breakable=breakable, tidy=tidy, named=named, monogram=monogram, picture_url=picture_url
    )
    templates.env.globals["strategies"] = {name: STRATEGY_NAMES.get(name, name) for name in STRATEGIES}
    return templates


templates = _templates()

Asked = Annotated[str, Query(max_length=128)]
AskedArticle = Annotated[str, Query(min_length=1, max_length=128)]


class Wish:
    """How the page is to make its list: by which strategy, beside which other one ("" for none), and whether without
    what the customer has bought.

    Raises:
        Problem: one of them is not allowed.
    """

    def __init__(self, front: Fronts, strategy: Asked = "full", against: Asked = "", hide: Asked = "") -> None:
        self.strategy = _strategy(strategy)
        self.against = _strategy(against, optional=True)
        if hide not in ("", "yes", "no"):
            raise Problem(422, f"hide {hide!r}; allowed: yes, no", allowed=["yes", "no"])
        self.hide = hide == "yes" if hide else front.hide_bought


Wished = Annotated[Wish, Depends()]


async def _view(gateway: Gateway, front: Front, customer_id: str, wish: Wish) -> dict[str, object]:
    """What the customer's fragment shows; a part that cannot be had is replaced by the reason."""
    problems: list[str] = []
    drawn = gateway.activity.count  # what happens from now on is news
    view: dict[str, object] = {"customer_id": customer_id, "known": False, "history": [], "events": 0, "totals": None}
    view["note"] = None  # why nothing can be told of the customer, where it is so
    try:
        view |= await gateway.customer(customer_id, HISTORY_ROWS)
    except Unavailable as error:
        problems.append(f"The history cannot be read just now: {error}")
    history: Any = view["history"]
    lists = [await _list(gateway, front, customer_id, wish.strategy, wish.hide)]
    if wish.against:
        lists.append(await _list(gateway, front, customer_id, wish.against, wish.hide))
        both = {card.article.article_id for card in lists[0]["cards"]} & {
            card.article.article_id for card in lists[1]["cards"]
        }
        view["both"] = both
    unread = bool(problems or view["note"])
    problems += [
        f"No recommendations just now: {one['answer'].error.message}"
        for one in lists
        if one["answer"].error is not None
    ]
    return {
        **view,
        "drawn": drawn,
        "lists": lists,
        "answer": lists[0]["answer"],
        "history": [(front.article(gateway, str(row["article_id"])), row) for row in history[:HISTORY_SHOWN]],
        "favourites": favourites(history),
        "segment": _segment(gateway, customer_id),
        "problems": problems,
        "unread": unread,
        "notes": notes([why for one in lists for why in one["answer"].degraded]),
        "now": gateway.clock.now(),
    }


async def _list(gateway: Gateway, front: Front, customer_id: str, strategy: str, hide: bool) -> dict[str, Any]:
    answer = await gateway.recommend(
        RecommendationRequest(
            request_id=str(uuid.uuid4()),
            customer_id=customer_id,
            k=SHOWN,
            strategy=strategy,
            filters=Filters(exclude_bought=hide),
            explain=True,
        )
    )
    return {
        "strategy": strategy,
        "answer": answer,
        "cards": cards(answer.items, lambda article_id: front.article(gateway, article_id), answer.trace),
        "stages": stages(answer),
    }


def _segment(gateway: Gateway, customer_id: str) -> str | None:
    """The age band that the bundle knows the customer by."""
    try:
        catalog = getattr(gateway.holder.current.runtime, "catalog", None)
    except BundleNotFound:
        return None
    return None if catalog is None else catalog.segments.get(customer_id)


def _strategy(name: str, *, optional: bool = False) -> str:
    if name in STRATEGIES or (optional and not name):
        return name
    raise Problem(422, f"strategy {name!r}; allowed: {', '.join(STRATEGIES)}", allowed=list(STRATEGIES))


@router.get("/")
async def page(
    request: Request,
    gateway: Needs,
    front: Fronts,
    wish: Wished,
    customer: Asked = "",
    q: Annotated[str, Query(max_length=MAX_QUERY_CHARS)] = "",
) -> HTMLResponse:
    """The whole page for `customer`, or for one who is known well, with what the words `q` find."""
    chosen, problems = customer.strip(), []
    if not chosen:
        try:
            chosen = await _well_known(gateway)
        except Unavailable as error:
            problems.append(f"Customers cannot be listed just now: {error}")
    context: dict[str, object] = {
        "front": front,
        "chosen": chosen,
        "wish": wish,
        "searches": gateway.searches,
        "page_problems": problems,
    }
    if chosen:
        context["view"] = await _view(gateway, front, chosen, wish)
    if q.strip() and "text" in gateway.searches:
        response = await search_text(gateway, Narrowed(), q, chosen or None)
        answer = msgspec.json.decode(response.body, type=Found)
        context["found"] = _drawn(gateway, front, msgspec.structs.replace(answer, query=q))
    return templates.TemplateResponse(request, "shop.html", context)


async def _well_known(gateway: Gateway) -> str:
    """Of some customers the one with the most events, "" where there is nobody."""
    ids = sorted(await gateway.store.customer_ids(PEOPLE))
    found, _ = await load_readable(gateway.store, ids)
    sizes = {customer_id: len(stored.state) for customer_id, stored in found.items() if stored is not None}
    return max(sizes, key=sizes.__getitem__, default="")


@router.get("/new")
async def newcomer() -> Response:
    """Somebody of whom nothing is known."""
    return RedirectResponse(f"/?customer=guest-{secrets.token_hex(3)}", status_code=303)


@router.get("/fragments/customer")
async def fragment(
    request: Request,
    gateway: Needs,
    front: Fronts,
    wish: Wished,
    customer: AskedArticle,
    knows: Asked = "",
) -> HTMLResponse:
    """The part of the page that changes with a customer or an event; with `knows` not before the customer's state has
    the event of that id, which the header `modiste-knows` confirms or denies.
    """
    customer_id = customer.strip() or customer
    headers = {"cache-control": "no-store"}
    if knows:
        headers["modiste-knows"] = "yes" if await until_known(gateway.store, customer_id, knows) else "no"
    view = await _view(gateway, front, customer_id, wish)
    context = {"front": front, "view": view, "wish": wish}
    return templates.TemplateResponse(request, "customer.html", context, headers=headers)


@router.get("/people")
@router.get("/fragments/people")
async def people(request: Request, gateway: Needs, front: Fronts) -> HTMLResponse:
    """Who can be chosen: some of the known customers with how much they did and what they like."""
    ids = sorted(await gateway.store.customer_ids(PEOPLE))
    everybody: list[Any] = await gateway.customers(ids, 40)
    found = [
        {
            "customer_id": known["customer_id"],
            "events": known["totals"]["events"],
            "segment": _segment(gateway, known["customer_id"]),
            "favourites": favourites(known["history"], 2),
            "last": front.article(gateway, known["history"][0]["article_id"]) if known["history"] else None,
        }
        for known in everybody
    ]
    context = {"people": found}
    template = "everybody.html" if request.url.path == "/people" else "people.html"
    return templates.TemplateResponse(request, template, context, headers={"cache-control": "no-store"})


@router.get("/fragments/similar")
async def like(request: Request, gateway: Needs, front: Fronts, article: AskedArticle) -> HTMLResponse:
    """A rail of articles like one article."""
    return templates.TemplateResponse(
        request, "similar.html", {"front": front, "cards": await _similar(gateway, front, article)}
    )


@router.get("/fragments/article")
async def article(request: Request, gateway: Needs, front: Fronts, article: AskedArticle) -> HTMLResponse:
    """One article, large, with what is like it."""
    context = {
        "front": front,
        "article": front.article(gateway, article),
        "facts": _facts(gateway, article),
        "cards": await _similar(gateway, front, article),
    }
    return templates.TemplateResponse(request, "article.html", context)


async def _similar(gateway: Gateway, front: Front, article_id: str) -> list[Any]:
    loaded = gateway.holder.current
    found = await asyncio.to_thread(similar, loaded, article_id, "blend", RAIL, titles=False)
    return cards(found.items if found else [], lambda item: front.article(gateway, item))


def _facts(gateway: Gateway, article_id: str) -> list[tuple[str, str]]:
    """What else the catalogue says of an article."""
    items = gateway.holder.current.runtime.items
    row = items.index.get(article_id)
    if row is None:
        return []
    told = [(name, items.label(name, row)) for name in ("department", "category", "subcategory", "brand", "colour")]
    return [(name.capitalize(), tidy(value)) for name, value in told if value and value.casefold() not in NO_WORDS]


class Found(msgspec.Struct):
    """The answer of a search, as far as it is drawn; `query` is empty for a photo."""

    items: Annotated[list[Item], msgspec.Meta(max_length=MAX_K)]
    search_id: str = ""
    bundle_id: str = ""
    found: int = 0
    latency_ms: float = 0.0
    degraded: list[str] = []
    query: str = ""


@router.post("/fragments/found")
async def found(request: Request, gateway: Needs, front: Fronts) -> HTMLResponse:
    """Draw the answer of `/v1/search/text` or `/v1/search/image`, which is the body; `query` may be added to it."""
    try:
        answer = msgspec.json.decode(await request.body(), type=Found)
    except msgspec.DecodeError as error:
        raise Problem(422, f"no answer of a search: {error}") from error
    context = {"front": front, "found": _drawn(gateway, front, answer)}
    return templates.TemplateResponse(request, "found.html", context)


def _drawn(gateway: Gateway, front: Front, answer: Found) -> dict[str, Any]:
    shown = one_a_title(cards(answer.items, lambda article_id: front.article(gateway, article_id)))
    return {"answer": answer, "cards": shown, "strategy": "", "stages": [], "notes": notes(answer.degraded)}


@router.get("/favicon.ico")
async def favicon() -> Response:
    return RedirectResponse("/static/mark.svg")


def install_page(app: FastAPI, settings: PageSettings) -> None:
    """Add the page and the files it needs.

    Raises:
        ConfigurationError: page.pictures names no directory.
    """
    app.state.front = Front(settings)
    for routes in (router, api_front.router, api_live.router):
        app.include_router(routes)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
