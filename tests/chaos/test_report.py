"""What is printed of a run, and with which exit code it ends."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import __main__ as command
from tests.chaos.oracle import DOUBLED, LOST, UNANSWERED, Finding, Verdict
from tests.chaos.report import UNDATED, as_text, rows
from tests.chaos.run import Done, Outcome, Plan

PLAN = Plan(seed=7, kafka="tansu", minutes=1.0)
DONE = [Done("redis kill -9", 10_000, 0.5, 2.0), Done("worker kill -9", 20_000, 0.1, 4.0)]


def outcome(*findings: Finding, troubles: tuple[str, ...] = ()) -> Outcome:
    return Outcome(PLAN, DONE, Verdict(list(findings), Counter({"requests": 3})), {"poison": 2}, list(troubles))


def test_a_finding_belongs_to_the_fault_on_whose_watch_its_message_came() -> None:
    found = outcome(
        Finding(LOST, "a", 9_000),  # a second before redis was killed: on its way then
        Finding(LOST, "b", 17_999),
        Finding(UNANSWERED, "c", 18_000),
        Finding(DOUBLED, "d"),
    )
    table = {row["fault"]: row for row in rows(found)}
    assert table["redis kill -9"][LOST] == 2
    assert table["worker kill -9"][UNANSWERED] == 1 and table["worker kill -9"][LOST] == 0
    assert table[UNDATED][DOUBLED] == 1
    assert [table["all"][kind] for kind in (LOST, DOUBLED, UNANSWERED)] == [2, 1, 1]
    assert "LOST a" in as_text(found) and "NOT OK" in as_text(found)


def test_answers_that_came_again_are_reported_and_no_fault() -> None:
    again = Outcome(PLAN, DONE, Verdict([], Counter({"repeated answers": 3})), {"poison": 2}, [])
    table = {row["fault"]: row for row in rows(again)}
    assert (table["repeated answers"]["times"], table["repeated letters"]["times"]) == (3, 0)
    assert again.ok


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (outcome(), 0),
        (outcome(Finding(LOST, "an event")), 1),
        (outcome(troubles=("redis away 10 s was not recovered from",)), 1),
    ],
)
def test_exit_code_says_whether_all_was_well(
    result: Outcome, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def done(plan: Plan, directory: Path, registry_url: str) -> Outcome:
        return result

    monkeypatch.setattr(command, "run", done)
    monkeypatch.setattr(command.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))
    (tmp_path / "modiste-chaos-").mkdir()
    monkeypatch.setattr("sys.argv", ["chaos", "--kafka", "tansu", "--registry", "file:///nowhere", "--json"])
    assert command.main() == code
    assert json.loads(capsys.readouterr().out)["ok"] is (code == 0)
    # What went wrong can be looked at, what went well leaves nothing behind.
    assert (tmp_path / "modiste-chaos-").exists() is (code == 1)
