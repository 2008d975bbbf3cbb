"""What fresher states are worth: visits are what they are said to be, and a stream sees what was bought before them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from offline.backtest.freshness import FIRST, LATER, Freshness, Visit, draw_panel, freshness, stale, visits_of
from offline.backtest.ledger import Ledger
from offline.backtest.plan import contenders_of
from tests.offline.backtest.toy_ledger import PLAN
from tests.offline.toy_log import CUT_US, DAY, Line, bought, histories_of, items_of, viewed
from tests.support.tiny_fixture import Tiny

HOUR = 1 / 24


def visits(lines: list[Line]) -> list[Visit]:
    return list(visits_of(histories_of(lines), items_of("a", "b", "c"), CUT_US, CUT_US + 7 * DAY))


def test_purchases_within_half_an_hour_of_each_other_are_one_visit() -> None:
    found = visits(
        [
            bought(-1, "ann", "a"),
            bought(-1 - 0.4 * HOUR, "ann", "b"),
            bought(-1 - 0.8 * HOUR, "ann", "c"),  # 24 minutes after the one before
            bought(-1 - 1.4 * HOUR, "ann", "a"),  # 36 minutes after it
        ]
    )
    assert [(v.number, v.items) for v in found] == [(0, (0, 1, 2)), (1, (0,))]
    assert found[0].start == CUT_US + DAY


def test_a_visit_begins_with_its_first_look_and_one_without_a_purchase_is_not_judged() -> None:
    found = visits(
        [
            viewed(-1, "ann", "a"),  # looks around, and goes
            viewed(-2, "ann", "b"),
            viewed(-2 - 0.4 * HOUR, "ann", "a"),
            bought(-2 - 0.8 * HOUR, "ann", "b"),
        ]
    )
    assert [(v.number, v.start, v.items) for v in found] == [(0, CUT_US + 2 * DAY, (1,))]


def test_where_times_are_days_a_day_is_a_visit() -> None:
    found = visits([bought(-1, "ann", "a"), bought(-1, "ann", "b"), bought(-2, "ann", "c"), bought(-2, "bea", "c")])
    assert [(v.customer, v.number, v.items) for v in found] == [("ann", 0, (0, 1)), ("ann", 1, (2,)), ("bea", 0, (2,))]


def test_only_visits_that_begin_in_the_step_count_and_only_what_the_bundle_knows() -> None:
    found = visits(
        [
            bought(0.1 * HOUR, "ann", "a"),  # begins before the cut
            bought(-0.2 * HOUR, "ann", "b"),  # and goes on after it
            bought(-3, "ann", "unheard-of"),
            bought(-4, "ann", "c"),
            bought(-7, "ann", "a"),  # the next step's
            bought(8, "bea", "a"),  # who does not come back
        ]
    )
    assert [(v.number, v.items) for v in found] == [(1, (2,))]


@pytest.mark.slow
def test_a_stream_sees_the_visits_of_the_step_and_a_batch_does_not(tiny: Tiny, tmp_path: Path) -> None:
    cut = datetime.fromisoformat("2020-07-06T00:00:00+00:00")
    end = cut + timedelta(days=21)
    plan = replace(PLAN, start=cut, end=end, step=end - cut, contenders=contenders_of(["repurchase"], []))
    ledger = Ledger(tmp_path)
    (step,) = plan.steps
    measuring = Freshness(ledger, tiny.log, plan, panel=6)
    table = measuring.measure(step, tiny.runtime)
    panel = draw_panel(tiny.log, plan, 6)
    assert len(panel) == 6
    assert set(table["customer_id"].to_pylist()) == set(panel)
    rows = table.to_pylist()
    counts = {name: sum(row["question"] == name for row in rows) for name in (FIRST, LATER, stale(1), stale(7))}
    # Everybody buys on one day of each of the three weeks.
    assert counts == {FIRST: 6, LATER: 12, stale(1): 6, stale(7): 6}
    # Before the first visit nothing was bought, and what repurchase shows does not depend on the hour.
    first = [row for row in rows if row["question"] == FIRST]
    assert [row["recall@100 newer"] for row in first] == [row["recall@100 older"] for row in first]
    again = Freshness(ledger, tiny.log, plan, panel=6).measure(step, tiny.runtime)
    assert again.equals(table)
    found = freshness(ledger, plan, panel=6)
    assert (found["contender"], found["customers"], found["steps"]) == ("repurchase", 6, 1)
    later = next(row for row in found["batch_versus_stream"] if row["visits"] == "later visits")
    newer = [row["map@12 newer"] for row in rows if row["question"] == LATER]
    assert later["value"] == pytest.approx(sum(newer) / 12, abs=1e-5)
    assert later["sentence"].endswith("in MAP@12 (6 customers, 12 later visits)")
    assert {row["days"] for row in found["staleness"]} == {1, 3, 7}
    assert freshness(ledger, plan, panel=7) == {}


def test_the_panel_is_of_those_who_buy_in_the_backtest(tiny: Tiny) -> None:
    cut = datetime.fromisoformat("2020-07-20T00:00:00+00:00")
    plan = replace(PLAN, start=cut, end=cut + timedelta(days=1), step=timedelta(days=1))
    # On the first day of a week customers 0, 7, 14 and 21 buy.
    assert draw_panel(tiny.log, plan, 99) == [f"customer-{n:02d}" for n in (0, 7, 14, 21)]
    assert len(draw_panel(tiny.log, plan, 2)) == 2
