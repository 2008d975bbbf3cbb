"""Logs that an estimate can be held against: Open Bandit's two policies, the synthetic world, Modiste's own archive."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from infra.cli import cli
from infra.errors import BundleError, ConfigurationError, DataError
from offline.counterfactual.evaluation import evaluate
from offline.counterfactual.impressions import bought_within, finished, read_impressions
from offline.counterfactual.open_bandit import CAMPAIGNS, cases, check_shares, read_log, summary
from offline.counterfactual.shown import Shown, listed_log
from offline.counterfactual.strategy_lists import after_training, strategy_lists
from offline.counterfactual.targets import frequencies
from offline.counterfactual.world import ShownWorld
from offline.histories import load_histories
from offline.world.files import write_world
from offline.world.settings import WorldSize
from serving.impressions import Impression, ShownItem, encode_impression
from streams.archive import RAW_COLUMNS, Segment, TopicArchive
from streams.events import from_micros, to_micros
from streams.topics import IMPRESSIONS
from tests.support.tiny import article_number, customer_id
from tests.support.tiny_fixture import Tiny

OPEN_BANDIT = Path(__file__).parents[3] / "shared" / "data" / "open-bandit"
NOON = datetime(2020, 7, 20, 12, tzinfo=UTC)


def write_bandit(directory: Path, rows: int = 3_000) -> Path:
    """One campaign of two articles: article 1 is clicked by half, article 0 never; bts shows article 1 nine times of
    ten, random one of two. So random is worth 0.25 and bts 0.45."""
    rng = np.random.default_rng(1)
    for policy, share in (("random", 0.5), ("bts", 0.9)):
        item = (rng.random(rows) < share).astype(np.int64)
        table = {
            "item_id": item,
            "position": np.arange(rows) % 3 + 1,
            "click": ((item == 1) & (rng.random(rows) < 0.5)).astype(np.int64),
            "propensity_score": np.where(item == 1, share, 1 - share),
        }
        pq.write_table(pa.table(table), directory / f"{policy}_men.parquet")
    return directory


def test_each_policy_is_found_from_the_log_of_the_other(tmp_path: Path) -> None:
    backward, forward = cases(write_bandit(tmp_path), ("men",), seed=1)
    assert (backward.logged, backward.target, forward.logged, forward.target) == ("bts", "random", "random", "bts")
    for case, worth in ((backward, 0.25), (forward, 0.45)):
        for estimate, against in zip(case.evaluation.estimates, case.against, strict=False):
            assert against.agrees and estimate.low <= worth <= estimate.high, estimate.name
        assert not case.against[-1].agrees  # the log's own mean is another policy's
    assert forward.truth_rows == 1_500  # the half that the shares have not seen
    assert forward.shares_check is not None and forward.shares_check["distance"] < 0.02


@pytest.mark.skipif(
    not OPEN_BANDIT.is_dir(), reason="the Open Bandit logs are not beside this checkout (shared/data/open-bandit)"
)
def test_shares_that_are_not_the_logged_ones_show() -> None:
    log = read_log(OPEN_BANDIT, "bts", "men")
    share = frequencies(log)
    assert check_shares(log, share)["distance"] < 0.1
    assert check_shares(log, share[:, ::-1])["distance"] > 0.4


@pytest.mark.skipif(
    not OPEN_BANDIT.is_dir(), reason="the Open Bandit logs are not beside this checkout (shared/data/open-bandit)"
)
def test_open_bandit_holds_its_own_truth() -> None:
    """The few clicks of 10,000 rows leave wide intervals; weighting agrees with the truth in all six cases."""
    found = list(cases(OPEN_BANDIT, CAMPAIGNS, seed=1))
    agreed = {row["name"]: row["agrees"] for row in summary(found)}
    assert {agreed[name] for name in ("ips", "snips", "dr", "sndr")} == {6}
    by_case = {(case.campaign, case.logged): case for case in found}
    assert by_case["men", "bts"].truth.value == 0.0046
    for campaign, articles in (("all", 80), ("men", 34), ("women", 46)):
        assert by_case[campaign, "random"].evaluation.support.effective_rows > 2_000
        log = read_log(OPEN_BANDIT, "random", campaign)
        assert log.actions == articles and np.allclose(log.propensity, 1 / articles)
    # One row of the women's bts log had a chance of one in a million: nothing is to be believed of it.
    women = by_case["women", "bts"].evaluation.support
    assert women.effective_rows < 3
    assert {c.code for c in women.cautions} == {"few-effective-rows", "few-rewards", "one-row-decides"}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("propensity_score", 0.0, "random_men.parquet, column propensity, row 7: 0.0"),
        ("propensity_score", None, "random_men.parquet, column propensity, row 7: nan"),
        ("propensity_score", 1.5, "random_men.parquet, column propensity, row 7: 1.5"),
        ("click", None, "random_men.parquet, column reward, row 7: nan"),
        ("position", 4, "random_men.parquet, column position, row 7: 3; allowed are 0 to 2"),
        ("item_id", 0.5, "random_men.parquet, column item_id, row 7: 0.5; a whole number is wanted"),
        ("item_id", None, "random_men.parquet, column item_id, row 7: nan; a whole number is wanted"),
    ],
)
def test_a_wrong_row_of_a_file_is_named(tmp_path: Path, column: str, value: float | None, message: str) -> None:
    file = write_bandit(tmp_path, 60) / "random_men.parquet"
    rows = pq.read_table(file).to_pydict()
    rows[column][7] = value
    if isinstance(value, float):
        rows[column] = [float(number) for number in rows[column]]
    pq.write_table(pa.table(rows), file)
    with pytest.raises(DataError, match=message):
        read_log(tmp_path, "random", "men")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no random_all\.parquet; --path is the folder"):
        read_log(tmp_path, "random", "all")
    (tmp_path / "random_all.parquet").write_text("no table")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_log(tmp_path, "random", "all")
    pq.write_table(pa.table({"item_id": [1], "position": [1]}), tmp_path / "random_all.parquet")
    with pytest.raises(DataError, match="column click: missing"):
        read_log(tmp_path, "random", "all")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["offline", "counterfactual", *arguments])
    return result.exit_code, result.stdout, result.stderr or str(result.exception)


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    code, out, told = run("--data", "open-bandit", "--path", str(write_bandit(tmp_path)), "--campaign", "men", "--json")
    report = json.loads(out)
    assert code == 0 and len(report["cases"]) == 2
    assert "do not depend on the visitor" in report["assumption"]
    assert {row["name"] for row in report["summary"]} >= {"ips", "snips", "dr", "logged mean"}
    assert "doubly robust (DR)" in told and "tell as much as" in told


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    code, _, told = run("--data", "open-bandit")
    assert code != 0 and "give --path" in told
    code, _, told = run("--data", "archive", "--path", str(tmp_path), "--target", "even")
    assert code != 0 and "--target even is for synthetic" in told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ShownWorld:
    directory = tmp_path_factory.mktemp("world") / "world"
    write_world(WorldSize(customers=1_200, articles=120, days=30, seed=2), directory, oracle_customers=1)
    return ShownWorld(directory, to_micros(WorldSize().date(9)))


@pytest.mark.parametrize("target", ["even", "demand", "taste"])
def test_the_worlds_true_value_of_another_policy_is_recovered(world: ShownWorld, target: str) -> None:
    found = evaluate(world.log(), world.shares(target), seed=1, resamples=0)
    truth = world.true_value(target)
    assert len(world.shown) > 5_000
    for estimate in found.estimates:
        if estimate.name in ("ips", "snips", "dr", "sndr"):
            assert abs(estimate.value - truth) < 4 * estimate.standard_error, estimate.name
    if target == "taste":  # what is shown by taste is viewed far more often, and the log alone would not say so
        assert truth > 2 * found.logged.high
        assert found.support.effective_rows < len(world.shown) / 2


def test_the_true_value_of_what_was_shown_is_the_worlds_own_chance(world: ShownWorld) -> None:
    own = world.true_value_of(world.shown.article)
    expected = evaluate(world.log(), world.shares("even"), seed=1, resamples=0).logged
    assert abs(own - expected.value) < 4 * expected.standard_error
    assert world.true_value_of(np.full(len(world.shown), "", object)) == 0


def archive(directory: Path, *messages: bytes) -> Path:
    topic = TopicArchive(directory, IMPRESSIONS)
    topic.prepare()
    rows = [
        {"generation": 0, "partition": 0, "offset": n, "occurred_at": NOON, "key": b"c", "value": value}
        for n, value in enumerate(messages)
    ]
    n = len(rows)
    segment = Segment(topic=IMPRESSIONS, partition=0, generation=0, first=0, last=n - 1, rows=n, skipped=0, digest="")
    topic.write_segment(segment, pa.Table.from_pylist(rows, RAW_COLUMNS))
    return directory


def impression(
    request: str, customer: str, shown_at: datetime, *articles: str, chances: tuple[float | None, ...] = ()
) -> bytes:
    items = [
        ShownItem(article_id=article, position=n, score=0.0, source="popular", propensity=chance)
        for n, (article, chance) in enumerate(zip(articles, chances or (None,) * len(articles), strict=True), start=1)
    ]
    return encode_impression(
        Impression(
            request_id=request,
            customer_id=customer,
            bundle_id="b",
            strategy="popular",
            variant="default",
            items=items,
            shown_at=shown_at,
        )
    )


def test_archived_impressions_come_in_time_order_and_once(tmp_path: Path) -> None:
    later = impression("r-2", "bo", NOON, "hat", "shoe", chances=(0.25, None))
    first = impression("r-1", "anna", NOON - timedelta(hours=1), "hat")
    found = read_impressions(archive(tmp_path, later, first, b"{no impression", later))
    assert found.shown.request.tolist() == ["r-1", "r-2", "r-2"]
    assert found.shown.position.tolist() == [0, 0, 1]
    assert found.shown.propensity.tolist() == [1.0, 0.25, 1.0]  # what was not drawn had to stand there
    assert (found.unreadable, found.repeated) == (1, 1)
    assert found.drawn == pytest.approx(1 / 3)


@pytest.mark.parametrize("chance", [0.0, 1.01, -1.0])
def test_an_impossible_propensity_in_the_archive_is_named(tmp_path: Path, chance: float) -> None:
    directory = archive(tmp_path, impression("r-9", "bo", NOON, "hat", chances=(chance,)))
    with pytest.raises(DataError, match="request r-9, article hat: position 1, propensity"):
        read_impressions(directory)


def test_no_archive_says_who_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="streams archiver"):
        read_impressions(tmp_path)


def shown(*rows: tuple[str, str, str, int, datetime]) -> Shown:
    request, customer, article, position, at = zip(*rows, strict=True)
    return Shown(
        np.array(request, object),
        np.array(customer, object),
        np.array(article, object),
        np.array(position, np.int64),
        np.ones(len(rows)),
        np.array([to_micros(moment) for moment in at], np.int64),
    )


def test_the_reward_is_a_purchase_within_the_horizon(tiny: Tiny) -> None:
    """Customer 0 buys top-0 at the start of each Monday and never a shoe."""
    me, top, shoe = customer_id(0), article_number("top", 0), article_number("shoe", 0)
    (bought,) = {
        event["occurred_at"]
        for event in tiny.log.read(NOON - timedelta(days=1), NOON + timedelta(days=1)).to_pylist()
        if event["customer_id"] == me and event["article_id"] == top
    }
    day = timedelta(days=1)
    rows = shown(
        ("a", me, top, 0, bought - day),
        ("b", me, top, 0, bought - day - timedelta(microseconds=1)),
        ("c", me, top, 0, bought),  # shown at the moment of the purchase: the next is a week away
        ("d", me, shoe, 0, bought - day),
        ("e", customer_id(1), top, 0, bought - day),
    )
    assert bought_within(rows, tiny.log, day).tolist() == [1, 0, 0, 0, 0]
    assert bought_within(rows, tiny.log, 7 * day).tolist() == [1, 1, float(bought + 7 * day <= tiny.log.span[1]), 0, 0]
    end = tiny.log.span[1]
    edge = shown(("a", me, top, 0, end - day), ("b", me, top, 0, end - day + timedelta(microseconds=1)))
    assert finished(edge, tiny.log, day).request.tolist() == ["a"]


def test_a_strategys_lists_know_what_was_known_then(tiny: Tiny) -> None:
    """Someone who buys tops is shown tops again by repurchase; before the first purchase there is nothing to repeat."""
    learned = tiny.runtime.manifest.trained_through
    me = customer_id(0)
    rows = shown(
        ("early", me, "x", 0, tiny.log.span[0]),
        ("now", me, "x", 0, learned + timedelta(hours=1)),
        ("now", me, "y", 1, learned + timedelta(hours=1)),
    )
    histories = load_histories(tiny.log)
    lists = strategy_lists(tiny.runtime, "repurchase", histories, rows)
    assert all(article.startswith("01") for article in lists[1:]) and lists[1] != lists[2]
    own = set(lists[1:].tolist())
    before = tiny.log.read(until=learned + timedelta(hours=1))
    bought = {e["article_id"] for e in before.to_pylist() if e["customer_id"] == me}
    assert own <= bought
    assert after_training(rows, tiny.runtime).request.tolist() == ["now", "now"]
    with pytest.raises(BundleError, match="would know what came of them"):
        after_training(rows.take(np.array([True, False, False])), tiny.runtime)


def test_lists_that_were_not_drawn_leave_bounds(tiny: Tiny) -> None:
    """Popular was shown; repurchase agrees in some places, and of the others the log knows nothing."""
    at = tiny.runtime.manifest.trained_through + timedelta(hours=1)
    asked = shown(*(("r" + customer_id(n), customer_id(n), "?", place, at) for n in range(8) for place in range(3)))
    histories = load_histories(tiny.log)
    popular = strategy_lists(tiny.runtime, "popular", histories, asked)
    rows = Shown(asked.request, asked.customer, popular, asked.position, asked.propensity, asked.shown_at)
    reward = bought_within(rows, tiny.log, timedelta(days=7))
    wanted = strategy_lists(tiny.runtime, "repurchase", histories, rows)
    found = evaluate(*listed_log(rows, reward, "impressions", wanted), seed=1)
    same = wanted == popular
    assert 0 < same.mean() < 1
    assert found.estimates == () and found.bounds is not None
    assert found.bounds == pytest.approx(((reward * same).mean(), (reward * same).mean() + 1 - same.mean()))
    assert from_micros(int(rows.shown_at[0])) == at
