"""Two rankers on the same examples and their blend: the best on the last week serves, from one ONNX contract."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as given_  # `given` reads better as a value here
from hypothesis import settings
from hypothesis import strategies as st

from infra.errors import ConfigurationError, GateError
from offline.calibration import Calibration
from offline.examples import Examples
from offline.export_ranker import blend_logits, export_catboost
from offline.metrics import average_precision
from offline.ranker_checkpoint import load_rankers, save_rankers
from offline.rankers import (
    NAMES,
    Judgement,
    Rankers,
    better,
    errors_behind,
    hold_out,
    mean_average_precision,
    train_rankers,
)
from offline.train_catboost import LOSSES, CatBoostConfig, catboost_scores, train_catboost
from offline.train_ranking import RankingConfig, mmoe_logits
from streams.encoder import onnx_session

WEEK = 7  # horizon, in the unit of `cut`
CONFIG = RankingConfig(
    steps=120,
    every=40,
    batch=4,
    learning_rate=1e-2,
    experts=2,
    negatives=0.5,
    catboost=CatBoostConfig(rounds=20, every=10),
)


def shop(weeks: int = 3, customers: int = 20, seed: int = 1) -> Examples:
    """Candidates bought before (feature 0) are bought again nine times in ten, others one time in a hundred."""
    rng = np.random.default_rng([seed, 77])
    n = weeks * customers * 20
    before = (rng.random(n) < 0.2).astype(np.float32)
    bought = (rng.random(n) < np.where(before > 0, 0.9, 0.01)).astype(np.float32)
    features = np.stack([before, rng.normal(size=n), rng.normal(size=n)], axis=1).astype(np.float32)
    labels = np.stack([bought, bought * before, bought * 2], axis=1)
    return Examples(features, labels, np.arange(n) // 20, np.arange(n) // (customers * 20) * 7)


@pytest.fixture(scope="module")
def rankers() -> Rankers:
    return train_rankers(shop(), CONFIG, WEEK, seed=1)


def test_both_learn_that_bought_before_decides(rankers: Rankers) -> None:
    fresh = shop(seed=2)
    bought = fresh.label("purchase")
    best = mean_average_precision(fresh.features[:, 0], bought, fresh.group)
    for name in NAMES:
        assert mean_average_precision(rankers.raw(name, fresh.features), bought, fresh.group) > best - 0.02
    assert set(rankers.judgements) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_calibrated_probability_is_that_of_the_shop(rankers: Rankers, name: str, tmp_path: Path) -> None:
    fresh = shop(seed=3)
    path = tmp_path / "ranker.onnx"
    assert rankers.export(name, path, fresh.features) < 1e-4
    (scores,) = onnx_session(str(path)).run(["scores"], {"features": fresh.features})
    assert scores.shape == (len(fresh), len(rankers.tasks(name)))
    assert rankers.tasks(name)[0] == "purchase"
    before = fresh.features[:, 0] > 0
    assert scores[before, 0].mean() == pytest.approx(0.9, abs=0.08)
    assert scores[~before, 0].mean() == pytest.approx(0.01, abs=0.04)
    judged = rankers.judgements[name]
    assert judged.log_loss <= judged.log_loss_uncalibrated + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_graph_takes_any_number_of_rows(rankers: Rankers, name: str, tmp_path: Path) -> None:
    path = tmp_path / "ranker.onnx"
    rankers.export(name, path, shop().features[:50])
    session = onnx_session(str(path))
    for rows in (1, 2, 300):
        features = 3 * np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
        (scores,) = session.run(["scores"], {"features": features})
        np.testing.assert_allclose(scores[:, 0], rankers.probabilities(name, features), atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["ranker.onnx"]


def test_the_blend_is_the_mean_of_logits_by_hand() -> None:
    one, other = np.array([0.2, 0.5, 0.0]), np.array([0.8, 0.9, 0.5])
    expected = [0.0, np.log(9) / 2, np.log(1e-6) / 2]
    np.testing.assert_allclose(blend_logits(one, other), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["MultiClass", "MAP", ""])
def test_a_loss_that_cannot_be_exported_is_refused(loss: str) -> None:
    with pytest.raises(ConfigurationError, match=r"allowed: Logloss, YetiRank, PairLogit, QuerySoftMax, QueryRMSE"):
        CatBoostConfig(loss=loss)
    assert CatBoostConfig(loss="YetiRank:mode=MAP;top=12").loss.endswith("12")


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_weighs_customers(
    loss: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG.catboost, loss=loss)
    weighed = catboost_scores(train_catboost(shop(), config, seed=1), shop().features)
    assert "weights" not in "".join(capfd.readouterr())  # as a loss says that cannot
    monkeypatch.setattr("offline.train_catboost.customer_weights", lambda examples: np.ones(len(examples), np.float32))
    alike = catboost_scores(train_catboost(shop(), config, seed=1), shop().features)
    assert np.abs(weighed - alike).max() > 0.01


def test_what_was_only_viewed_counts_no_more_than_other_negatives() -> None:
    """The one feature says whether a row was looked at, which tells nothing of a purchase here."""
    rng = np.random.default_rng(4)
    n = 6_000
    seen = (rng.random(n) < 0.5).astype(np.float32)
    bought = (rng.random(n) < 0.2).astype(np.float32)
    viewed = np.maximum(bought, seen)
    tasks = ("purchase", "view")
    given = Examples(
        seen[:, None], np.stack([bought, viewed], axis=1), np.arange(n) // 20, np.zeros(n, np.int64), tasks
    )
    config = replace(CONFIG.catboost, negatives=0.1, rounds=60, every=60)
    low, high = catboost_scores(train_catboost(given, config, seed=1), np.array([[0.0], [1.0]], np.float32))
    assert abs(high - low) < 0.5  # of log odds: log(10) if what was viewed counted ten times


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_leaves_as_one_sum_of_trees(loss: str, tmp_path: Path) -> None:
    rows = shop(seed=2).features
    model = train_catboost(shop(), replace(CONFIG.catboost, loss=loss), seed=1)
    assert export_catboost(model, Calibration(), tmp_path / "trees.onnx", rows) < 1e-5
    assert mean_average_precision(catboost_scores(model, rows), shop(seed=2).label("purchase"), shop().group) > 0.8


def test_the_same_seed_gives_the_same_scores(rankers: Rankers) -> None:
    again, rows = train_rankers(shop(), CONFIG, WEEK, seed=1), shop(seed=2).features
    assert np.array_equal(mmoe_logits(again.mmoe, rows), mmoe_logits(rankers.mmoe, rows))
    assert np.array_equal(catboost_scores(again.catboost, rows), catboost_scores(rankers.catboost, rows))
    without_seconds = [
        {name: replace(found, seconds=0.0) for name, found in one.judgements.items()} for one in (again, rankers)
    ]
    assert without_seconds[0] == without_seconds[1]


def judged(map12: float, error: float = 0.0) -> Judgement:
    return Judgement(map12, 0.1, 0.0, 0.1, 0.0, 1, Calibration(), map12_error=error)


def test_the_better_one_serves() -> None:
    assert better({"mmoe": judged(0.2), "catboost": judged(0.3)}) == "catboost"
    assert better({"mmoe": judged(0.3), "catboost": judged(0.2)}) == "mmoe"
    assert better({"mmoe": judged(0.3), "catboost": judged(0.3)}) == "mmoe"
    assert better({"mmoe": judged(0.2), "catboost": judged(0.3), "blend": judged(0.29)}) == "catboost"
    assert better({"mmoe": judged(0.2), "catboost": judged(0.3), "blend": judged(0.31)}) == "blend"
    assert better({}) == "mmoe"


def test_the_blend_serves_where_one_alone_was_better_by_chance() -> None:
    """Within one standard error of the best; CatBoost as near as that does not."""
    near = {"mmoe": judged(0.3), "catboost": judged(0.299, 0.002), "blend": judged(0.299, 0.002)}
    assert better(near) == "blend"
    assert better(near | {"blend": judged(0.297, 0.002)}) == "mmoe"


def test_the_error_of_being_behind_is_that_of_the_differences() -> None:
    """Of the differences 0.5 and 0 the mean is 0.25, their deviation root 1/8, the error of the mean root 1/16."""
    each = {"mmoe": np.array([1.0, 0.5]), "blend": np.array([0.5, 0.5]), "catboost": np.array([0.4, -0.1])}
    assert errors_behind(each) == pytest.approx({"mmoe": 0.0, "blend": 0.25, "catboost": 0.0})
    assert errors_behind({"mmoe": np.array([1.0]), "blend": np.array([0.2])}) == {"mmoe": 0.0, "blend": 0.0}


@pytest.mark.parametrize(("serving", "peers"), [("mmoe", ["catboost"]), ("catboost", ["mmoe"]), ("blend", NAMES[:2])])
def test_peers_are_what_was_trained_and_does_not_serve(rankers: Rankers, serving: str, peers: list[str]) -> None:
    assert list(replace(rankers, serving=serving).peers) == list(peers)


def test_a_single_stump_loses_against_a_network_and_an_unlearned_network_against_trees() -> None:
    """What is bought rises with the sum of three features, and a stump sees one threshold of one of them."""
    rng = np.random.default_rng(5)
    given = shop()
    features = rng.normal(size=given.features.shape).astype(np.float32)
    bought = (features.sum(axis=1) + 0.2 * rng.normal(size=len(given)) > 2).astype(np.float32)
    given = replace(given, features=features, labels=np.stack([bought, bought, bought], axis=1))
    stump = replace(CONFIG, catboost=replace(CONFIG.catboost, depth=1, rounds=1, every=1))
    found = train_rankers(given, stump, WEEK, seed=1).judgements
    assert found["mmoe"].map12 > found["catboost"].map12 + 0.05
    unlearned = train_rankers(given, replace(CONFIG, steps=10, learning_rate=1e-9), WEEK, seed=1)
    assert unlearned.judgements["catboost"].map12 > unlearned.judgements["mmoe"].map12 + 0.05
    assert unlearned.serving != "mmoe"
    assert unlearned.report()["serving"] == unlearned.serving == better(unlearned.judgements)


def test_the_last_week_is_held_out_else_customers_else_nothing() -> None:
    given = shop(weeks=3)
    parts = hold_out(given, WEEK)
    assert parts is not None
    assert set(parts[0].cut.tolist()) == {0, 7}
    assert set(parts[1].cut.tolist()) == {14}
    quiet = given.labels.copy()
    quiet[given.cut == 14] = 0
    parts = hold_out(replace(given, labels=quiet), WEEK)
    assert parts is not None
    assert (set(parts[0].cut.tolist()), set(parts[1].cut.tolist())) == ({0}, {7})
    parts = hold_out(shop(weeks=1), WEEK)
    assert parts is not None
    assert set((parts[1].group % 5).tolist()) == {4}
    assert not set(parts[0].group.tolist()) & set(parts[1].group.tolist())
    lonely = np.zeros_like(given.labels)
    lonely[3] = 1
    assert hold_out(replace(given, labels=lonely), WEEK) is None


def test_a_label_of_the_held_out_days_teaches_nobody_before() -> None:
    given = shop(weeks=4)
    daily = replace(given, cut=given.cut // 7)  # cuts of days 0 to 3, each labelled by the two days after it
    parts = hold_out(daily, horizon=2)
    assert parts is not None
    assert (set(parts[0].cut.tolist()), set(parts[1].cut.tolist())) == ({0, 1}, {3})


def test_without_a_week_to_judge_on_the_network_serves_uncalibrated(tmp_path: Path) -> None:
    given = shop(weeks=1, customers=4)
    labels = np.zeros_like(given.labels)
    labels[:2] = 1
    found = train_rankers(replace(given, labels=labels), CONFIG, WEEK, seed=1)
    assert (found.serving, found.judgements) == ("mmoe", {})
    assert found.calibration("mmoe") == Calibration()
    assert found.report() == {"serving": "mmoe", "validation": {}}


def test_nothing_bought_is_refused() -> None:
    given = shop(weeks=2)
    with pytest.raises(GateError, match="no candidate was bought in any ranking example"):
        train_rankers(replace(given, labels=np.zeros_like(given.labels)), CONFIG, WEEK, seed=1)


def test_a_checkpoint_comes_back_whole_or_not_at_all(rankers: Rankers, tmp_path: Path) -> None:
    assert load_rankers(tmp_path) is None
    save_rankers(rankers, tmp_path)
    found, rows = load_rankers(tmp_path), shop(seed=2).features
    assert found is not None
    assert (found.serving, found.judgements) == (rankers.serving, rankers.judgements)
    assert np.array_equal(mmoe_logits(found.mmoe, rows), mmoe_logits(rankers.mmoe, rows))
    assert np.array_equal(catboost_scores(found.catboost, rows), catboost_scores(rankers.catboost, rows))
    for name in ("ranker.npz", "ranker.cbm", "rankers.json"):
        save_rankers(rankers, tmp_path)
        raw = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(raw[: len(raw) // 2])
        assert load_rankers(tmp_path) is None, name


groups = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=20), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given_(groups)
def test_map_is_the_mean_of_average_precision_over_groups_with_a_purchase(rows: list[list[tuple[int, bool]]]) -> None:
    scores = np.array([float(s) for part in rows for s, _ in part], np.float32)
    bought = np.array([b for part in rows for _, b in part], np.float32)
    group = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    each = []
    for part in rows:
        ordered = sorted(part, key=lambda row: -row[0])  # stable
        hits = np.array([b for _, b in ordered])
        if hits.any():
            each.append(average_precision(hits, int(hits.sum())))
    expected = float(np.mean(each)) if each else 0.0
    assert mean_average_precision(scores, bought, group) == pytest.approx(expected, abs=1e-9)
