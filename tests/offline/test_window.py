"""Where the log is cut: for a year, for a week, and for every place `--until` can stand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.errors import ConfigurationError
from offline.window import Window, choose_window, parse_day


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


YEAR = (day("2017-01-01T11:53:26"), day("2017-12-31T23:10:00"))
WEEK = (day("2020-09-16"), day("2020-09-22T20:00:00"))  # H&M's last week: seven days


def test_a_year_is_tested_on_its_last_seven_days() -> None:
    assert choose_window(YEAR, None) == Window(day("2017-12-25"), 7)


def test_a_single_week_is_cut_after_five_of_seven_days() -> None:
    assert choose_window(WEEK, None) == Window(day("2020-09-21"), 2)


def test_until_inside_the_log_is_the_cut() -> None:
    assert choose_window(YEAR, day("2017-12-24")) == Window(day("2017-12-24"), 7)
    assert choose_window(YEAR, day("2017-06-01T18:00:00")) == Window(day("2017-06-01T18:00:00"), 7)


@pytest.mark.parametrize(("until", "days"), [("2017-12-25", 7), ("2017-12-26", 6), ("2017-12-31", 1)])
def test_no_day_without_data_is_predicted(until: str, days: int) -> None:
    assert choose_window(YEAR, day(until)) == Window(day(until), days)


@pytest.mark.parametrize("until", ["2018-01-01", "2018-01-05", "2030-01-01"])
def test_until_after_the_end_tests_on_the_last_days_there_are(until: str) -> None:
    assert choose_window(YEAR, day(until)) == choose_window(YEAR, None)


@pytest.mark.parametrize("until", ["2016-01-01", "2017-01-01", "2017-01-01T11:53:26"])
def test_until_before_the_first_event_is_refused(until: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--until 201[67].* leaves no history.* 2017-01-01.* 2017-12-31"):
        choose_window(YEAR, day(until))


def test_a_log_of_one_day_cannot_be_learned_from_and_judged() -> None:
    with pytest.raises(ConfigurationError, match="no history") as caught:
        choose_window((day("2020-09-16"), day("2020-09-16T20:00:00")), None)
    assert "--until" not in str(caught.value)  # nobody gave it


def test_a_day_is_taken_as_utc_unless_it_says_otherwise() -> None:
    assert parse_day("2017-12-24") == day("2017-12-24")
    assert parse_day("2017-12-24T18:00:00+02:00") == day("2017-12-24T16:00:00")
    assert parse_day("2017-12-24T18:00:00+02:00").utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize("text", ["christmas", "2017-13-01", ""])
def test_what_is_no_day_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write 2017-12-24"):
        parse_day(text)
