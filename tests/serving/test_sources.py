"""What each source finds, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from serving.history import INTEREST
from serving.retrieval.candidates import Floats, Found, Ints
from serving.retrieval.content import Content, taste_of
from serving.retrieval.hybrid import Hybrid
from serving.retrieval.popular import Popular
from serving.retrieval.query import Query
from serving.retrieval.repurchase import Repurchase
from serving.retrieval.two_tower import TwoTower
from serving.retrieval.variants import Variants, members
from streams.events import CART, PURCHASE, VIEW, Event
from tests.support.toy_catalog import CONTENT, DEBUT, HYBRID, IDS, POPULAR, YOUNG, catalog, event, query, state

CATALOG = catalog()


def fade(age: float, days: float) -> float:
    return float(np.exp(-age / days))


def faded(age: float) -> float:
    return 1 / (1 + age / 30)


DAYS = {"bread": (40, 60, 80), "hat": (58, 60, 62)}


def named(found: Found) -> dict[str, float]:
    """Scores by article, best first."""
    rows, scores = found
    return {IDS[row]: score for row, score in zip(rows.tolist(), scores.tolist(), strict=True)}


def test_repurchase_prefers_often_and_lately() -> None:
    anna = state(event(10, "hat"), event(70, "bread"), event(90, "bread"), event(95, "milk"))
    first, none = Repurchase().retrieve([query(anna), query(None)], 2)
    assert list(named(first)) == ["bread", "milk"]
    # Bread, bought twice with 20 days between, was bought 10 days ago.
    due = np.exp(-((np.log(10.5 / 20.5) / 1.5) ** 2))
    assert named(first) == pytest.approx({"bread": (faded(30) + faded(10)) * (1 + 0.3 * due), "milk": faded(5)})
    assert named(none) == {}


def test_repurchase_prefers_what_is_due_by_the_customers_own_rhythm() -> None:
    """Both bought three times with the same ages on average; bread every 20 days, so it is due; hats in a burst."""
    anna = state(*(event(day, article) for article, days in DAYS.items() for day in days))
    (found,) = Repurchase().retrieve([query(anna, day=100)], 2)
    assert list(named(found)) == ["bread", "hat"]
    without = {article: sum(faded(100 - day) for day in days) for article, days in DAYS.items()}
    lift = {article: named(found)[article] / need - 1 for article, need in without.items()}
    assert lift["bread"] == pytest.approx(0.3)  # the usual 20 days have passed: all of it
    assert lift["hat"] < 0.1


def test_two_lines_of_one_trip_are_no_rhythm() -> None:
    once = state(event(90, "bread"), event(90, "bread", type="view"))
    (found,) = Repurchase().retrieve([query(once)], 1)
    assert named(found) == pytest.approx({"bread": (1 + INTEREST[VIEW]) * faded(10)})


def test_repurchase_also_knows_what_was_looked_at_for_less() -> None:
    anna = state(event(90, "milk"), event(90, "hat", type="view"), event(90, "socks", type="cart"))
    (found,) = Repurchase().retrieve([query(anna)], 9)
    assert list(named(found)) == ["milk", "socks", "hat"]
    assert named(found) == pytest.approx(
        {"milk": faded(10), "socks": INTEREST[CART] * faded(10), "hat": INTEREST[VIEW] * faded(10)}
    )
    assert INTEREST[PURCHASE] == 1.0


def test_variants_are_the_other_articles_of_the_product_by_their_sales() -> None:
    """wool: socks, shirt and hat sold 12, 8 and 4 in the month, each taken for one more."""
    anna = state(event(86, "socks"), event(93, "bread", type="view"))
    found, none = Variants(CATALOG.items, CATALOG.statistics).retrieve([query(anna), query(None)], 9)
    socks, bread = fade(14, 14), INTEREST[VIEW] * fade(7, 14)
    assert named(found) == pytest.approx({"shirt": socks * 9 / 27, "hat": socks * 5 / 27, "rolls": bread * 29 / 62})
    assert list(named(found)) == ["shirt", "hat", "rolls"]
    assert named(none) == {}


def test_variants_leave_out_everything_acted_on_and_add_up_its_interest() -> None:
    anna = state(event(93, "socks"), event(86, "hat"), event(86, "socks"))
    (found,) = Variants(CATALOG.items, CATALOG.statistics).retrieve([query(anna)], 9)
    assert named(found) == pytest.approx({"shirt": (fade(7, 14) + 2 * fade(14, 14)) * 9 / 27})


def test_an_article_without_a_product_code_has_no_variants() -> None:
    found = Variants(CATALOG.items, CATALOG.statistics).retrieve([query(state(event(90, "milk")))], 9)
    assert named(found[0]) == {}


def test_variants_are_cut_to_the_best() -> None:
    (found,) = Variants(CATALOG.items, CATALOG.statistics).retrieve([query(state(event(90, "socks")))], 1)
    assert list(named(found)) == ["shirt"]


def test_members_are_grouped_by_product_and_unnamed_ones_belong_to_none() -> None:
    rows, start = members(np.array([1, -1, 0, 1, -1, 3], np.int64))
    groups = [rows[start[p] : start[p + 1]].tolist() for p in range(4)]
    assert groups == [[2], [0, 3], [], [5]]
    rows, start = members(np.full(3, -1, np.int64))
    assert (rows.tolist(), start.tolist()) == ([], [0])


def test_popular_follows_the_segment() -> None:
    everybody, young = query(None), query(None, segment="young")
    (all_rows, shares), (young_rows, _) = Popular(CATALOG.statistics).retrieve([everybody, young], 3)
    assert all_rows.tolist() == POPULAR[:3]
    assert young_rows.tolist() == YOUNG[:3]
    assert shares.tolist() == CATALOG.statistics.segment_share[0, :3].tolist()


def test_two_tower_finds_the_nearest_and_nothing_without_a_vector() -> None:
    anna = state(event(1, "hat"), event(2, "hat"), event(3, "milk"))
    source = TwoTower(CATALOG.index, CATALOG.vectors)
    found, none = source.retrieve([query(anna), query(None)], 2)
    assert list(named(found)) == ["hat", "milk"]
    assert named(found) == pytest.approx({"hat": 2 / 5**0.5, "milk": 1 / 5**0.5}, abs=1e-3)
    assert named(none) == {}
    assert source.retrieve([], 2) == []
    rows = np.array([IDS.index("milk"), IDS.index("bread"), IDS.index("hat")])
    assert source.score(query(anna), rows) == pytest.approx([1 / 5**0.5, 0, 2 / 5**0.5])


def test_taste_is_the_unit_mean_of_what_was_acted_on_by_interest() -> None:
    # bread (1, 0, 0) thirty days ago, socks (0, 0, 1) looked at just now: e^-0.5 against 0.2.
    anna = query(state(event(70, "bread"), event(99.999999, "socks", type="view")))
    mean = np.array([fade(30, 60), 0, INTEREST[VIEW]])
    assert anna.taste == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert anna.taste.dtype == np.float32


@pytest.mark.parametrize("past", [(), (event(90, "hat"),), (event(90, "wine"),)], ids=["nothing", "blank", "unknown"])
def test_no_taste_without_content(past: Sequence[Event]) -> None:
    nothing = query(state(*past))
    assert nothing.taste.tolist() == [0, 0, 0]
    assert taste_of(nothing.history, CONTENT).tolist() == [0, 0, 0]
    # Then it is the likeliest of what is new, if anything is.
    assert named(Content(CONTENT, DEBUT).retrieve([nothing], 3)[0]) == {"apple": 0}
    assert named(Content(CONTENT, np.zeros_like(DEBUT)).retrieve([nothing], 3)[0]) == {}


def test_content_finds_what_looks_alike() -> None:
    (found,) = Content(CONTENT, np.zeros_like(DEBUT)).retrieve([query(state(event(90, "cheese")))], 3)
    assert list(named(found)) == ["cheese", "apple", "milk"]
    assert named(found) == pytest.approx({"cheese": 1, "apple": 0.96, "milk": 0.8}, abs=1e-3)
    rows = np.array([IDS.index("shirt"), IDS.index("hat")])
    assert Content(CONTENT, DEBUT).score(query(state(event(90, "cheese"))), rows) == pytest.approx([0.6, 0])


def test_two_places_of_three_are_for_what_was_never_sold() -> None:
    """By the log of its chance and twice its likeness."""
    debut = np.zeros(len(IDS), np.float32)
    debut[[IDS.index(a) for a in ("bread", "rolls", "shirt", "hat")]] = 0.125, 0.125, 2.0, 1.0
    (found,) = Content(CONTENT, debut).retrieve([query(state(event(90, "cheese")))], 8)
    # near: cheese 1, apple 0.96, milk 0.8 · new: shirt 1.2 + ln 2, hat 0, rolls 1.2 - ln 8, bread -ln 8
    assert list(named(found))[:7] == ["shirt", "cheese", "hat", "rolls", "apple", "bread", "milk"]
    assert named(found)["shirt"] == pytest.approx(0.6)  # a score is a cosine all the same
    (two,) = Content(CONTENT, debut).retrieve([query(state(event(90, "cheese")))], 2)
    assert list(named(two)) == ["shirt", "cheese"]


def test_where_everything_was_sold_content_is_the_nearest_alone() -> None:
    (found,) = Content(CONTENT, np.zeros_like(DEBUT)).retrieve([query(state(event(90, "socks")))], 2)
    assert list(named(found)) == ["socks", "shirt"]


KNOWN = query(state(event(90, "hat")))


class Fixed:
    """A part that finds these rows and scores every article as it is told."""

    def __init__(self, name: str, found: list[int], scores: dict[int, float]) -> None:
        self.name, self._found, self._scores = name, found, scores

    def retrieve(self, queries: Sequence[Query], k: int) -> list[Found]:
        rows = np.array(self._found[:k], np.int64)
        return [(rows, self.score(query, rows)) for query in queries]

    def score(self, query: Query, rows: Ints) -> Floats:
        return np.array([self._scores[row] for row in rows.tolist()], np.float32)


def test_hybrid_sums_what_its_parts_say_of_all_that_any_found() -> None:
    left = Fixed("left", [1, 2], {1: 8.0, 2: 6.0, 3: 4.0})  # to 0..1 among 1, 2, 3: 1, 0.5, 0
    right = Fixed("right", [3, 1], {1: -0.25, 2: -0.75, 3: 0.25})  # 0.5, 0, 1
    blend = Hybrid([left, right], {"left": 0.75, "right": 0.25})
    ((rows, scores),) = blend.retrieve([KNOWN], 3)
    assert rows.tolist() == [1, 2, 3]
    assert scores.tolist() == [0.75 + 0.125, 0.375, 0.25]
    ((rows, scores),) = blend.retrieve([KNOWN], 1)
    assert (rows.tolist(), scores.tolist()) == ([1], [0.75])  # of 1 and 3, the best of either part


def test_a_part_without_knowledge_has_no_say() -> None:
    ignorant = Fixed("left", [], {1: 0.0, 2: 100.0})
    right = Fixed("right", [1, 2], {1: 2.0, 2: 1.0})
    ((rows, scores),) = Hybrid([ignorant, right], {"left": 0.9, "right": 0.1}).retrieve([KNOWN], 9)
    assert rows.tolist() == [1, 2]
    assert scores.tolist() == [np.float32(0.1), 0]
    ((nothing, _),) = Hybrid([ignorant], {"left": 1.0}).retrieve([KNOWN], 9)
    assert nothing.tolist() == []


def test_hybrid_finds_nothing_for_a_stranger() -> None:
    """Though content knows what is new: nothing speaks for any of it."""
    ((rows, _),) = CATALOG.strategies["hybrid"].retrieve([query(None)], 9)
    assert rows.tolist() == []


def test_parts_that_score_all_alike_say_nothing_apart() -> None:
    same = Fixed("left", [1, 2], {1: 3.0, 2: 3.0})
    right = Fixed("right", [2, 1], {1: 1.0, 2: 2.0})
    ((rows, scores),) = Hybrid([same, right], {"left": 0.5, "right": 0.5}).retrieve([KNOWN], 9)
    assert rows.tolist() == [2, 1]
    assert scores.tolist() == [0.5, 0.0]


def test_the_catalogues_hybrid_by_hand() -> None:
    """A hat: its factor is wear's, its vector its own axis, and it has no content, so that part is silent."""
    anna = query(state(event(90, "hat")))
    assert anna.taste.tolist() == [0, 0, 0]
    found = named(CATALOG.strategies["hybrid"].retrieve([anna], 8)[0])
    # collab: socks 1, shirt 0.75, hat 0.5, food 0 (all times the same) · two_tower: hat 1, others 0.
    expected = {"hat": 0.5 * HYBRID["collab"] + HYBRID["two_tower"], "socks": HYBRID["collab"]}
    expected |= {"shirt": 0.75 * HYBRID["collab"]} | dict.fromkeys(IDS[:5], 0.0)
    assert found == pytest.approx(expected)
    assert list(found)[:3] == ["hat", "socks", "shirt"]
