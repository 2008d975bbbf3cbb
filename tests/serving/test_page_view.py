"""What the page shows of answers: names, reasons in words, tiles that stay the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from serving.listing import CATALOGUE
from serving.messages import STRATEGIES, Item, Recommendations
from serving.page_view import (
    NOTES,
    SOURCES,
    STRATEGY_NAMES,
    TONES,
    ago,
    article_of,
    breakable,
    cards,
    favourites,
    kind_of,
    monogram,
    named,
    notes,
    one_a_title,
    stages,
)
from serving.reasons import PIN

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def described(article_id: str = "7", **given: str | float | None) -> dict[str, str | float | None]:
    return {"article_id": article_id, "title": None, "category": None, "department": None, "price": None, **given}


def article(article_id: str):  # type: ignore[no-untyped-def]
    return article_of(described(article_id, title="Coat"), lambda _: False)


@pytest.mark.parametrize(
    ("before", "said"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (7_300, "2 hours ago"), (400 * 86_400, "1 year ago")],
)
def test_how_long_ago(before: int, said: str) -> None:
    assert ago(NOW - timedelta(seconds=before), NOW) == said


def test_an_article_without_a_title_is_named_by_its_id() -> None:
    shown = article_of(described(), lambda _: True)
    assert (shown.title, shown.initial, shown.picture, shown.where) == ("Article 7", "A", True, "")


def test_capitals_are_calmed_and_a_word_is_not_said_twice() -> None:
    shown = article_of(described(title="“SOFT DRINKS”", category="DELI", department="Deli"), lambda _: False)
    assert (shown.title, shown.initial, shown.where) == ("“soft drinks”", "S", "Deli")


def test_a_tile_keeps_its_colour_by_category() -> None:
    one, other = (article_of(described(str(n), title=f"Coat {n}", category="Coats"), lambda _: False) for n in range(2))
    assert one.tone == other.tone and 0 <= one.tone < TONES


def test_a_card_says_why_where_the_answer_does_and_nothing_else() -> None:
    """A source is no reason: the list of what sells has things in it that are not popular any more."""
    items = [
        Item(article_id="a", rank=1, score=0.5, source="repurchase+popular"),
        Item(article_id="b", rank=2, score=0.1, source="stargazing"),
        Item(article_id="c", rank=3, score=-1.0, source="two_tower", reason="Like Coat, which you bought"),
        Item(article_id="d", rank=4, score=0.1, source="text"),
        Item(article_id="e", rank=5, score=0.1, source="image"),
    ]
    first, second, third, *searched = cards(items, article)
    assert (first.short, first.share) == ("Chosen for you", 1.0)
    assert first.explained == [
        ("Your articles", "Found among what you bought or looked at.", None),
        ("Bestsellers", "Found in the list of what sells.", None),
    ]
    assert (second.short, second.share, second.explained) == ("Chosen for you", 0.2, [("stargazing", "", None)])
    assert (third.short, third.share) == ("Like Coat, which you bought", 0.0)
    assert [card.short for card in searched] == ["Why it fits"] * 2


def test_a_trace_tells_more_of_each_card() -> None:
    trace = [
        {"stage": "retrieval", "candidates": 9},
        {"stage": "drop", "article_id": "x", "rule": "out_of_stock"},
        {"stage": "drop", "article_id": "y", "rule": "out_of_stock"},
        {"stage": "item", "article_id": "a", "rank": 1, "rank.popular": 4, "gate.0": 0.25, "gate.1": 0.75},
    ]
    items = [Item(article_id=name, rank=1, score=1.0, source="popular", reason="Many buy it.") for name in "ab"]
    told, untold = cards(items, article, trace)
    assert (told.places, told.gates, told.explained[0][2]) == ({"popular": 5}, (0.25, 0.75), 5)
    assert (untold.places, untold.gates, untold.short) == ({}, (), "Many buy it.")
    answer = Recommendations(request_id="r", customer_id="c", trace=trace)
    assert stages(answer) == [("retrieval", "9 candidates")]


def test_a_note_is_a_sentence_and_said_once() -> None:
    assert notes(["llm_late", "bought_unknown", "llm_late"]) == [
        "The language model took too long. The order is the ranker's own.",
        "What you bought is not known in full just now, so something that you have may be among these.",
    ]
    assert all(sentence.endswith(".") for sentence in NOTES.values())


def test_every_strategy_has_a_name_and_every_source_a_sentence() -> None:
    assert set(STRATEGY_NAMES) == set(STRATEGIES)
    assert set(STRATEGIES) - {"full"} | {PIN, CATALOGUE} <= set(SOURCES)
    assert all(sentence.endswith(".") for _, sentence in SOURCES.values())


def test_what_is_liked_is_what_was_acted_on_most() -> None:
    rows = [described(category=name) for name in ("SHOES", "Coats", None, "SHOES", "Hats", "Hats", "Bags")]
    assert favourites(rows) == ["Shoes", "Hats", "Coats"]


def test_the_nearest_word_that_the_title_does_not_say() -> None:
    hoodie = described(title="Hosse hoodie", category="Garment Upper body", subcategory="Hoodie")
    milk = described(title="Milk, 1 ga", category="FLUID MILK", subcategory="MILK")
    bread = described(title="Bread", category="BREAD")
    assert [kind_of(row) for row in (hoodie, milk, bread, described())] == ["Hoodie", "Fluid milk", "", ""]


def test_what_a_catalogue_writes_for_nothing_is_not_a_word() -> None:
    assert kind_of(described(title="Strap top", category="Unknown", subcategory="Undefined")) == ""
    assert kind_of(described(title="Strap top", category="Vest", subcategory="Unknown")) == "Vest"


def test_a_customer_in_a_circle_has_a_letter_and_no_number() -> None:
    assert [monogram(name) for name in ("anna", "guest-01", "1228", "é", "", "a" * 64)] == ["A", "G", "", "É", "", ""]


def test_of_what_looks_the_same_there_is_one() -> None:
    """Two coats without a picture look alike; with one each may be of another colour."""
    items = [Item(article_id=name, rank=n, score=1.0, source="text") for n, name in enumerate("abc", start=1)]
    assert [card.rank for card in one_a_title(cards(items, article))] == [1]
    titles = {"a": "Coat", "b": "Coat", "c": "Hat"}
    two = one_a_title(cards(items, lambda name: article_of(described(name, title=titles[name]), lambda _: False)))
    assert [(card.article.article_id, card.rank) for card in two] == [("a", 1), ("c", 2)]
    pictured = cards(items, lambda name: article_of(described(name, title="Coat"), lambda _: True))
    assert one_a_title(pictured) == pictured


def test_a_title_breaks_after_a_slash() -> None:
    assert breakable("Wheat/Multigrain Br") == "Wheat/\u200bMultigrain Br"


def test_a_long_id_is_known_by_its_ends() -> None:
    assert (named("1228"), named("0123456789abcdef0123")) == ("1228", "012345…0123")


def test_the_trace_in_words() -> None:
    answer = Recommendations(
        request_id="r",
        customer_id="c",
        trace=[
            {"stage": "filters", "kept": 8, "dropped": 3, "dropped.bought": 2, "dropped.out_of_stock": 1},
            {"stage": "ranking", "scored": 1_200, "ms": 2.3456, "by": "mmoe"},
        ],
    )
    assert stages(answer) == [
        ("filters", "8 kept, 2 dropped as bought, 1 dropped as out of stock"),
        ("ranking", "1,200 scored, 2.35 ms, by mmoe"),
    ]
