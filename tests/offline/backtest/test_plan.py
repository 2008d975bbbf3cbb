"""Steps are consecutive, networks and counts as old as was asked for, and what cannot be meant is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import offline.backtest.plan as plans
from infra.errors import ConfigurationError
from offline.backtest.plan import BacktestPlan, Contender, contenders_of
from offline.event_log import EventLog
from offline.run import PRESETS
from tests.support.tiny_fixture import Tiny

DAY = timedelta(days=1)
START = datetime(2020, 7, 1, tzinfo=UTC)
PLAN = BacktestPlan(
    start=START,
    end=START + 28 * DAY,
    step=7 * DAY,
    contenders=contenders_of(["full", "popular"], []),
    config=PRESETS["quick"],
)


def ages(plan: BacktestPlan) -> list[tuple[int, int]]:
    return [(step.learned, step.built) for step in plan.steps]


def test_four_weeks_are_four_steps() -> None:
    assert [(step.number, step.cut.day, step.until.day) for step in PLAN.steps] == [
        (0, 1, 8),
        (1, 8, 15),
        (2, 15, 22),
        (3, 22, 29),
    ]
    assert ages(PLAN) == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_networks_are_learned_and_counts_made_anew_when_they_are_old_enough() -> None:
    assert ages(replace(PLAN, retrain=14 * DAY)) == [(0, 0), (0, 1), (2, 2), (2, 3)]
    assert ages(replace(PLAN, retrain=None, rebuild=14 * DAY)) == [(0, 0), (0, 0), (0, 2), (0, 2)]
    assert ages(replace(PLAN, retrain=None, rebuild=None)) == [(0, 0)] * 4
    # New networks make a new bundle whatever the rebuilds do.
    assert ages(replace(PLAN, retrain=14 * DAY, rebuild=None)) == [(0, 0), (0, 0), (2, 2), (2, 2)]


@given(
    days=st.integers(1, 60), step=st.integers(1, 9), retrain=st.none() | st.integers(1, 30), rebuild=st.integers(1, 30)
)
def test_steps_cover_the_time_and_nothing_is_older_than_asked_for(
    days: int, step: int, retrain: int | None, rebuild: int
) -> None:
    plan = replace(
        PLAN,
        end=START + days * DAY,
        step=step * DAY,
        retrain=None if retrain is None else retrain * DAY,
        rebuild=rebuild * DAY,
        short_last=True,
    )
    assert plan.steps[0].cut == plan.start
    assert plan.steps[-1].until == plan.end
    assert all(one.until == other.cut for one, other in zip(plan.steps, plan.steps[1:], strict=False))
    for each in plan.steps:
        assert each.learned <= each.built <= each.number
        assert each.cut - plan.steps[each.built].cut < rebuild * DAY
        if retrain is not None:
            assert each.cut - plan.steps[each.learned].cut < retrain * DAY


def test_a_shorter_last_step_is_taken_only_when_told() -> None:
    with pytest.raises(ConfigurationError, match=r"no whole number of steps.*give --to 2020-07-22T"):
        replace(PLAN, end=START + 24 * DAY)
    last = replace(PLAN, end=START + 24 * DAY, short_last=True).steps[-1]
    assert (last.cut, last.until) == (START + 21 * DAY, START + 24 * DAY)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"start": datetime(2020, 7, 1)}, "--from 2020-07-01T00:00:00 has no time zone"),  # noqa: DTZ001
        ({"end": START}, "there is no step of 7 days"),
        ({"step": timedelta(0)}, "a step takes longer than nothing"),
        ({"retrain": -DAY}, "--retrain -1 day, 0:00:00: give a duration, such as 7d, or never"),
        ({"label_delay": -DAY}, "nothing is known before it happens"),
        ({"k": 201}, "k is 201; from 1 to 200"),
        ({"through": "post"}, "--through post: allowed are memory, kafka"),
        ({"contenders": ()}, "nobody to compare"),
        ({"contenders": contenders_of(["full", "full"], [])}, "full stands twice"),
        ({"contenders": (Contender("best", "best"),)}, "strategy 'best' of best; allowed: full, hybrid"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        replace(PLAN, **changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: replace(plan, retrain=None),
        lambda plan: replace(plan, contenders=plan.contenders[:1]),
        lambda plan: replace(plan, config=replace(plan.config, seed=plan.seed + 1)),
        lambda plan: replace(plan, through="kafka"),
        lambda plan: replace(plan, end=plan.end + 7 * DAY),
    ],
)
def test_another_plan_has_another_key(tiny: Tiny, change: Callable[[BacktestPlan], BacktestPlan]) -> None:
    assert replace(PLAN).key(tiny.log) == PLAN.key(tiny.log)
    assert change(PLAN).key(tiny.log) != PLAN.key(tiny.log)


def test_other_code_has_another_key(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    log: EventLog = tiny.log
    before = PLAN.key(log)
    monkeypatch.setattr(plans, "code_hash", lambda: "other")
    assert PLAN.key(log) != before
