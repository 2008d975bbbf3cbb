"""Trips and what recurs on them, by hand."""

from __future__ import annotations

from math import log, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rhythm import LATELY, NEVER, customer_rhythm, due, interval, trips_of
from streams.events import Event
from tests.support.toy_catalog import IDS, event, query, state

# Trips of 50, 40, 20 and 10 days ago; number 0 is the newest.
PAST = (
    event(50, "bread"),
    event(60, "bread"),
    event(60, "milk"),
    event(80, "hat"),
    event(90, "bread"),
    event(95, "milk", type="view"),  # no trip
)
HISTORY = query(state(*PAST)).history
BREAD, MILK, HAT = (IDS.index(a) for a in ("bread", "milk", "hat"))


def test_a_trip_is_a_distinct_time_of_purchase() -> None:
    trips = trips_of(HISTORY)
    assert trips.days.tolist() == [10, 20, 40, 50]
    assert len(trips) == 4
    assert trips.of.tolist() == [3, 2, 2, 1, 0]


def test_rhythm_counts_trips_and_not_days() -> None:
    found = trips_of(HISTORY).rhythm(HISTORY.item_idx, len(IDS))
    assert found.trips[[BREAD, MILK, HAT]].tolist() == [3, 1, 1]
    assert found.newest[[BREAD, MILK, HAT]].tolist() == [0, 2, 1]
    assert found.oldest[[BREAD, MILK, HAT]].tolist() == [3, 2, 1]
    apple = IDS.index("apple")
    assert (found.trips[apple], found.newest[apple], found.lately[:, apple].tolist()) == (0, NEVER, [0, 0])


def test_lately_are_the_newest_trips_only() -> None:
    """Twelve trips: bread on every one, milk on the oldest two, twice on the fifth newest."""
    days = [10.0 * n for n in range(12)]
    past = [event(day, "bread") for day in days] + [event(day, "milk") for day in days[:2]]
    past += [event(days[7], "milk", n=1), event(days[7], "milk", n=1, price=3.0, type="view")]
    history = query(state(*past), day=115).history
    found = trips_of(history).rhythm(history.item_idx, len(IDS))
    assert LATELY == (5, 10)
    assert found.lately[:, BREAD].tolist() == [5, 10]
    assert found.lately[:, MILK].tolist() == [1, 1]
    assert found.trips[MILK] == 3


def test_two_lines_of_one_trip_count_once() -> None:
    history = query(state(event(90, "bread"), event(90, "rolls"), event(80, "rolls"))).history
    bakery = np.zeros(len(history), np.int64)
    assert trips_of(history).rhythm(bakery, 1).trips.tolist() == [2]


def test_a_customer_without_purchases_has_no_rhythm() -> None:
    trips = trips_of(query(state(event(90, "bread", type="view"))).history)
    found = trips.rhythm(np.empty(0, np.int64), 2)
    assert (len(trips), found.trips.tolist(), found.newest.tolist()) == (0, [0, 0], [NEVER, NEVER])
    assert found.lately.tolist() == [[0, 0], [0, 0]]


def test_interval_is_the_mean_distance_and_needs_two_occasions() -> None:
    found = interval(np.array([30.0, 30.0, 9.0]), np.array([10.0, 10.0, 9.0]), np.array([3.0, 2.0, 1.0]))
    assert found.tolist() == [10, 20, NEVER]


def test_due_is_nought_at_the_usual_time_and_bounded() -> None:
    since = np.array([7.0, 0.0, 500.0, NEVER, NEVER + 5])
    usual = np.array([7.0, 7.0, 1.0, 7.0, NEVER])
    assert due(since, usual).tolist() == pytest.approx([0, log(0.5 / 7.5), 4, -4, -4])


def test_rhythm_of_the_customer() -> None:
    assert customer_rhythm(HISTORY, trips_of(HISTORY)) == pytest.approx(
        (
            log1p(4),
            log1p(2),  # 10 and 20 days ago
            log1p(10),
            log1p(40 / 3),
            log(10.5 / (40 / 3 + 0.5)),
            log1p(5 / 4),
            3 / 5,
        )
    )
    nobody = query(None).history
    assert customer_rhythm(nobody, trips_of(nobody)) == pytest.approx((0, 0, log1p(NEVER), log1p(NEVER), -4, 0, 0))


events = st.lists(st.builds(event, st.integers(0, 99), st.sampled_from(IDS)), min_size=1, max_size=30)


@given(events)
def test_rhythm_is_bounded_by_the_trips(past: list[Event]) -> None:
    history = query(state(*past)).history
    trips = trips_of(history)
    found = trips.rhythm(history.item_idx, len(IDS))
    bought = found.trips > 0
    assert len(trips) == len({e.occurred_at for e in past})
    assert (found.trips <= len(trips)).all()
    assert (found.oldest - found.newest >= found.trips - 1)[bought].all()
    assert (found.oldest[bought] < len(trips)).all()
    assert (found.lately <= np.minimum(found.trips, np.array(LATELY)[:, None])).all()
    assert (found.newest[~bought] == NEVER).all()
