"""The bench of rebalances: its judgement on notes that a reader can count, and a real round of two contenders."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline.bench_rebalance import PARTITIONS, Plan, measure
from offline.rebalance_judge import Change, Reading, judge, readings
from tests.conftest import GIVEN
from tests.support.servers import choose_broker


def test_notes_are_lines_and_one_cut_off_by_a_kill_is_none() -> None:
    lines = ["0 1000000000 3 1500000000\n", "1 2000000000 4 2000000000\n", "2 2100000000 3 22"]
    assert readings("a", lines) == [Reading(0, 3, "a", 1.0, 1.5), Reading(1, 4, "a", 2.0, 2.0)]


def test_waits_are_of_the_change_and_of_what_became_of_the_partition() -> None:
    noted = [
        Reading(0, 0, "a", 9.5, 9.9),  # before the change: only says who read partition 0
        Reading(1, 0, "a", 10.0, 10.1),
        Reading(2, 0, "a", 12.0, 12.3),
        Reading(3, 1, "a", 10.5, 10.6),
        Reading(4, 1, "b", 11.0, 13.0),  # went from a to b
        Reading(5, 0, "a", 14.7, 19.0),  # too near the next change
        Reading(2, 0, "b", 12.0, 15.9),  # again, which is no wait
        Reading(6, 0, "a", 20.0, 20.5),
        Reading(7, 1, "b", 20.0, 20.1),
        Reading(8, 0, "b", 24.8, 26.0),  # by the next owner of another change: partition 0 was kept in this one
    ]
    found = judge(noted, [Change("join", 10.0, 15.0), Change("join", 20.0, 25.0)], 10, {"c"})
    assert found["join"] == {
        "kept": {"median": 400.0, "worst": 500.0, "n": 2},
        "moved": {"median": 2000.0, "worst": 2000.0, "n": 1},
    }
    assert (found["lost"], found["doubled"]) == (1, 1)


def test_what_is_read_again_counts_unless_its_reader_was_killed() -> None:
    noted = [Reading(0, 0, "a", 1.0, 1.1), Reading(0, 0, "b", 1.0, 1.2), Reading(1, 0, "c", 1.0, 1.1)]
    noted += [Reading(1, 0, "b", 1.0, 1.3)]
    quiet = [Change("quiet", 5.0, 9.0)]
    assert judge(noted, quiet, 2, {"c"}) == {"lost": 0, "doubled": 1}
    assert judge(noted, quiet, 2, ()) == {"lost": 0, "doubled": 2}


@pytest.mark.broker
def test_a_real_round_loses_nothing_and_knows_who_kept_what(tmp_path: Path) -> None:
    kafka = "apache" if choose_broker(GIVEN).kind == "apache" else "tansu"
    plan = Plan(rounds=1, deaths=0, rate=100.0, gap_s=2.0)
    found = measure(tmp_path, plan, kafka=kafka, contenders=("modiste", "aiokafka"))
    assert found["absent"] == {}
    assert found["setup"]["partitions"] == PARTITIONS
    for name in ("modiste", "aiokafka"):
        assert found[name]["lost"] == 0
        assert found[name]["quiet"]["moved"] is None
        assert found[name]["join"]["kept"] and found[name]["join"]["moved"]
    assert found["modiste"]["doubled"] == 0
