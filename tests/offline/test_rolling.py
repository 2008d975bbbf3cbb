"""Successive weeks: which cuts, what they say together, and that no channel moves."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import offline.run as offline_run
from infra.cli import cli
from infra.errors import ConfigurationError
from infra.registry import Registry
from offline.evaluate import Evaluation
from offline.rolling import pool, rolling_windows
from offline.scoreboard import Scoreboard
from offline.window import Window
from tests.support.tiny import TINY, write_tiny_shop
from tests.support.tiny_fixture import Tiny

CUT = datetime(2020, 7, 20, tzinfo=UTC)


def evaluated(customers: dict[str, tuple[float, float]]) -> Evaluation:
    """A week in which each customer's lists score (full, popular), in both metrics alike."""
    full, popular = np.array(list(customers.values())).T
    scores = {name: {"map@12": s, "recall@100": s} for name, s in (("full", full), ("popular", popular))}
    return Evaluation(len(customers), 0, {}, "popular", (0, 0), {}, list(customers), Scoreboard(scores, ["popular"], 1))


def test_weeks_are_seven_days_apart_and_end_with_the_last(tiny: Tiny) -> None:
    windows = rolling_windows(tiny.log, Window(CUT, 7), 3)
    assert [(w.cut.day, w.horizon) for w in windows] == [(6, 7), (13, 7), (20, 7)]
    with pytest.raises(ConfigurationError, match="--weeks 8: the earliest cut would be 2020-06-01, and the log begins"):
        rolling_windows(tiny.log, Window(CUT, 7), 8)


def test_pooled_means_count_every_customer_week_once() -> None:
    weeks = [evaluated({"ann": (0.4, 0.2), "bea": (0.0, 0.0)}), evaluated({"ann": (0.8, 0.1)})]
    found = pool(weeks, seed=1)
    assert (found["customers"], found["customer_weeks"]) == (2, 3)
    assert found["metrics"]["full"] == {"map@12": 0.4, "recall@100": 0.4}  # (0.4 + 0 + 0.8) / 3
    (head, _) = found["headline"]
    assert (head["baseline"], head["ratio"], head["customers"]) == ("popular", 4.0, 2)
    # ann is drawn with both her weeks or not at all: twice (0.6), once (0.4), or never (0).
    assert head["difference_interval"] == (0.0, 0.45)


def test_weeks_of_one_customer_are_one_witness() -> None:
    """Four identical weeks of the same customers say no more than one of them."""
    rng = np.random.default_rng(1)
    week = evaluated({f"c{n}": (a, b) for n, (a, b) in enumerate(rng.random((40, 2)))})
    assert pool([week] * 4, seed=1)["headline"] == pool([week], seed=1)["headline"]


@pytest.mark.slow
def test_the_command_judges_each_week_and_moves_no_channel(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = write_tiny_shop(tmp_path / "shop")
    monkeypatch.setenv("MODISTE_REGISTRY__URL", f"file://{tmp_path}/registry")
    monkeypatch.setenv("MODISTE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setitem(offline_run.PRESETS, "quick", TINY)
    shutil.copytree(tiny.directory / "runs", tmp_path / "data" / "runs")  # the last week has been learned already
    args = ["offline", "rolling", "--data", "hm", "--path", str(shop), "--preset", "quick", "--weeks", "2", "--json"]
    done = CliRunner().invoke(cli, args, prog_name="modiste")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert [week["cut"][:10] for week in said["weeks"]] == ["2020-07-13", "2020-07-20"]
    assert [week["customers"] for week in said["weeks"]] == [24, 24]
    assert said["weeks"][1]["metrics"] == tiny.bundle.manifest.metrics
    for metric in ("map@12", "recall@100"):
        both = [week["metrics"]["full"][metric] for week in said["weeks"]]
        assert said["pooled"]["metrics"]["full"][metric] == pytest.approx(np.mean(both), abs=2e-5)
    assert Registry(f"file://{tmp_path}/registry").bundle_ids() == []
    assert not list((tmp_path / "data" / "runs").glob("rolling-*"))
