"""No answer breaks a rule of the shop or of its request, on whatever path it came about.

The rules stand here a second time, in plain words over the table of articles, apart from the code that keeps them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.clock import ManualClock
from infra.errors import ConfigurationError, InvalidMessage
from infra.rule_settings import RulesSettings
from infra.settings import Settings
from serving.feed import Feed
from serving.filters import check_filters
from serving.items import ATTRIBUTES, COLUMNS, FIELDS
from serving.live_catalog import LiveCatalog
from serving.messages import STRATEGIES, Boost, Filters, Item, RecommendationRequest, Rules
from serving.pipeline import Pipeline
from serving.reload import Loaded
from serving.responder import Responder
from serving.rules import NO_RULES, AgeLimit, ShopRules, age_of, shop_rules
from streams.catalog import Article
from streams.state import Bounds, empty_state, fold
from streams.store import StoredCustomer
from streams.subscriptions import CustomerUpdate, Subscription
from tests.serving.toy_shop import CountingStore, ToyLink
from tests.support.toy_catalog import (
    ARTICLES,
    IDS,
    TODAY,
    BrokenRanker,
    N,
    ask,
    catalog,
    event,
    items,
    moment,
    pipeline,
)

# Two articles that no bundle knows: one of a brand that it knows, one that says next to nothing of itself.
NEWS = (
    Article(article_id="pear", title="Pear", department="Food", category="Fruit", brand="Farm", price=3.0),
    Article(article_id="thing"),
)
BY_ID: dict[str, dict[str, Any]] = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in ARTICLES}
BY_ID |= {a.article_id: {name: getattr(a, name, None) for name in COLUMNS} for a in NEWS}
VALUES = {name: sorted({str(about[name]) for about in BY_ID.values() if about[name]}) for name in FIELDS}

prices = st.none() | st.sampled_from([1.0, 2.0, 5.0, 15.0])
fields = st.sampled_from(FIELDS).flatmap(lambda f: st.tuples(st.just(f), values(f)))


def values(field: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([*VALUES[field], "Nowhere"]), min_size=1, max_size=3, unique=True)


@st.composite
def filters(draw: st.DrawFn) -> Filters:
    low, high = draw(prices), draw(prices)
    if low is not None and high is not None and low > high:
        low, high = high, low
    names = draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=1))
    only = {name: draw(values(name)) for name in names}
    return Filters(exclude_bought=draw(st.booleans()), attributes=only, min_price=low, max_price=high)


rules = st.builds(
    Rules,
    max_per_brand=st.none() | st.integers(1, 3),
    max_per_product=st.none() | st.integers(1, 2),
    blocked=st.lists(fields, max_size=2).map(dict),
    boosts=st.lists(fields, max_size=2).flatmap(
        lambda named: st.tuples(
            *(st.builds(Boost, field=st.just(f), values=st.just(v), factor=st.floats(0.1, 10)) for f, v in named)
        ).map(list)
    ),
    pins=st.lists(st.sampled_from([*BY_ID, "wine"]), max_size=3),
)
shops = st.builds(
    ShopRules,
    filters=filters(),
    rules=rules,
    ages=st.lists(st.builds(lambda f, y: AgeLimit(f[0], tuple(f[1]), y), fields, st.integers(1, 99)), max_size=2).map(
        tuple
    ),
)


@dataclass(frozen=True)
class Known:
    """What the rules look at: what the customer bought, how old they are, what is sold out."""

    bought: frozenset[str]
    age: int | None
    sold_out: frozenset[str]
    there: frozenset[str]


def may_be_shown(article: str, shop: ShopRules, request: RecommendationRequest, known: Known) -> bool:
    about = BY_ID[article]
    if article not in known.there or article in known.sold_out or article in request.exclude:
        return False
    for wanted in (shop.filters, request.filters):
        if wanted.exclude_bought and article in known.bought:
            return False
        if any(about[name] not in allowed for name, allowed in wanted.attributes.items()):
            return False
        low, high, price = wanted.min_price, wanted.max_price, about["price"]
        if (low is not None and not (price is not None and price >= low)) or (
            high is not None and not (price is not None and price <= high)
        ):
            return False
    if any(about[f] in named for part in (shop.rules, request.rules) for f, named in part.blocked.items()):
        return False
    return all(about[limit.field] not in limit.values or (known.age or 0) >= limit.years for limit in shop.ages)


def fits(article: str, others: list[str], shop: ShopRules, request: RecommendationRequest) -> bool:
    """Whether the caps leave room for one more beside the others."""
    for part in (shop.rules, request.rules):
        for most, group in ((part.max_per_brand, "brand"), (part.max_per_product, "product_code")):
            mine = BY_ID[article][group]
            if most is not None and mine is not None and Counter(BY_ID[o][group] for o in others)[mine] >= most:
                return False
    return True


def check(given: list[Item], shop: ShopRules, request: RecommendationRequest, known: Known) -> None:
    shown = [item.article_id for item in given]
    assert len(set(shown)) == len(shown) <= request.k
    assert [item.rank for item in given] == list(range(1, len(shown) + 1))
    for place, article in enumerate(shown):
        assert may_be_shown(article, shop, request, known), article
        assert fits(article, shown[:place], shop, request), article
    pinned: list[str] = []
    for pin in dict.fromkeys([*shop.rules.pins, *request.rules.pins]):
        if pin in BY_ID and may_be_shown(pin, shop, request, known) and fits(pin, pinned, shop, request):
            pinned.append(pin)
    assert shown[: len(pinned)] == pinned[: request.k]
    assert [item.source.split("+")[0] == "pin" for item in given] == [n < len(pinned) for n in range(len(given))]
    if len(shown) < request.k:
        # Short only where the rules leave nothing more.
        left = [a for a in BY_ID if a not in shown and may_be_shown(a, shop, request, known)]
        assert [a for a in left if fits(a, shown, shop, request)] == []


requests = st.builds(
    ask,
    filters=filters(),
    rules=rules,
    exclude=st.lists(st.sampled_from([*IDS, "wine"]), max_size=2),
    k=st.integers(1, N + 3),
    strategy=st.sampled_from(STRATEGIES),
    diversity=st.sampled_from([0.0, 0.3, 1.0]),
    context=st.sampled_from([{}, {"age": "30"}, {"segment": "25-34"}, {"age": "old"}]),
    explain=st.booleans(),
)
AGES = {"30": 30, "old": None}
bought = st.lists(st.sampled_from([*IDS, "pear"]), max_size=6)


def age_in(request: RecommendationRequest) -> int | None:
    return 25 if "segment" in request.context else AGES.get(request.context.get("age", ""))


def customer(articles: list[str]) -> StoredCustomer | None:
    """Of whose purchases the newest two alone are in the window."""
    if not articles:
        return None
    events = [event(10 + n, a) for n, a in enumerate(articles)]
    return StoredCustomer(fold(empty_state("anna"), events, Bounds(window=2))[0], 1)


@pytest.mark.parametrize("ranker", [None, BrokenRanker()], ids=["ranked", "ranker failed"])
@pytest.mark.parametrize("depth", [1, 100], ids=["one candidate a source", "all candidates"])
@settings(max_examples=150)
@given(shop=shops, request_=requests, past=bought, top=st.integers(1, N))
def test_no_rule_is_broken_in_process(
    depth: int, ranker: Any, shop: ShopRules, request_: RecommendationRequest, past: list[str], top: int
) -> None:
    """Full, every strategy, cold customers, the fill with what is popular, the order that a failed ranker leaves."""
    logging.disable(logging.CRITICAL)
    try:
        made = pipeline(ranker, top=top, depth=depth, shop=shop)
        (answer,) = made.recommend([request_], [customer(past)])
    finally:
        logging.disable(logging.NOTSET)
    assert answer.error is None
    known = Known(frozenset(past), age_in(request_), frozenset(), frozenset(IDS))
    check(answer.items, shop, request_, known)


caps = st.builds(
    Rules,
    max_per_brand=st.none() | st.integers(1, 2),
    max_per_product=st.none() | st.integers(1, 2),
    pins=st.lists(st.sampled_from(IDS), max_size=3),
)


@settings(max_examples=200)
@given(by_shop=caps, by_request=caps, past=bought, k=st.integers(1, N), top=st.integers(1, N), depth=st.integers(1, 3))
def test_caps_hold_across_candidates_and_both_fills(
    by_shop: Rules, by_request: Rules, past: list[str], k: int, top: int, depth: int
) -> None:
    """Nothing else narrows the list, so it goes through what was found, the popular and the rest of the catalogue."""
    shop, request_ = ShopRules(rules=by_shop), ask(k=k, rules=by_request)
    (answer,) = pipeline(top=top, depth=depth, shop=shop).recommend([request_], [customer(past)])
    check(answer.items, shop, request_, Known(frozenset(past), None, frozenset(), frozenset(IDS)))


@settings(max_examples=150)
@given(shop=shops, request_=requests, past=bought, sold_out=st.sets(st.sampled_from(list(BY_ID)), max_size=4))
def test_nor_with_stock_and_new_articles_of_the_moment(
    shop: ShopRules, request_: RecommendationRequest, past: list[str], sold_out: set[str]
) -> None:
    runtime = pipeline(depth=2).runtime
    told = {a: Article(article_id=a, available=False) for a in sold_out if a in IDS}
    told |= {a.article_id: a for a in NEWS if a.article_id not in sold_out}
    extended, shelf = LiveCatalog(runtime).apply(told)
    made = Pipeline(extended, ManualClock(moment(TODAY)), shelf=shelf, shop=shop)
    (answer,) = made.recommend([request_], [customer(past)])
    there = frozenset({*IDS, *told})
    check(answer.items, shop, request_, Known(frozenset(past), age_in(request_), frozenset(sold_out), there))


class Holder:
    def __init__(self, made: Pipeline) -> None:
        self.current = Loaded(made.runtime.bundle_id, made.runtime, made)


async def responder_of(made: Pipeline, past: list[str]) -> tuple[Responder, CountingStore, ToyLink]:
    store, link = CountingStore(), ToyLink()
    if (known := customer(past)) is not None:
        await store.save([StoredCustomer(known.state)])
    return Responder(Holder(made), store, link, ManualClock(moment(TODAY))), store, link


@settings(max_examples=40)
@given(shop=shops, request_=requests, past=bought)
def test_nor_by_the_responder_while_the_store_is_away(
    shop: ShopRules, request_: RecommendationRequest, past: list[str]
) -> None:
    """But for what was bought, which nobody can tell then: the answer says so."""

    async def answered() -> Any:
        responder, store, _ = await responder_of(pipeline(shop=shop), past)
        store.away = True
        (answer,) = await responder.answer([request_])
        return answer

    logging.disable(logging.CRITICAL)
    try:
        answer = asyncio.run(answered())
    finally:
        logging.disable(logging.NOTSET)
    check(answer.items, shop, request_, Known(frozenset(), age_in(request_), frozenset(), frozenset(IDS)))
    excluded = shop.filters.exclude_bought or request_.filters.exclude_bought
    assert answer.degraded == ["store_unavailable", *["bought_unknown"] * excluded]


@settings(max_examples=40)
@given(shop=shops, past=bought, k=st.integers(1, N + 3), strategy=st.sampled_from(STRATEGIES))
def test_nor_in_the_standing_feed(shop: ShopRules, past: list[str], k: int, strategy: str) -> None:
    """It asks for nothing beside k and strategy, so the shop's rules alone hold, and of an age it knows nothing."""
    subscription = Subscription(customer_id="anna", k=k, strategy=strategy)

    class One:
        def of(self, customer_id: str, now: object) -> Subscription:
            return subscription

    async def fed() -> list[Any]:
        responder, _, link = await responder_of(pipeline(shop=shop), past)
        feed = Feed(Settings(), responder, One(), ManualClock(moment(TODAY)))  # type: ignore[arg-type]
        await feed.answer([CustomerUpdate(customer_id="anna", event="transactions-0-1")])
        return link.on("recommendations")

    (told,) = asyncio.run(fed())
    assert told["trigger"] == "feed"
    shown = [Item(**item) for item in told.get("items", [])]
    known = Known(frozenset(past), None, frozenset(), frozenset(IDS))
    check(shown, shop, ask(k=k, strategy=strategy), known)


@settings(max_examples=100)
@given(shop=shops, request_=requests, past=bought)
def test_a_request_can_only_tighten(shop: ShopRules, request_: RecommendationRequest, past: list[str]) -> None:
    """What a request shows under the shop's rules, it may show without them; and the shop's rules allow it alone."""
    made = pipeline(shop=shop)
    (answer,) = made.recommend([request_], [customer(past)])
    shown = {item.article_id for item in answer.items}
    known = Known(frozenset(past), age_in(request_), frozenset(), frozenset(IDS))
    bare = RecommendationRequest(request_id="r", customer_id="anna", context=request_.context)
    assert all(may_be_shown(a, shop, bare, known) for a in shown)
    assert all(may_be_shown(a, NO_RULES, request_, known) for a in shown)


def shown(shop: ShopRules = NO_RULES, past: tuple[str, ...] = (), **fields: Any) -> list[str]:
    (answer,) = pipeline(shop=shop).recommend([ask(**fields)], [customer(list(past))])
    return [item.article_id for item in answer.items]


def test_caps_make_room_for_the_next() -> None:
    # Popular, in this order: bread and rolls of Own (and of one dough), milk, cheese and apple of Farm, socks, shirt of
    # Knit (with the hat, which has no brand, of one wool).
    assert shown(k=4, rules=Rules(max_per_brand=1)) == ["bread", "milk", "socks", "hat"]
    assert shown(k=4, rules=Rules(max_per_product=1)) == ["bread", "milk", "cheese", "apple"]
    both = Rules(max_per_brand=1, max_per_product=1)
    assert shown(k=8, rules=both) == ["bread", "milk", "socks"]
    # Of two caps the smaller.
    assert shown(ShopRules(rules=Rules(max_per_brand=1)), k=8, rules=Rules(max_per_brand=3)) == shown(
        ShopRules(rules=Rules(max_per_brand=3)), k=8, rules=Rules(max_per_brand=1)
    )


def test_pins_stand_first_where_no_rule_forbids_them() -> None:
    pins = Rules(pins=["hat", "wine", "apple"])
    assert shown(k=3, rules=pins) == ["hat", "apple", "bread"]
    assert shown(k=3, rules=pins, exclude=["hat"]) == ["apple", "bread", "rolls"]
    assert shown(ShopRules(rules=Rules(pins=["milk"])), k=3, rules=pins) == ["milk", "hat", "apple"]


def test_boosts_move_and_show_nothing_new() -> None:
    up = Rules(boosts=[Boost(field="category", values=["Tops"], factor=50)])
    assert shown(k=3, rules=up) == ["shirt", "hat", "bread"]
    assert shown(k=3, rules=up, filters=Filters(attributes={"department": ["Food"]})) == ["bread", "rolls", "milk"]
    (answer,) = pipeline().recommend([ask(k=8, rules=up)], [None])
    (plain,) = pipeline().recommend([ask(k=8)], [None])
    assert {i.article_id: i.score for i in answer.items} == {i.article_id: i.score for i in plain.items}


WINE_SHOP = ShopRules(ages=(AgeLimit("category", ("Dairy",), 18), AgeLimit("brand", ("Farm",), 21)))


@pytest.mark.parametrize(
    ("context", "hidden"),
    [
        ({}, {"milk", "cheese", "apple"}),
        ({"age": "17"}, {"milk", "cheese", "apple"}),
        ({"age": "20"}, {"milk", "cheese", "apple"}),  # of two limits on an article the higher
        ({"age": "21"}, set()),
        ({"age": "-30"}, {"milk", "cheese", "apple"}),
        ({"age": "thirty"}, {"milk", "cheese", "apple"}),
        ({"segment": "19-24"}, {"milk", "cheese", "apple"}),  # surely 19, not surely 21
        ({"segment": "65+"}, set()),
        ({"segment": "young"}, {"milk", "cheese", "apple"}),
        ({"segment": "65+", "age": "20"}, {"milk", "cheese", "apple"}),
        ({"segment": "16-24", "age": "40"}, {"milk", "cheese", "apple"}),  # saying so makes nobody older
        ({"segment": "16-24", "age": "old"}, {"milk", "cheese", "apple"}),
    ],
)
def test_who_is_not_known_to_be_old_enough_is_not_shown_it(context: dict[str, str], hidden: set[str]) -> None:
    assert set(IDS) - set(shown(WINE_SHOP, k=N, context=context)) == hidden


def test_an_age_is_whole_years() -> None:
    assert age_of(ask(context={"age": "34"}), "65+") == 34
    assert age_of(ask(), "65+") == 65
    assert age_of(ask(context={"age": "40"}), "16-24") == 16
    assert [age_of(ask(context={"age": said}), None) for said in ("", "3.5", "1e3", "1000")] == [None] * 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Rules(blocked={"size": ["M"]}), "blocked by size; articles have department, .*, product_code, article_id"),
        (Rules(boosts=[Boost(field="fit", values=["slim"], factor=2)]), "boost by fit; articles have department"),
    ],
)
def test_rules_that_cannot_work_are_refused(wrong: Rules, message: str) -> None:
    with pytest.raises(InvalidMessage, match=message):
        check_filters(ask(rules=wrong))


def test_the_settings_become_rules() -> None:
    given = RulesSettings.model_validate(
        {
            "exclude_bought": True,
            "max_price": 20.0,
            "max_per_product": 1,
            "only": {"department": ["Food"]},
            "blocked": {"article_id": ["rolls"]},
            "minimum_age": [{"field": "category", "values": ["Dairy"], "years": 18}],
            "pins": ["apple"],
        }
    )
    made = shop_rules(given)
    assert made.filters == Filters(exclude_bought=True, attributes={"department": ["Food"]}, max_price=20.0)
    assert made.rules == Rules(max_per_product=1, blocked={"article_id": ["rolls"]}, pins=["apple"])
    assert made.ages == (AgeLimit("category", ("Dairy",), 18),)
    # The apple's price is unknown, bread and rolls are of one product, dairy waits for an age.
    assert shown(made, k=N) == ["bread"]
    assert shown(made, k=N, context={"age": "40"}, past=("bread",)) == ["milk", "cheese"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"only": {"size": ["M"]}}, "rules.only names 'size'; it can name department, category"),
        ({"only": {"article_id": ["x"]}}, "rules.only names 'article_id'"),
        ({"blocked": {"size": ["M"]}}, "rules.blocked names 'size'"),
        ({"minimum_age": [{"field": "age", "values": ["1"], "years": 18}]}, "rules.minimum_age names 'age'"),
        ({"boosts": [{"field": "fit", "values": ["slim"], "factor": 2}]}, "rules.boosts names 'fit'"),
    ],
)
def test_settings_that_name_no_field_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        shop_rules(RulesSettings.model_validate(given))


def test_what_rules_name_and_no_article_has_is_found() -> None:
    shop = ShopRules(
        Filters(attributes={"department": ["Food", "Fodo"]}),
        Rules(blocked={"product_code": ["dough", "wood"]}, pins=["hat", "wine"]),
        (AgeLimit("category", ("Diary",), 18),),
    )
    assert shop.unknown(items()) == [
        "department 'Fodo'",
        "product_code 'wood'",
        "category 'Diary'",
        "article_id 'wine'",
    ]
    assert NO_RULES.unknown(catalog().items) == []


def test_a_trace_names_the_rule_that_dropped_an_article() -> None:
    shop = ShopRules(rules=Rules(blocked={"brand": ["Knit"]}, max_per_brand=1), ages=WINE_SHOP.ages)
    request = ask(k=N, explain=True, exclude=["socks", "bread"], filters=Filters(max_price=14.0))
    (answer,) = pipeline(shop=shop).recommend([request], [None])
    assert [item.article_id for item in answer.items] == ["rolls"]
    steps = {str(step["stage"]): step for step in answer.trace}
    assert {key: n for key, n in steps["filters"].items() if key != "stage"} == {
        "kept": 1,
        "dropped": 7,
        "dropped.shop.blocked.brand": 2,
        "dropped.minimum_age": 3,
        "dropped.exclude": 1,  # the socks are gone by then
        "dropped.max_price": 1,
    }
    drops = {(step["article_id"], step["rule"]) for step in answer.trace if step["stage"] == "drop"}
    assert ("socks", "shop.blocked.brand") in drops and ("bread", "exclude") in drops and ("hat", "max_price") in drops
    assert len(drops) == 7
    (capped,) = pipeline(shop=ShopRules(rules=Rules(max_per_brand=1))).recommend([ask(k=4, explain=True)], [None])
    (step,) = [step for step in capped.trace if step["stage"] == "reranking"]
    assert step["dropped.max_per_brand"] == 4  # rolls, cheese, apple, shirt
