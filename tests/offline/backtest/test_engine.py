"""A backtest knows no more than was known, says so when it would, and ends alike however often it was killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infra.bundle import Bundle
from infra.errors import BundleError, ConfigurationError, GateError
from offline.backtest.builder import BundleBuilder
from offline.backtest.engine import Backtest
from offline.backtest.inprocess import InProcess
from offline.backtest.ledger import Ledger
from offline.backtest.plan import Contender, Step
from offline.backtest.reveal import truth
from offline.backtest.runner import Runner
from offline.event_log import EventLog
from offline.run import limit_threads
from offline.shop import Shop
from serving.golden import open_runtime
from serving.messages import RecommendationRequest, Recommendations
from streams.bundle_contract import FEATURES
from streams.encoder import onnx_session
from streams.replay import replay_states
from streams.state_format import encode_state
from tests.offline.backtest.toy_backtest import CUSTOMERS, PLAN, START, WEEK, run_backtest, toy_log

REPOSITORY = Path(__file__).parents[3]
PLANTED = START + 6 * WEEK  # the cut of step 1
NOTHING_NEW, NEW = [0, 1], 2


@dataclass
class Known:
    """ledger: what was predicted · catalogues: by step, article -> price of the bundle that answered."""

    ledger: Ledger
    catalogues: dict[int, dict[str, float]]

    def said(self, number: int) -> pa.Table:
        return self.ledger.predictions(number).drop_columns("ms")


def known(log: EventLog, ledger: Path, data_dir: Path) -> Known:
    catalogues: dict[int, dict[str, float]] = {}

    def look(step: Step, bundles: Mapping[str, Bundle]) -> None:
        items = open_runtime(bundles["full"]).items
        catalogues[step.number] = dict(zip(items.article_ids, items.prices.tolist(), strict=True))

    return Known(run_backtest(log, ledger, data_dir, afterwards=look), catalogues)


@dataclass
class Two:
    """The same shop with and without what was planted, and where their networks lie."""

    plain: EventLog
    planted: EventLog
    data_dir: Path
    without: Known


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    limit_threads(1)  # as in the tests themselves: this comes before what is done for each of them
    directory = tmp_path_factory.mktemp("two")
    hour = timedelta(hours=1)
    purchases = [(PLANTED + n * hour, who, "shoe-3", 10.0) for n, who in enumerate(CUSTOMERS)]
    purchases += [(PLANTED + hour, who, "hat-0", 50.0) for who in CUSTOMERS]
    told = [("hat-0", 50.0, PLANTED), ("top-0", 99.0, PLANTED + hour)]
    plain, planted = toy_log(directory / "plain"), toy_log(directory / "planted", purchases, told)
    return Two(plain, planted, directory / "data", known(plain, directory / "without", directory / "data"))


def leaks(one: Known, other: Known) -> list[str]:
    """What of the future stands in steps whose cuts lie before it."""
    found = [f"lists of step {n}" for n in NOTHING_NEW if not one.said(n).equals(other.said(n))]
    return found + [f"catalogue of step {n}" for n in NOTHING_NEW if one.catalogues[n] != other.catalogues[n]]


def test_a_future_purchase_article_and_price_change_nothing_before_their_time(two: Two, tmp_path: Path) -> None:
    """All three stand in step 1, some at its very cut; steps 0 and 1 must not know, and step 2 must."""
    seen = known(two.planted, tmp_path, two.data_dir)
    assert leaks(two.without, seen) == []
    assert not two.without.said(NEW).equals(seen.said(NEW))
    before, after = two.without.catalogues[NEW], seen.catalogues[NEW]
    assert (before["top-0"], after["top-0"]) == (10.0, 99.0)
    assert "hat-0" not in before and "hat-0" in after
    popular = [row for row in seen.said(NEW).to_pylist() if row["contender"] == "popular"]
    assert all("hat-0" in row["article_ids"] for row in popular)


def later_shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles count, and know articles, up to a week after their cut."""
    shop = BundleBuilder._shop

    def mutant(self: BundleBuilder, cut: datetime) -> Shop:
        return shop(self, cut + WEEK)

    monkeypatch.setattr(BundleBuilder, "_shop", mutant)


def later_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """States, and what is asked of them, are a week ahead."""
    fold, answer = InProcess.fold, InProcess.answer

    async def fold_mutant(self: InProcess, log: EventLog, start: datetime | None, until: datetime) -> Any:
        return await fold(self, log, None if start is None else start + WEEK, until + WEEK)

    async def answer_mutant(self: InProcess, requests: list[RecommendationRequest], now: datetime) -> Any:
        return await answer(self, requests, now + WEEK)

    monkeypatch.setattr(InProcess, "fold", fold_mutant)
    monkeypatch.setattr(InProcess, "answer", answer_mutant)


def last_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Articles cost what they cost at the end of the log."""
    articles = EventLog.articles

    def mutant(self: EventLog, until: datetime | None = None) -> pa.Table:
        found, last = articles(self, until), articles(self)
        prices = dict(zip(last["article_id"].to_pylist(), last["price"].to_pylist(), strict=True))
        late = pa.array([prices[article] for article in found["article_id"].to_pylist()], pa.float64())
        return found.set_column(found.column_names.index("price"), "price", late)

    monkeypatch.setattr(EventLog, "articles", mutant)


@pytest.mark.parametrize("mutate", [later_shop, later_state, last_prices])
def test_without_the_bound_the_same_check_fails(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """The check above is worth something only if it sees what it looks for."""
    mutate(monkeypatch)
    plain = known(two.plain, tmp_path / "plain", two.data_dir)
    assert leaks(plain, known(two.planted, tmp_path / "planted", two.data_dir)) != []


def test_articles_of_the_future_make_no_bundle_at_all(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the bound on articles is taken away, vectors are held to a second one, and the two no longer agree."""
    articles = EventLog.articles
    monkeypatch.setattr(EventLog, "articles", lambda self, until=None: articles(self))
    with pytest.raises(BundleError, match=r"item_vectors.npy has shape \(8, 16\), items.parquet 9 rows"):
        run_backtest(two.planted, tmp_path, two.data_dir)


def test_who_is_asked_in_a_step_comes_in_it_and_gets_what_all_get(two: Two, tmp_path: Path) -> None:
    """Asked or not, a list is the same: the labels choose who is asked, never what is answered."""
    ledger = run_backtest(two.plain, tmp_path, two.data_dir, replace(PLAN, everyone=False))
    for step in PLAN.steps:
        asked = ledger.predictions(step.number).drop_columns("ms")
        assert set(asked["customer_id"].to_pylist()) == set(truth(ledger, two.plain, step).customers)
        assert asked.sort_by("contender").equals(two.without.said(step.number).sort_by("contender"))


def test_states_are_those_of_the_log_at_the_cut(two: Two, tmp_path: Path) -> None:
    runner = InProcess()

    def compare(step: Step, bundles: Mapping[str, Bundle]) -> None:
        expected = replay_states(two.plain.scan(until=step.cut))
        found = asyncio.run(runner.store.load(CUSTOMERS))
        states = {stored.state.customer_id: stored.state for stored in found if stored is not None}
        assert {c: encode_state(s) for c, s in states.items()} == {c: encode_state(s) for c, s in expected.items()}

    run_backtest(two.plain, tmp_path, two.data_dir, afterwards=compare, runner=runner)


def test_a_bundle_grown_from_step_to_step_is_that_of_one_reading(two: Two, tmp_path: Path) -> None:
    """The third bundle by three rebuilds, and by a backtest that needs it first."""
    grown, at_once = (BundleBuilder(two.plain, PLAN, tmp_path / name, two.data_dir) for name in ("grown", "once"))
    (tmp_path / "grown").mkdir()
    (tmp_path / "once").mkdir()
    for step in PLAN.steps:
        last = grown.bundle(step)
    assert at_once.bundle(PLAN.steps[-1]).bundle_id == last.bundle_id
    assert last.manifest.trained_through == PLAN.steps[-1].cut
    assert sorted(path.name for path in (tmp_path / "grown").iterdir()) == ["bundle-0001", "bundle-0002"]


def test_networks_learn_from_nothing_younger_than_the_label_delay(two: Two, tmp_path: Path) -> None:
    """A purchase in the hours before the first cut counts in the index and in states, but teaches no network."""
    late = [(PLAN.start - timedelta(hours=n), who, "shoe-3", 10.0) for n, who in enumerate(CUSTOMERS, start=1)]
    log = toy_log(tmp_path / "late", late)
    plain, delayed = (
        BundleBuilder(one, PLAN, tmp_path / name, two.data_dir).bundle(PLAN.steps[0])
        for name, one in (("plain", two.plain), ("delayed", log))
    )
    assert plain.manifest.files["item_vectors.npy"] == delayed.manifest.files["item_vectors.npy"]
    rows = np.random.default_rng(5).normal(size=(64, len(FEATURES))).astype(np.float32)
    scores = [onnx_session(str(b.file("ranker.onnx"))).run(None, {"features": rows})[0] for b in (plain, delayed)]
    np.testing.assert_array_equal(*scores)
    assert plain.manifest.files["statistics.npz"] != delayed.manifest.files["statistics.npz"]


def test_killed_half_way_and_started_again_it_ends_with_the_same_numbers(two: Two, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.offline.backtest.toy_backtest"]
    arguments = [str(two.plain.path), str(tmp_path), str(two.data_dir)]
    with subprocess.Popen([*command, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "sealed 0\n"
        child.kill()
    assert child.returncode == -9
    sealed = Ledger(tmp_path).sealed
    assert sealed[0] == 0 and len(sealed) < len(PLAN.steps)
    untouched = (tmp_path / "step-0000.parquet").stat().st_mtime_ns

    ledger = run_backtest(two.plain, tmp_path, two.data_dir)
    assert (tmp_path / "step-0000.parquet").stat().st_mtime_ns == untouched
    for step in PLAN.steps:
        before, after = two.without.ledger.note(step.number), ledger.note(step.number)
        assert ledger.predictions(step.number).drop_columns("ms").equals(two.without.said(step.number))
        for name in ("cut", "until", "bundle_ids", "trained_through", "events", "outcomes", "customers", "learned"):
            assert getattr(before, name) == getattr(after, name), name


def test_a_finished_backtest_opens_no_runner(two: Two, tmp_path: Path) -> None:
    async def never() -> Runner:
        raise AssertionError("opened")

    directory = two.without.ledger.directory
    builder = BundleBuilder(two.plain, PLAN, directory, two.data_dir)
    asyncio.run(Backtest(two.plain, PLAN, two.without.ledger, builder, {}).run(never))


@dataclass
class Telling:
    """Builds as told, and says when it begins."""

    builder: BundleBuilder
    begun: dict[int, threading.Event]

    def bundle(self, step: Step) -> Bundle:
        self.begun[step.number].set()
        return self.builder.bundle(step)


def test_the_next_bundle_is_begun_before_this_step_is_answered(two: Two, tmp_path: Path) -> None:
    """In process no answer ever waits, so nothing that only stands in line would come to its turn."""
    begun = {step.number: threading.Event() for step in PLAN.steps}
    seen: list[bool] = []

    class Watching(InProcess):
        async def answer(self, requests: Sequence[RecommendationRequest], now: datetime) -> list[Recommendations]:
            later = [step.number for step in PLAN.steps if step.cut > now][:1]
            seen.extend(begun[number].wait(20) for number in later)
            return await super().answer(requests, now)

    async def open_runner() -> Runner:
        return Watching()

    (tmp_path / "bundles").mkdir()
    builder = Telling(BundleBuilder(two.plain, PLAN, tmp_path / "bundles", two.data_dir), begun)
    asyncio.run(Backtest(two.plain, PLAN, Ledger(tmp_path), builder, {}).run(open_runner))
    assert seen == [True, True]


def test_a_given_bundle_that_has_seen_the_days_it_would_predict_is_refused(two: Two) -> None:
    directory = two.without.ledger.directory
    bundle = BundleBuilder(two.plain, PLAN, directory, two.data_dir).bundle(PLAN.steps[-1])
    plan = replace(PLAN, contenders=(*PLAN.contenders, Contender("given", "full", bundle.bundle_id)))
    builder = BundleBuilder(two.plain, plan, directory, two.data_dir)
    with pytest.raises(BundleError, match=r"has seen what happened until 2020-07-20.*begin with --from 2020-07-20"):
        Backtest(two.plain, plan, two.without.ledger, builder, {bundle.bundle_id: bundle})


def test_labels_of_a_step_are_not_read_before_its_answers_are_sealed(two: Two, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="answers come first"):
        truth(Ledger(tmp_path), two.plain, PLAN.steps[0])


def test_a_backtest_with_nothing_to_learn_from_is_refused(two: Two, tmp_path: Path) -> None:
    plan = replace(PLAN, start=START + timedelta(days=1), end=START + timedelta(days=8))
    with pytest.raises(ConfigurationError, match=r"nothing to learn from; begin later"):
        BundleBuilder(two.plain, plan, tmp_path, two.data_dir)
