"""Only an order of exactly what was asked about counts, and only sentences that a shop can show."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.llm import movable, reordered, retold
from serving.llm_prompt import Question
from serving.llm_verdict import REASON_MAX_CHARS, BadVerdict, Verdict, read_verdict, showable
from serving.messages import Item, Recommendations

FACTS = "strap top\njersey top\ncorner shop\nparis dress 2-pack\n9.5\n3"


def question(count: int) -> Question:
    return Question("{}", count, FACTS)


def said(*entries: Any) -> str:
    return json.dumps({"items": list(entries)})


def entry(n: Any, why: Any = "It suits the dress you bought") -> dict[str, Any]:
    return {"n": n, "why": why}


def test_an_order_is_read_with_its_sentences_by_position() -> None:
    verdict = read_verdict(said(entry(3, "You bought a dress before"), entry(1), entry(2, "<b>no</b>")), question(3))
    assert verdict.order == (2, 0, 1)
    assert verdict.reasons == ("It suits the dress you bought", None, "You bought a dress before")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "Sure! Here is the order: 3, 1, 2",
        "```json\n" + said(entry(1), entry(2), entry(3)) + "\n```",
        "[3, 1, 2]",
        "null",
        '{"items": null}',
        '{"order": [1, 2, 3]}',
        said(),
        said(entry(1), entry(2)),  # not all
        said(entry(1), entry(2), entry(2)),  # one twice
        said(entry(1), entry(2), entry(3), entry(3)),
        said(entry(1), entry(2), entry(3), entry(4)),  # one more
        said(entry(0), entry(1), entry(2)),
        said(entry(-1), entry(2), entry(3)),
        said(entry("1"), entry("2"), entry("3")),
        said(entry(True), entry(2), entry(3)),
        said(entry(1.5), entry(2), entry(3)),
        said(entry(10**30), entry(2), entry(3)),
        said(entry(1, None), entry(2), entry(3)),
        said(entry(1, ["a"]), entry(2), entry(3)),
        '{"items": [' + "[" * 100_000,
        '{"items": [{"n": 1, "why": "\\ud800"}]}',
        said(entry(1), entry(2), entry(3))[:-5],
        said(entry(1), entry(2), entry(3)) + said(entry(1)),
    ],
)
def test_anything_else_is_no_order(content: str) -> None:
    with pytest.raises(BadVerdict):
        read_verdict(content, question(3))


def test_what_the_model_sent_is_not_in_the_error() -> None:
    with pytest.raises(BadVerdict) as caught:
        read_verdict('{"items": [{"n": "sk-secret", "why": 1}]}', question(2))
    assert "secret" not in str(caught.value)


@given(st.lists(st.integers(-2, 6), max_size=7))
def test_an_order_is_taken_exactly_when_it_is_a_permutation(numbers: list[int]) -> None:
    content = said(*map(entry, numbers))
    if sorted(numbers) == [1, 2, 3, 4]:
        assert read_verdict(content, question(4)).order == tuple(n - 1 for n in numbers)
    else:
        with pytest.raises(BadVerdict):
            read_verdict(content, question(4))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["items", "n", "why", "x"]), inner),
    max_leaves=12,
)


@given(st.text() | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps({"items": value})))
def test_whatever_comes_is_an_order_or_refused(content: str) -> None:
    try:
        verdict = read_verdict(content, question(2))
    except BadVerdict:
        return
    assert sorted(verdict.order) == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "It suits the dress you bought 3 days ago",
        "Goes with your Strap Top.",
        "A fresh colour for someone who likes Paris!",
        "From the Corner  Shop,\nlike your last order",
        "It costs 9.5 as your jersey top did",
        "Strap top for days like these",
        "You’ll wear this one often",
        "One of the 3 that you like",
    ],
)
def test_a_plain_sentence_about_what_was_given_can_be_shown(text: str) -> None:
    assert showable(text, FACTS) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Good",  # says nothing
        "!!!!!!!!!!",
        "x" * (REASON_MAX_CHARS + 1),
        "It suits you well, " + "very " * 2_000,
        "<script>alert(1)</script> suits you",
        "It is **so** good for you",
        "See [this dress](x) for you",
        "More at https://evil.example/buy",
        "More at evil.com for you",
        "More at evil。com for you",
        "More at www evil, www. evil",
        "Write to me@home about it",
        "{{7*7}} and {% raw %} for you",
        "It suits you &lt;b&gt; well",
        "It suits you. Buy it now",
        "Hurry! It goes fast",
        'They call it "the best" dress',
        "Now 50 cheaper than before",  # a number from nowhere
        "Only 2.99 in this shop today",
        "Like the dresses of Gucci this year",  # a name from nowhere
        "BUY NOW it suits you",
        "It suits\u200b you so well",  # zero width
        "It suits \u202eyou so well",  # turns the reading direction
        "It suits\x00 you so well",
        "It suits you so well \U0001f600",
        "I\u0301\u0302\u0303\u0304t suits you so well",  # stacked accents
        "It costs \u20ac9.5 for you",
        "Line one of it\u2028line two <",
        "Nike makes the best of these for you",  # a name from nowhere, at the beginning
        "This one is half price today and shipping is free",
        "Two for one, and they suit you",
        "It is cheaper than the dress you bought",
        "The last ones in stock, in your colour",
        "You get ten-percent-off with it",
        "A half-price dress for you",
    ],
)
def test_nothing_else_is_shown(text: str) -> None:
    assert showable(text, FACTS) is None


@given(st.text(max_size=300))
def test_what_is_shown_is_short_and_holds_no_markup_and_no_address(text: str) -> None:
    shown = showable(text, FACTS)
    if shown is not None:
        assert len(shown) <= REASON_MAX_CHARS
        assert not set(shown) & set("<>{}[]|\\`*_#@%\n\r\t\x00\u200b\u202e")
        assert "://" not in shown and "www." not in shown.lower()


def test_the_trace_tells_the_order_and_the_words_of_now() -> None:
    items = [
        Item(article_id=name, rank=rank, score=0.5, source="popular", reason="Popular now")
        for rank, name in enumerate(("top", "dress"), start=1)
    ]
    told = [{"stage": "item", "rank": item.rank, "article_id": item.article_id, "gate.0": 0.7} for item in items]
    answer = Recommendations(
        request_id="r1", customer_id="anna", items=items, trace=[{"stage": "retrieval", "candidates": 9}, *told]
    )
    found = retold(reordered(answer, [0, 1], Verdict((1, 0), ("It suits you", None))))
    assert found.trace == [
        {"stage": "retrieval", "candidates": 9},
        {"stage": "item", "rank": 1, "article_id": "dress", "gate.0": 0.7, "reason": "Popular now"},
        {"stage": "item", "rank": 2, "article_id": "top", "gate.0": 0.7, "reason": "It suits you"},
    ]


ITEMS = st.lists(st.sampled_from(["popular", "pin", "pin+popular", "repurchase+pinned"]), min_size=2, max_size=12)


@given(ITEMS, st.integers(2, 12), st.randoms(use_true_random=False), st.data())
def test_a_reordered_answer_holds_the_same_items_and_pins_stay(
    sources: list[str], top: int, dice: Any, data: st.DataObject
) -> None:
    items = [Item(article_id=f"a{n}", rank=n, score=1 / n, source=source) for n, source in enumerate(sources, start=1)]
    answer = Recommendations(request_id="r", customer_id="c", items=items)
    places = movable(items)[:top]
    order = list(range(data.draw(st.integers(0, len(places)), label="asked about")))
    dice.shuffle(order)
    after = reordered(answer, places, Verdict(tuple(order), (None,) * len(order)))
    assert sorted(item.article_id for item in after.items) == sorted(item.article_id for item in items)
    assert [item.rank for item in after.items] == [item.rank for item in items]
    untouched = set(range(len(items))) - set(places[: len(order)])
    assert {n for n, item in enumerate(items) if item.source.startswith("pin")} <= untouched
    assert all(after.items[n] == items[n] for n in untouched)
    assert {msgspec.structs.replace(item, rank=0) for item in after.items} == {
        msgspec.structs.replace(item, rank=0) for item in items
    }
