"""Estimators of another policy's value: by hand, unbiased, exact where they must be, and cautious where they cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import DataError
from offline.counterfactual.estimators import estimates, own_mean
from offline.counterfactual.evaluation import evaluate
from offline.counterfactual.log import Floats, Ints, Log, checked
from offline.counterfactual.reward_model import cross_fitted, fit
from offline.counterfactual.support import kish
from offline.counterfactual.targets import Listed, Shares, even, frequencies


def log_of(action: list[int] | Ints, propensity: list[float] | Floats, reward: list[float] | Floats) -> Log:
    """One place, two articles, everybody seen once."""
    n = len(action)
    return Log(
        np.asarray(action, np.int64),
        np.zeros(n, np.int64),
        np.asarray(propensity, np.float64),
        np.asarray(reward, np.float64),
        np.arange(n),
        2,
        1,
        "toy",
    )


FOUR = log_of([0, 1, 1, 0], [0.5, 0.5, 0.25, 0.75], [1, 0, 1, 1])
TARGET = Shares(np.array([[0.25, 0.75]]), np.zeros(4, np.int64))
WEIGHTS = np.array([0.5, 1.5, 3.0, 1 / 3])


def values(log: Log, weights: Floats, logged: Floats, wanted: Floats, clip: float = 1e9) -> dict[str, float]:
    return {e.name: e.value for e in estimates(log, weights, logged, wanted, clip, seed=1, resamples=0)}


def test_every_estimator_by_hand_on_four_rows() -> None:
    np.testing.assert_allclose(TARGET.chance(FOUR) / FOUR.propensity, WEIGHTS)
    half = np.full(4, 0.5)  # a model that expects 0.5 of everything
    assert values(FOUR, WEIGHTS, half, half, clip=2.0) == pytest.approx(
        {
            "ips": (0.5 + 0 + 3 + 1 / 3) / 4,
            "clipped ips": (0.5 + 0 + 2 + 1 / 3) / 4,
            "snips": (0.5 + 0 + 3 + 1 / 3) / (0.5 + 1.5 + 3 + 1 / 3),
            "dm": 0.5,
            "dr": 0.5 + (0.25 - 0.75 + 1.5 + 1 / 6) / 4,
            "sndr": 0.5 + (0.25 - 0.75 + 1.5 + 1 / 6) / (0.5 + 1.5 + 3 + 1 / 3),
            "switch-dr": 0.5 + (0.25 - 0.75 + 1 / 6) / 4,  # the row of weight 3 is left to the model
        }
    )


def test_standard_errors_by_hand() -> None:
    assert own_mean(FOUR).standard_error == pytest.approx(0.25)  # sqrt((3 x 1/16 + 9/16) x 4/3) / 4
    snips = estimates(FOUR, WEIGHTS, np.zeros(4), np.zeros(4), 9.0, seed=1, resamples=0)[2]
    value, total = 23 / 32, WEIGHTS.sum()
    pulls = WEIGHTS * (FOUR.reward - value) / total
    assert snips.value == pytest.approx(value)
    assert snips.standard_error == pytest.approx(np.sqrt((pulls**2).sum() * 4 / 3))


def test_rows_of_one_visitor_are_one_witness() -> None:
    once = log_of([0, 1, 0, 1], [0.5] * 4, [1, 0, 1, 1])
    thrice = Log(
        *(np.repeat(column, 3) for column in (once.action, once.position, once.propensity, once.reward, once.unit)),
        actions=2,
        positions=1,
        name="toy",
    )
    for one, three in zip(
        evaluate(once, even(once), 1).estimates, evaluate(thrice, even(thrice), 1).estimates, strict=True
    ):
        if one.name in ("ips", "snips"):
            assert three.standard_error == pytest.approx(one.standard_error)
            assert three.bootstrap == pytest.approx(one.bootstrap)


def test_kish_counts_rows_of_equal_weight() -> None:
    assert kish(np.full(7, 0.3)) == pytest.approx(7)
    assert kish(np.array([1.0, 0, 0])) == pytest.approx(1)
    assert kish(WEIGHTS) == pytest.approx(WEIGHTS.sum() ** 2 / (WEIGHTS**2).sum())
    assert kish(np.zeros(3)) == 0
    assert kish(np.array([1e200, 1e200])) == pytest.approx(2)


class Bandit:
    """Three articles at two places; the chance of a click is known."""

    click = np.array([[0.1, 0.5, 0.3], [0.05, 0.25, 0.15]])
    logging = np.array([[0.6, 0.1, 0.3], [0.2, 0.2, 0.6]])
    target = np.array([[0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])

    @property
    def truth(self) -> float:
        return float((self.target * self.click).sum(axis=1).mean())

    def log(self, n: int, seed: int) -> Log:
        rng = np.random.default_rng(seed)
        place = np.arange(n) % 2
        action = (rng.random((n, 1)) > self.logging.cumsum(axis=1)[place]).sum(axis=1)
        clicked = rng.random(n) < self.click[place, action]
        return Log(action, place, self.logging[place, action], clicked.astype(np.float64), np.arange(n), 3, 2, "bandit")


def test_ips_and_dr_are_unbiased_and_the_log_itself_is_not() -> None:
    """Means over many logs lie within four standard errors of the truth."""
    bandit, found = Bandit(), []
    for seed in range(600):
        log = bandit.log(120, seed)
        result = evaluate(log, Shares(bandit.target, log.position), seed, resamples=0)
        found.append({e.name: e.value for e in (*result.estimates, result.logged)})
    for name in ("ips", "dr"):
        drawn = np.array([row[name] for row in found])
        assert abs(drawn.mean() - bandit.truth) < 4 * drawn.std(ddof=1) / np.sqrt(len(drawn)), name
    own = np.array([row["logged mean"] for row in found])
    assert abs(own.mean() - bandit.truth) > 20 * own.std(ddof=1) / np.sqrt(len(own))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 1,000 intervals of 95%, at least 92.2%: four standard errors (0.69%) below."""
    bandit, held = Bandit(), {"ips": 0, "snips": 0, "dr": 0, "sndr": 0}
    for seed in range(1_000):
        log = bandit.log(800, 10_000 + seed)
        for e in evaluate(log, Shares(bandit.target, log.position), seed, resamples=0).estimates:
            if e.name in held:
                held[e.name] += e.low <= bandit.truth <= e.high
    assert min(held.values()) >= 922, held


def test_bootstrap_and_normal_intervals_agree_on_a_large_log() -> None:
    bandit = Bandit()
    log = bandit.log(6_000, 3)
    for e in evaluate(log, Shares(bandit.target, log.position), 3).estimates:
        assert e.bootstrap is not None
        width = e.high - e.low
        assert e.bootstrap == pytest.approx((e.low, e.high), abs=0.15 * width), e.name


logs = st.integers(0, 2**32 - 1).map(lambda seed: Bandit().log(40, seed))


@given(logs, st.floats(-5, 5))
def test_snips_moves_with_the_rewards_and_ips_does_not(log: Log, shift: float) -> None:
    weights = Shares(Bandit.target, log.position).chance(log) / log.propensity
    none = np.zeros(len(log))
    before = values(log, weights, none, none)
    after = values(replace(log, reward=log.reward + shift), weights, none, none)
    assert after["snips"] == pytest.approx(before["snips"] + shift, abs=1e-9)
    assert after["ips"] == pytest.approx(before["ips"] + shift * weights.mean(), abs=1e-9)


@given(logs)
def test_snips_lies_among_the_rewards(log: Log) -> None:
    weights = Shares(Bandit.target, log.position).chance(log) / log.propensity
    none = np.zeros(len(log))
    assert 0 <= values(log, weights, none, none)["snips"] <= 1


@given(logs, st.lists(st.floats(0.01, 100), min_size=40, max_size=40))
def test_dr_is_exact_with_an_exact_model_whatever_the_weights(log: Log, weights: list[float]) -> None:
    certain = replace(log, reward=Bandit.click[log.position, log.action])
    wanted = (Bandit.target * Bandit.click).sum(axis=1)[log.position]
    found = values(certain, np.array(weights), certain.reward, wanted)
    assert found["dr"] == found["sndr"] == found["switch-dr"] == found["dm"] == pytest.approx(Bandit().truth)


@given(logs)
def test_the_policy_that_logged_is_worth_what_it_earned(log: Log) -> None:
    found = evaluate(log, Shares(Bandit.logging, log.position), 1, resamples=0)
    by_name = {e.name: e.value for e in found.estimates}
    for name in ("ips", "snips", "dr", "clipped ips"):
        if name != "dr":
            assert by_name[name] == pytest.approx(log.reward.mean())
    assert found.support.effective_rows == pytest.approx(len(log))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("propensity", 0.0, "file toy, column propensity, row 2: 0.0; allowed is above 0"),
        ("propensity", np.nan, "file toy, column propensity, row 2: nan"),
        ("propensity", 1.2, "file toy, column propensity, row 2: 1.2"),
        ("propensity", -0.5, "file toy, column propensity, row 2: -0.5"),
        ("reward", np.inf, "file toy, column reward, row 2: inf; allowed are finite"),
        ("action", 2, "file toy, column action, row 2: 2; allowed are 0 to 1"),
        ("position", -1, "file toy, column position, row 2: -1; allowed are 0 to 0"),
    ],
)
def test_a_planted_mistake_is_found_by_its_row(column: str, value: float, message: str) -> None:
    wrong = getattr(FOUR, column).copy()
    wrong[2] = value
    with pytest.raises(DataError, match=message):
        evaluate(replace(FOUR, **{column: wrong}), TARGET, 1)


def test_an_empty_log_and_shares_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="no impressions"):
        checked(log_of([], [], []))
    with pytest.raises(DataError, match=r"row 1: shares sum to 0\.9"):
        Shares(np.array([[0.5, 0.5], [0.5, 0.4]]), np.zeros(4, np.int64))


def codes(log: Log, target: Shares | Listed) -> set[str]:
    return {caution.code for caution in evaluate(log, target, 1, resamples=0).support.cautions}


def test_cautions_name_what_is_too_little() -> None:
    rng = np.random.default_rng(1)
    action = rng.integers(0, 2, 4_000)
    fair = log_of(action, np.full(4_000, 0.5), (rng.random(4_000) < 0.1).astype(float))
    assert codes(fair, even(fair)) == set()
    assert codes(FOUR, TARGET) == {"few-effective-rows", "few-rewards", "one-row-decides"}
    seldom = fair.propensity.copy()
    seldom[0] = 1e-5
    assert "one-row-decides" in codes(replace(fair, propensity=seldom), even(fair))
    silent = replace(fair, reward=np.zeros(4_000))
    assert codes(silent, even(silent)) == {"few-rewards"}


def test_propensities_that_cannot_be_true_are_noticed() -> None:
    """Articles fell evenly, the log says 0.25 of each: weights are twice what they should be."""
    action = np.arange(1_000) % 2
    wrong = log_of(action, np.full(1_000, 0.25), np.ones(1_000))
    assert codes(wrong, even(wrong)) == {"weights-off"}


def test_a_log_without_chance_gives_bounds_and_no_estimate() -> None:
    """Of four places the target agrees with two, which earned 1 and 0; the other two may earn anything."""
    fixed = log_of([0, 1, 1, 0], [1.0] * 4, [1, 0, 1, 1])
    found = evaluate(fixed, Listed(np.array([0, 1, 0, 1])), 1)
    assert "no-support" in {caution.code for caution in found.support.cautions}
    assert "50.0% of the target's choices" in found.support.cautions[0].message
    assert (found.estimates, found.bounds) == ((), (0.25, 0.75))
    same = evaluate(fixed, Listed(fixed.action), 1)
    assert same.bounds is None and same.estimates[0].value == 0.75


def test_where_part_of_a_log_was_drawn_the_rest_is_told() -> None:
    mixed = log_of([0, 1, 1, 0], [1.0, 0.5, 0.5, 0.5], [1, 0, 1, 1])
    found = evaluate(mixed, Listed(np.array([1, 1, 1, 1])), 1, resamples=0)
    assert "part-support" in {caution.code for caution in found.support.cautions}
    assert found.support.unsupported == 0.25
    assert found.bounds == (0.5, 0.75)  # the drawn row earned 1 with weight 2, a quarter is unknown


def test_the_reward_model_trusts_an_article_the_more_it_was_shown() -> None:
    """Means 0.8 of the often and of the seldom shown, 0.2 of the rest: both are pulled down, the seldom one further."""
    action = np.repeat([0, 1, 2], [1_000, 10, 1_000])
    reward = np.concatenate([np.arange(1_000) % 5 > 0, np.arange(10) % 5 > 0, np.arange(1_000) % 5 == 0]).astype(float)
    model = fit(Log(action, np.zeros(2_010, np.int64), np.ones(2_010), reward, np.arange(2_010), 4, 1, "toy"))
    mean = reward.mean()
    assert mean < model.rate[1] < model.rate[0] < 0.8
    assert model.rate[3] == pytest.approx(mean)  # never shown
    assert model.rate[0] == pytest.approx(0.8, abs=0.01)


def test_the_reward_model_knows_a_place_from_an_article() -> None:
    """Articles alike, the second place earns half; the article that stood there more often is no worse for it."""
    place = np.concatenate([np.arange(3_000) % 4 == 0, np.arange(3_000) % 4 != 0]).astype(np.int64)
    action = np.repeat([0, 1], 3_000)
    reward = np.where(place == 0, 0.4, 0.2)
    model = fit(Log(action, place, np.ones(6_000), reward, np.arange(6_000), 2, 2, "toy"))
    assert model.factor[1] / model.factor[0] == pytest.approx(0.5)
    assert model.rate[0] == pytest.approx(model.rate[1])


def test_a_visitors_own_reward_is_not_in_its_prediction() -> None:
    bandit = Bandit()
    log = bandit.log(60, 1)
    target = Shares(bandit.target, log.position)
    logged, wanted = cross_fitted(log, target, seed=1)
    for row in (0, 31):
        reward = log.reward.copy()
        reward[row] = 50.0
        again = cross_fitted(replace(log, reward=reward), target, seed=1)
        assert (again[0][row], again[1][row]) == (logged[row], wanted[row])
        assert (again[0] != logged).any()


def test_frequencies_are_shares_with_a_little_for_the_unseen() -> None:
    log = Log(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]), np.ones(4), np.ones(4), np.arange(4), 3, 2, "toy")
    np.testing.assert_allclose(
        frequencies(log), [[7 / 12, 4 / 12, 1 / 12], [1 / 6, 1 / 6, 4 / 6]]
    )  # (2 + 1/3) / 4, (1 + 1/3) / 4, (1/3) / 4
