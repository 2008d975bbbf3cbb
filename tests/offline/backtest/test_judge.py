"""What a ledger was worth: every number here can be counted by hand from `toy_ledger`."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.errors import ConfigurationError, DataError, GateError
from offline.backtest import judge as judging
from offline.backtest.judge import judge, sentence, steps_in_words
from offline.backtest.ledger import Ledger
from offline.backtest.plan import contenders_of
from offline.pooled import Pool
from tests.offline.backtest.toy_ledger import CUT, PLAN, SHOWN, WEEK, Line, ledger_of, log_of


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("toy")
    return judge(ledger_of(directory / "ledger"), log_of(directory), PLAN)


def named(report: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in report["segments"] if part["kind"] == kind}


def mean(part: dict[str, Any], contender: str, metric: str = "map@12") -> float:
    return float(part["metrics"][contender][metric]["mean"])


def test_the_docstrings_sentences_are_true() -> None:
    failed, tried = doctest.testmod(judging)
    assert (failed, tried >= 2) == (0, True)


def test_each_step_alone(report: dict[str, Any]) -> None:
    first, second = report["steps"]
    # full: ann 1 of 1 at rank 1; bea at ranks 1 and 3, (1 + 2/3) / 2; cid at rank 2.
    assert mean(first, "full") == pytest.approx((1 + 5 / 6 + 1 / 2) / 3, abs=1e-5)
    # popular: ann at rank 1; bea one of two at rank 3, 1/3 / 2; cid at rank 2.
    assert mean(first, "popular") == pytest.approx((1 + 1 / 6 + 1 / 2) / 3, abs=1e-5)
    assert mean(first, "popular", "recall@100") == pytest.approx((1 + 1 / 2 + 1) / 3, abs=1e-5)
    assert mean(first, "popular", "hr@12") == 1.0
    assert (mean(second, "full"), mean(second, "popular")) == (1.0, 0.5)
    assert mean(second, "popular", "ndcg@12") == pytest.approx(1 / np.log2(3), abs=1e-5)
    assert [(step["judged"], step["purchases"]) for step in (first, second)] == [(3, 4), (1, 1)]


def test_what_nobody_had_heard_of_is_counted_and_not_missed(report: dict[str, Any]) -> None:
    assert [step["purchases_of_unknown_articles"] for step in report["steps"]] == [1, 0]
    assert mean(report["steps"][0], "full", "recall@100") == 1.0  # cid's `late` could not be found


def test_pooled_counts_every_customer_and_step_once(report: dict[str, Any]) -> None:
    pooled = report["pooled"]
    assert (pooled["customers"], pooled["customer_steps"]) == (3, 4)
    assert mean(pooled, "full") == pytest.approx((1 + 5 / 6 + 1 / 2 + 1) / 4, abs=1e-5)
    assert mean(pooled, "popular") == pytest.approx((1 + 1 / 6 + 1 / 2 + 1 / 2) / 4, abs=1e-5)
    head = pooled["headline"][0]
    assert (head["contender"], head["baseline"], head["metric"]) == ("full", "popular", "map@12")
    # cid alone may be drawn three times, whom both serve alike; so nothing is decided.
    assert head["verdict"] == "undecided"
    assert head["sentence"].startswith("full and popular cannot be told apart: +53.8% [0.0, ")
    assert head["sentence"].endswith("] in MAP@12 (2 weeks, 3 customers)")


def test_segments_are_what_was_known_at_the_cut(report: dict[str, Any]) -> None:
    kinds = named(report, "customers")
    assert {name: (part["customers"], part["customer_steps"]) for name, part in kinds.items()} == {
        "new": (1, 1),  # cid in step 0
        "lapsed": (1, 1),  # bea in step 0
        "other": (1, 2),  # ann in both
    }
    assert mean(kinds["lapsed"], "full") == pytest.approx(5 / 6, abs=1e-5)
    assert all(part["few"] for part in kinds.values())


def test_a_category_is_judged_by_its_own_purchases(report: dict[str, Any]) -> None:
    parts = named(report, "category")
    assert {name: part["purchases"] for name, part in parts.items()} == {
        "bags": 3,
        "hats": 1,
        "all other categories": 1,
    }
    # bea's lamp stands third in her list from full, and nowhere in popular's.
    assert mean(parts["all other categories"], "full") == pytest.approx(1 / 3, abs=1e-5)
    assert mean(parts["all other categories"], "popular", "recall@100") == 0.0


def test_a_channel_is_judged_by_its_own_purchases(report: dict[str, Any]) -> None:
    parts = named(report, "channel")
    assert {name: (part["customers"], part["purchases"]) for name, part in parts.items()} == {
        "channel 1": (2, 3),
        "channel 2": (2, 2),
    }
    assert mean(parts["channel 2"], "full") == pytest.approx((1 / 3 + 1 / 2) / 2, abs=1e-5)


def test_cold_articles_are_those_nobody_had_bought_before_the_cut(report: dict[str, Any]) -> None:
    (cold,) = named(report, "articles").values()
    assert (cold["customers"], cold["purchases"]) == (1, 2)  # bea's hat and lamp; bag-2 she had bought herself


def test_variety_is_the_mean_over_the_steps(report: dict[str, Any]) -> None:
    full, popular = report["variety"]["full"], report["variety"]["popular"]
    # Four articles are known in step 0, of which full shows all and popular three; five in step 1, one and three.
    assert full["coverage@12"] == pytest.approx((4 / 4 + 1 / 5) / 2)
    assert popular["coverage@12"] == pytest.approx((3 / 4 + 3 / 5) / 2)
    # The 1% most bought is one article, bag-1 in both steps: 3 of the 7 places of step 0, none of step 1's.
    assert full["popular_share@12"] == pytest.approx((3 / 7 + 0) / 2, abs=1e-5)
    assert popular["popular_share@12"] == pytest.approx(1 / 3, abs=1e-5)
    # Step 0, of the one customer of the last 60 days: bag-1 has (1 + 1) / (1 + 1), others 1/2, that is 0 and 1 bit.
    # Step 1, of three: bag-1 has 2/4, bag-2 2/4, hat-1 2/4.
    assert popular["novelty@12"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-5)


def test_costs_add_up(report: dict[str, Any]) -> None:
    cost = report["cost"]
    assert cost["seconds"] == {"fold": 1.0, "build": 2.0, "answer": 4.0, "total": 7.0}
    assert cost["ms"]["full"] == {"p50": 2.0, "p99": 2.0}
    assert (cost["answers"], cost["events"], cost["peak_mb"]) == (8, 20, 101.0)


def test_examples_show_history_beside_both_lists(report: dict[str, Any]) -> None:
    (ann,) = report["examples"]
    assert (ann["customer"], ann["segment"], ann["bought"]) == ("ann", "other", 1)
    assert [(a["article_id"], a["days_ago"]) for a in ann["history"]] == [("bag-1", 6.0), ("bag-1", 17.0)]
    assert [one["contender"] for one in ann["lists"]] == ["full", "popular"]
    assert [a["bought"] for a in ann["lists"][1]["shown"]] == [False, True, False]
    assert ann["lists"][1]["shown"][2] | {"bought": None} == {
        "article_id": "hat-1",
        "title": "Hat-1",
        "category": "hats",
        "bought": None,
    }


def test_the_report_is_json_and_says_what_answered(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report))["pooled"]["headline"][0]["sentence"]
    assert report["contenders"][0] == {"name": "full", "strategy": "full", "bundles": ["bundle-0", "bundle-1"]}
    assert report["plan"]["step"] == "7d"
    assert report["plan"]["retrain"] == "never"
    assert report["data"]["events"] == 8


def test_a_chosen_baseline_is_the_second_of_its_pairs(tmp_path: Path) -> None:
    report = judge(ledger_of(tmp_path / "ledger"), log_of(tmp_path), PLAN, baseline="full")
    (row, *_) = report["pooled"]["headline"]
    assert (row["contender"], row["baseline"], row["ratio"]) == ("popular", "full", 0.65)
    with pytest.raises(ConfigurationError, match="baseline 'nobody'; the contenders are full, popular"):
        judge(ledger_of(tmp_path / "ledger"), log_of(tmp_path), PLAN, baseline="nobody")


def many(n: int) -> tuple[list[Line], dict[str, list[str]], dict[str, list[str]]]:
    """n customers who buy bag-1; lists that begin with it, and lists that have it second."""
    lines: list[Line] = [(-10, "someone", "hat-1", None), *((1, f"c{i}", "bag-1", None) for i in range(n))]
    return lines, {f"c{i}": ["bag-1"] for i in range(n)}, {f"c{i}": ["bag-2", "bag-1"] for i in range(n)}


@pytest.mark.parametrize(
    ("full", "says"),
    [
        ("good", "full is better than popular by 100.0% [100.0, 100.0] in MAP@12 (1 week, 40 customers)"),
        ("bad", "full is worse than popular by 50.0% [50.0, 50.0] in MAP@12 (1 week, 40 customers)"),
        ("same", "full and popular cannot be told apart: 0.0% [0.0, 0.0] in MAP@12 (1 week, 40 customers)"),
    ],
)
def test_the_verdict_in_words(tmp_path: Path, full: str, says: str) -> None:
    lines, good, bad = many(40)
    mine, theirs = {"good": (good, bad), "bad": (bad, good), "same": (good, good)}[full]
    plan = replace(PLAN, end=CUT + WEEK)
    ledger = ledger_of(tmp_path / "ledger", [{"full": mine, "popular": theirs}], plan)
    report = judge(ledger, log_of(tmp_path, lines), plan)
    assert report["pooled"]["headline"][0]["sentence"] == says
    assert report["steps"][0]["comparisons"][0]["verdict"] == report["pooled"]["headline"][0]["verdict"]
    assert [part for part in report["segments"] if part["kind"] == "channel"] == []


def test_all_pairs_are_compared_once(tmp_path: Path) -> None:
    plan = replace(PLAN, contenders=contenders_of(["full", "popular", "hybrid"], []))
    shown = [step | {"hybrid": step["popular"]} for step in SHOWN]
    pooled = judge(ledger_of(tmp_path / "ledger", shown, plan), log_of(tmp_path), plan)["pooled"]
    pairs = [(row["contender"], row["baseline"]) for row in pooled["comparisons"] if row["metric"] == "map@12"]
    assert pairs == [("full", "popular"), ("hybrid", "popular"), ("full", "hybrid")]
    twins = next(row for row in pooled["comparisons"] if (row["contender"], row["baseline"]) == pairs[1])
    assert (twins["verdict"], twins["difference_interval"]) == ("undecided", (0.0, 0.0))


def test_a_list_that_knows_the_future_is_refused(tmp_path: Path) -> None:
    shown = [{"full": SHOWN[0]["full"] | {"ann": ["late"]}, "popular": SHOWN[0]["popular"]}, SHOWN[1]]
    with pytest.raises(DataError, match=r"full shows article 'late' at 2020-03-01.*when nobody had heard of it"):
        judge(ledger_of(tmp_path / "ledger", shown), log_of(tmp_path), PLAN)


def test_contenders_must_answer_for_the_same_customers(tmp_path: Path) -> None:
    shown = [{"full": {"ann": ["bag-1"]}, "popular": SHOWN[0]["popular"]}, SHOWN[1]]
    with pytest.raises(DataError, match="full has 1 lists for 3 customers"):
        judge(ledger_of(tmp_path / "ledger", shown), log_of(tmp_path), PLAN)


def test_who_was_not_asked_is_not_judged_and_counted(tmp_path: Path) -> None:
    shown = [{name: {"ann": ["bag-1"]} for name in ("full", "popular")}, SHOWN[1]]
    report = judge(ledger_of(tmp_path / "ledger", shown), log_of(tmp_path), PLAN)
    assert [(step["judged"], step["not_asked"]) for step in report["steps"]] == [(1, 2), (1, 0)]
    assert report["steps"][0]["purchases_of_unknown_articles"] == 0  # cid's, who was not asked


def test_a_step_without_purchases_has_no_metrics_and_one_ledger_without_any_has_no_report(tmp_path: Path) -> None:
    lines: list[Line] = [(-10, "ann", "bag-1", 1), (8, "ann", "bag-1", 1)]
    nobody: dict[str, dict[str, list[str]]] = {"full": {}, "popular": {}}
    report = judge(ledger_of(tmp_path / "ledger", [nobody, SHOWN[1]]), log_of(tmp_path, lines), PLAN)
    assert [bool(step["metrics"]) for step in report["steps"]] == [False, True]
    with pytest.raises(GateError, match="nobody bought anything in any step"):
        judge(ledger_of(tmp_path / "ledger", [nobody, nobody]), log_of(tmp_path, lines), PLAN)


def test_what_is_not_sealed_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    with pytest.raises(DataError, match="step 0 is not sealed"):
        judge(Ledger(tmp_path / "ledger"), log_of(tmp_path), PLAN)


def test_steps_are_weeks_days_or_what_they_are() -> None:
    assert steps_in_words(PLAN) == "2 weeks"
    assert steps_in_words(replace(PLAN, step=timedelta(days=1))) == "14 days"
    assert steps_in_words(replace(PLAN, step=timedelta(days=2))) == "7 steps of 2d"
    assert steps_in_words(replace(PLAN, end=CUT + timedelta(days=8), short_last=True)) == "2 steps of 7d"


def test_one_customer_is_not_plural() -> None:
    row = {"contender": "a", "baseline": "b", "metric": "hr@12", "verdict": "better", "ratio": 2.0}
    said = sentence(row | {"ratio_interval": [1.5, None], "customers": 1}, "1 day")
    assert said == "a is better than b by 100.0% [50.0, ∞] in HR@12 (1 day, 1 customer)"


def test_weeks_of_one_customer_are_drawn_together() -> None:
    """Four steps in which every customer scores as in the first say no more than that one, in whatever order."""
    scores = np.random.default_rng(1).random((40, 2))
    names = [f"c{n:02d}" for n in range(40)]
    once, often = Pool([("a", "m"), ("b", "m")]), Pool([("a", "m"), ("b", "m")])
    once.add(names, scores)
    for _ in range(4):
        often.add(names[::-1], scores[::-1])
    assert often.result(1).compare("a", "b", "m") == once.result(1).compare("a", "b", "m")
    assert often.result(1).customer_steps == 160


def test_a_pool_grows_and_takes_a_customer_twice_at_once() -> None:
    pool = Pool([("a", "m")])
    pool.add([f"c{n}" for n in range(3_000)], np.zeros((3_000, 1)))
    pool.add(["c7", "c7"], np.ones((2, 1)))
    assert (len(pool), pool.result(1).mean("a", "m")) == (3_000, round(2 / 3_002, 5))
