"""What happens after the cut changes nothing that is known at the cut: no state, no feature, no candidate, no score;
and what happens after the test window changes no metric either."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from infra.clock import ManualClock
from infra.registry import Registry
from offline.evaluate import evaluate
from offline.event_log import EventLog, import_data
from offline.histories import load_histories
from offline.progress import Step
from offline.run import OfflineRun
from offline.window import Window
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.retrieval.candidates import CandidateSet, Floats
from streams.events import to_micros
from streams.histories import Histories
from streams.store import StoredCustomer
from tests.support.tiny import CUSTOMERS, TINY, article_number, customer_id, plant, write_tiny_shop
from tests.support.tiny_fixture import Tiny

CUT = datetime(2020, 7, 20, tzinfo=UTC)
END = CUT + timedelta(days=7)


def future(first: datetime) -> list[tuple[datetime, str, str, float]]:
    """Every customer crosses camps at another price, some come anew, and the article nobody had bought sells."""
    return [
        *((first + timedelta(days=n % 2), customer_id(n), article_number("top", n % 6), 777.0) for n in range(24)),
        *((first, customer_id(n), article_number("hat", 0), 999.0) for n in range(24)),
        *((first, f"newcomer-{n}", article_number("shoe", 5), 0.5) for n in range(9)),
    ]


@pytest.fixture(scope="module")
def planted(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    """The tiny shop with another future."""
    directory = tmp_path_factory.mktemp("planted")
    shop = write_tiny_shop(directory / "shop")
    plant(shop, future(CUT))
    return import_data("hm", shop, directory / "log")


def ranked(tiny: Tiny, histories: Histories) -> list[tuple[CandidateSet, Floats]]:
    """Candidates and features of every customer at the cut, with states as the histories give them."""
    cut, runtime = to_micros(CUT), tiny.runtime
    customers = [*map(customer_id, range(CUSTOMERS)), "newcomer-1"]
    requests = [RecommendationRequest(request_id=c, customer_id=c) for c in customers]
    stored = [None if (state := histories.state(c, cut)) is None else StoredCustomer(state) for c in customers]
    found = Pipeline(runtime, ManualClock(CUT)).candidates(requests, stored)
    return [(candidates, runtime.catalog.features.build(query, candidates)) for query, candidates in found]


def test_candidates_and_features_are_those_of_the_cut(tiny: Tiny, planted: EventLog) -> None:
    seeing, blind = load_histories(planted), load_histories(tiny.log, CUT)
    assert len(seeing) > len(blind)
    for (one, features), (other, expected) in zip(ranked(tiny, seeing), ranked(tiny, blind), strict=True):
        np.testing.assert_array_equal(one.item_idx, other.item_idx)
        np.testing.assert_array_equal(one.ranks, other.ranks)
        np.testing.assert_array_equal(features, expected)


def test_a_judge_who_holds_the_future_says_the_same(tiny: Tiny, planted: EventLog) -> None:
    """Metrics, segments, new articles, staleness, calibration, examples: from histories with and without a future."""
    truth = {customer_id(n): {tiny.runtime.items.index[article_number("hat", 0)]: 999.0} for n in range(6)}
    truth["newcomer-1"] = {tiny.runtime.items.index[article_number("shoe", 5)]: 0.5}
    said = [
        evaluate(tiny.runtime, histories, truth, to_micros(CUT), Step("evaluate", 1, None), seed=1).report()
        for histories in (load_histories(planted), load_histories(tiny.log, CUT))
    ]
    assert json.dumps(said[0]) == json.dumps(said[1])
    assert said[0]["cold_articles"]["purchases"] == 6  # the hat is new, though the planted log sells it


@pytest.mark.slow
def test_what_follows_the_window_changes_no_metric_and_no_file(tiny: Tiny, tmp_path: Path) -> None:
    """A whole run after its training: staging, evaluation, gates and report."""
    shop = write_tiny_shop(tmp_path / "shop")
    plant(shop, future(END))
    log = import_data("hm", shop, tmp_path / "log")
    job = OfflineRun(log, Window(CUT, 7), TINY, tmp_path / "runs", ManualClock(CUT))
    (trained,) = (tiny.directory / "runs").iterdir()
    shutil.copytree(trained, job.directory)
    registry = Registry(f"file://{tmp_path / 'registry'}")
    bundle = registry.open(job.execute(registry, "production", activate_anyway=True).bundle_id)
    assert bundle.manifest.metrics == tiny.bundle.manifest.metrics
    assert set(bundle.manifest.files) == set(tiny.bundle.manifest.files)
    for name in bundle.manifest.files:
        if name not in ("report.json", "report.html"):
            assert bundle.file(name).read_bytes() == tiny.bundle.file(name).read_bytes(), name
    one, other = (json.loads(b.file("report.json").read_text()) for b in (bundle, tiny.bundle))
    assert one.pop("data") != other.pop("data")
    for report in (one, other):
        report.pop("seconds", None)
    assert one == other
