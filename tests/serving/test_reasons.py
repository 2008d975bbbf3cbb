"""What a shopper is told is true of that shopper and of the catalogue, word by word.

It is Saturday, 11 April 2026 (day 100 of the toy shop).
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.live_catalog import LiveCatalog
from serving.messages import STRATEGIES
from serving.prepared import Prepared
from serving.reasons import FIRST, MANY, Reasons
from serving.rhythm import NEVER
from serving.runtime import Catalog
from serving.wording import ago, every, name_of
from streams.catalog import Article
from streams.events import Event, to_micros
from streams.store import StoredCustomer
from tests.support.toy_catalog import IDS, TODAY, N, ask, catalog, event, items, moment, pipeline, query, state

NOW = moment(TODAY)


def why(
    article: str,
    source: str,
    *past: Event,
    segment: str | None = None,
    given_: Catalog | None = None,
    stale: float = 0.0,
) -> str | None:
    shop = given_ or catalog()
    asked = query(state(*past) if past else None, segment=segment, given=shop)
    prepared = Prepared(ask(), asked, segment, None)
    (reason,) = Reasons(shop, to_micros(moment(TODAY - stale))).of(prepared, [shop.items.index[article]], [source])
    return reason


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ((99,), "You bought this yesterday"),
        ((98.5, 98.9), "You bought this 2 days ago"),  # one trip of two lines
        ((90,), "You bought this last week"),
        ((86,), "You bought this 2 weeks ago"),
        ((70,), "You bought this last month"),
        ((40, 95), "You bought this again 5 days ago"),
        ((71, 80, 89, 98), "You buy this about every 9 days"),
        ((71.1, 79.9, 89.5, 98.2), "You buy this about every 9 days"),
        ((95, 96, 97, 98, 99), "You buy this nearly every day"),
        # Bought in a burst and then no more, or never with a rhythm: not called a habit.
        ((10, 19, 28, 37), "You bought this again in February"),
        ((20, 96, 97, 98), "You bought this again 2 days ago"),
    ],
)
def test_what_was_bought_before(days: tuple[float, ...], expected: str) -> None:
    assert why("milk", "popular+repurchase", *(event(day, "milk") for day in days)) == expected


def test_what_was_looked_at_or_put_into_the_cart() -> None:
    view, cart = event(99, "hat", type="view"), event(95, "hat", type="cart")
    assert why("hat", "repurchase", view) == "You looked at this yesterday"
    assert why("hat", "repurchase", view, cart) == "You put this in your cart 5 days ago"
    assert why("hat", "repurchase", view, cart, event(90, "hat")) == "You bought this last week"


def test_another_version_of_what_was_bought() -> None:
    # The shirt is white, the socks are black, the hat is red, all of one product; bread and rolls have no colour.
    assert why("shirt", "variants", event(90, "socks")) == "Another colour of Socks, which you bought last week"
    assert why("rolls", "variants", event(99, "bread")) == "Another version of Bread, which you bought yesterday"
    newest = event(90, "socks"), event(99, "hat", type="view")
    assert why("shirt", "variants", *newest) == "Another colour of Hat, which you looked at yesterday"
    # Milk has no product code, which is nothing to have in common.
    assert why("cheese", "variants", event(99, "milk")) is None


def test_what_goes_with_it_is_the_strongest_companion() -> None:
    # Cheese goes with bread at 0.25 and with milk at 0.5.
    past = event(99, "bread"), event(99, "milk")
    assert why("cheese", "covisitation", *past) == "Goes with Milk, which you bought yesterday"
    assert why("cheese", "covisitation", event(99, "bread")) == "Goes with Bread, which you bought yesterday"
    # A cart interests half as much: 0.5 x 0.5 against 0.25, and of equal ones the first in the catalogue.
    cart = event(99, "milk", type="cart")
    assert why("cheese", "covisitation", event(99, "bread"), cart) == "Goes with Bread, which you bought yesterday"
    in_cart = "Goes with Milk, which you put in your cart yesterday"
    assert why("cheese", "covisitation", cart) == in_cart
    assert why("cheese", "covisitation", event(99, "rolls")) is None


def test_the_collaborative_score_is_owed_to_the_act_that_adds_most() -> None:
    # One factor for food: the score of milk is a sum over bread (1) and cheese (0.25), so bread adds most of it.
    past = event(99, "cheese"), event(90, "bread")
    assert why("milk", "collab", *past) == "Because you bought Bread last week"
    # Socks are of the other factor and add nothing to food: what is left to say is what the score was made from.
    assert why("milk", "collab", event(99, "socks")) == "Chosen from what you bought lately"


def test_likeness_of_content_names_the_nearest() -> None:
    # Cosines of the apple: cheese 0.96, milk 0.936; the shirt and the socks 0.8; nothing is like a hat without content.
    past = event(99, "milk"), event(90, "cheese")
    assert why("apple", "content", *past) == "Like Cheese, which you bought last week"
    assert why("apple", "two_tower", *past) == "Like Cheese, which you bought last week"
    assert why("hat", "content", event(99, "cheese")) == "Chosen from what you bought lately"
    assert why("hat", "two_tower", event(20, "cheese", type="view")) == "Chosen from what you looked at before"
    assert why("bread", "content", event(99, "cheese")) == "Chosen from what you bought lately"  # cosine 0


def test_what_is_new_says_so() -> None:
    """An article of the topic that no bundle knows; its vector is given here as cheese's."""
    live = LiveCatalog(pipeline().runtime)
    runtime, _ = live.apply({"brie": Article(article_id="brie", title="Brie")})
    content = runtime.catalog.content.copy()
    content[N] = content[IDS.index("cheese")]
    shop = replace(runtime.catalog, content=content)
    assert (
        why("brie", "content", event(99, "cheese"), given_=shop) == "New, and like Cheese, which you bought yesterday"
    )
    assert why("brie", "content", event(99, "socks"), given_=shop) == "New in the shop"
    assert why("brie", "content", given_=shop) == "New in the shop"


def test_first_sold_lately_is_new_only_in_a_log_that_goes_further_back() -> None:
    shop = catalog()
    first = shop.statistics.first_sold.copy()
    first[IDS.index("apple")] = 10
    known = replace(shop, statistics=replace(shop.statistics, first_sold=first))
    assert why("apple", "content", given_=known) == "New in the shop"
    assert why("apple", "content", given_=known, stale=5) is None  # 15 days by now
    begun = replace(shop, statistics=replace(shop.statistics, first_sold=np.full(N, 10, np.float32)))
    assert why("apple", "content", given_=begun) is None
    never = replace(shop, statistics=replace(shop.statistics, first_sold=np.full(N, NEVER, np.float32)))
    assert why("apple", "content", given_=never) is None


def busy() -> Catalog:
    """Ten times as many buy: bread is sold 80 times a week, to 160 customers in 91 days, of whom 80 are young."""
    shop = catalog()
    s = shop.statistics
    tenfold = {name: getattr(s, name) * 10 for name in ("sold_7d", "buyers_91d", "segment_buyers")}
    return replace(shop, statistics=replace(s, **tenfold))


def aged(band: str) -> Catalog:
    shop = busy()
    return replace(shop, statistics=replace(shop.statistics, segments=["all", band]))


@pytest.mark.parametrize(
    ("stale", "when"), [(0, " this week"), (1, " this week"), (1.1, " lately"), (35, " lately"), (36, "")]
)
def test_popular_says_of_when_it_knows(stale: float, when: str) -> None:
    """A week that ended days ago is not this week."""
    assert why("bread", "popular", given_=busy(), stale=stale) == f"Popular{when}"
    # The young buy in the opposite order: bread less than others do, cheese (fourth of eight) more, as fifth.
    young = aged("16-24")
    assert why("bread", "popular", segment="16-24", given_=young, stale=stale) == f"Popular{when}"
    shares = young.statistics.segment_share[:, IDS.index("cheese")]
    assert shares[1] < shares[0]
    likely = young.statistics.segment_share.copy()
    likely[1, IDS.index("cheese")] = 0.5
    young = replace(young, statistics=replace(young.statistics, segment_share=likely))
    told = why("cheese", "popular", segment="16-24", given_=young, stale=stale)
    assert told == f"Popular with customers your age{when}"


def test_a_few_sales_are_no_popular_week() -> None:
    """Bread is in the baskets of sixteen customers of 91 days, and was sold eight times this week."""
    assert catalog().statistics.sold_7d[0] < MANY <= catalog().statistics.buyers_91d[0]
    assert why("bread", "popular") == "Popular lately"


def test_far_down_the_list_of_what_sells_nothing_is_popular() -> None:
    shop = busy()
    listed = np.array([[*[IDS.index("milk")] * FIRST, IDS.index("bread")]] * 2)
    shop = replace(shop, statistics=replace(shop.statistics, top=listed))
    assert why("milk", "popular", given_=shop) == "Popular this week"
    assert why("bread", "popular", given_=shop) is None


def test_the_taste_of_an_age_is_not_told_by_a_few() -> None:
    """One of them alone would be known by it."""
    young = aged("16-24")
    share, buyers = young.statistics.segment_share.copy(), young.statistics.segment_buyers.copy()
    cheese = IDS.index("cheese")
    share[1, cheese], buyers[1, cheese] = 0.5, MANY - 1
    young = replace(young, statistics=replace(young.statistics, segment_share=share, segment_buyers=buyers))
    assert why("cheese", "popular", segment="16-24", given_=young) == "Popular this week"


def test_a_segment_that_is_no_age_is_not_called_one() -> None:
    shop = busy()
    share = shop.statistics.segment_share.copy()
    share[1] = 0.5
    named = replace(shop, statistics=replace(shop.statistics, segment_share=share))
    assert why("bread", "popular", segment="young", given_=named) == "Popular this week"


def test_what_few_have_bought_is_not_told_of_others() -> None:
    """It would speak of them: eight customers bought an apple, six socks."""
    buyers = dict(zip(IDS, catalog().statistics.buyers_91d.tolist(), strict=True))
    assert buyers["cheese"] >= MANY > buyers["apple"]
    for article in IDS:
        assert (why(article, "popular") is None) == (buyers[article] < MANY)
    assert (
        why("shirt", "covisitation", event(99, "socks", type="view"))
        != "Goes with Socks, which you looked at yesterday"
    )
    shop = replace(catalog(), items=replace(items(), products=np.full(N, -1)))
    assert why("shirt", "covisitation", event(99, "socks"), given_=shop) is None


def test_a_pin_is_told() -> None:
    assert why("milk", "pin+repurchase", event(99, "milk")) == "Picked by the shop"


def test_names_are_one_line_of_text() -> None:
    shop = items()
    titles = list(shop.titles)
    titles[:3] = ["", "<b>Rolls</b>\n\x1b[31m  again", "x" * 200]
    named = replace(shop, titles=titles)
    assert name_of(named, 0) == "Loaves"
    assert name_of(named, 1) == "<b>Rolls</b> [31m again"  # who shows it escapes it, as all that a catalogue says
    assert name_of(named, 2) == "x" * 79 + "…"
    nameless = replace(named, labels={name: [] for name in shop.labels}, codes={n: np.full(N, -1) for n in shop.codes})
    assert name_of(nameless, 0) is None
    assert why("milk", "collab", event(99, "bread"), given_=replace(catalog(), items=nameless)) == (
        "Chosen from what you bought lately"
    )


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ((2026, 4, 11), "today"),
        ((2026, 4, 10), "yesterday"),
        ((2026, 4, 9), "2 days ago"),
        ((2026, 4, 5), "6 days ago"),
        ((2026, 4, 4), "last week"),
        ((2026, 3, 30), "last week"),  # a Monday
        ((2026, 3, 29), "13 days ago"),
        ((2026, 3, 28), "2 weeks ago"),
        ((2026, 3, 24), "3 weeks ago"),
        ((2026, 3, 23), "3 weeks ago"),
        ((2026, 3, 15), "4 weeks ago"),
        ((2026, 3, 14), "last month"),
        ((2026, 2, 28), "in February"),
        ((2025, 5, 1), "in May"),
        ((2025, 4, 30), "in April 2025"),
    ],
)
def test_days_as_people_say_them(then: tuple[int, int, int], words: str) -> None:
    assert (
        ago(datetime(*then, 23 if then != (2026, 4, 11) else 0, tzinfo=UTC), datetime(2026, 4, 11, 1, tzinfo=UTC))
        == words
    )


def test_the_same_month_is_not_last_month() -> None:
    assert ago(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC)) == "4 weeks ago"


@pytest.mark.parametrize(
    ("days", "words"),
    [(1.2, "nearly every day"), (1.5, "about every 2 days"), (9.4, "about every 9 days"), (92, "about every 3 months")],
)
def test_how_often(days: float, words: str) -> None:
    assert every(days) == words


TITLES = dict(zip(IDS, items().titles, strict=True))
DID = {"bought": "purchase", "put in your cart": "cart", "looked at": "view"}
acts = st.lists(
    st.tuples(st.integers(0, TODAY - 1), st.sampled_from(IDS), st.sampled_from(["purchase", "cart", "view"])),
    max_size=8,
    unique=True,
)


@settings(max_examples=200)
@given(past=acts, strategy=st.sampled_from(STRATEGIES), segment=st.sampled_from([None, "young"]))
def test_every_sentence_is_about_the_customer_s_own_past(
    past: list[tuple[int, str, str]], strategy: str, segment: str | None
) -> None:
    events = [event(day, article, type=kind) for day, article, kind in past]
    context = {} if segment is None else {"segment": segment}
    stored = StoredCustomer(state(*events), 1) if events else None
    (answer,) = pipeline().recommend([ask(k=N, strategy=strategy, context=context)], [stored])
    for item in answer.items:
        said = item.reason
        if said is None:
            continue
        mine = {(article, kind): max(d for d, a, t in past if (a, t) == (article, kind)) for _, article, kind in past}
        if found := re.fullmatch(r"You (bought|looked at|put) this(?: in your cart)?( again)? (.*)", said):
            kind = {"bought": "purchase", "looked at": "view", "put": "cart"}[found[1]]
            assert found[3] == ago(moment(mine[item.article_id, kind]), NOW)
            days = {day for day, article, t in past if (article, t) == (item.article_id, kind)}
            assert bool(found[2]) == (len(days) > 1 and kind == "purchase")
        elif found := re.fullmatch(r"You buy this (nearly every day|about every (\d+) days)", said):
            assert len({day for day, article, t in past if (article, t) == (item.article_id, "purchase")}) >= 3
        elif found := re.fullmatch(
            r"(?:Another colour of|Another version of|Goes with|Like) (\w+), "
            r"which you (bought|put in your cart|looked at) (.*)",
            said,
        ) or re.fullmatch(r"Because you ()(bought|looked at|put) (\w+)(?: in your cart)? (.*)", said):
            words = found.groups()
            name, did, when = words if len(words) == 3 else (words[2], words[1], words[3])
            kind = {**DID, "put": "cart"}[did]
            (article,) = [a for a, title in TITLES.items() if title == name]
            assert article != item.article_id
            assert when == ago(moment(mine[article, kind]), NOW)
        else:
            assert re.fullmatch(
                r"Popular( with customers your age)?|Chosen from what you (bought|looked at) (lately|before)", said
            )
            assert not said.startswith("Chosen") or past


def test_a_trace_tells_of_each_item_its_sources_score_and_gates() -> None:
    stored = StoredCustomer(state(event(60, "socks"), event(80, "socks"), event(90, "hat")), 1)
    (answer,) = pipeline().recommend([ask(k=2, explain=True)], [stored])
    told = [step for step in answer.trace if step["stage"] == "item"]
    assert [(step["rank"], step["article_id"], step["reason"]) for step in told] == [
        (1, "socks", "You bought this again 3 weeks ago"),
        (2, "hat", "You bought this last week"),
    ]
    assert told[0]["rank.repurchase"] == 0 and told[0]["rank.popular"] == 5
    assert told[0]["gate.0"] == pytest.approx(1 - 2 / 5**0.5, abs=1e-4)  # of the toy ranker: its cosine
    assert told[0]["gate.1"] == pytest.approx(told[0]["score"], abs=1e-4)
    (popular,) = pipeline().recommend([ask(k=1, explain=True, strategy="popular")], [stored])
    assert not any(key.startswith("gate") for step in popular.trace for key in step)
