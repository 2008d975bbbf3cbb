"""Contenders that share what they have in common answer exactly as contenders that share nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infra.clock import ManualClock
from offline import shared_catalog
from offline.contenders import RankerOff, ask, contenders, shown
from offline.evaluate import Evaluation, evaluate
from offline.histories import load_histories
from offline.progress import Step
from offline.shared_catalog import SharedCatalog
from serving.features import FeatureBuilder
from serving.index import VectorIndex
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.ranking import Ranker
from serving.retrieval.candidates import Floats
from streams.events import from_micros, to_micros
from tests.support.tiny import CUSTOMERS, article_number, customer_id
from tests.support.tiny_fixture import Tiny


class Recording(Ranker):
    """Keeps the bytes of the features that it is asked to score."""

    def __init__(self, ranker: Ranker, sign: float = 1.0) -> None:
        self._ranker, self._sign = ranker, sign
        self.tasks = ranker.tasks
        self.seen: list[bytes] = []

    def score(self, features: Floats) -> Floats:
        self.seen.append(np.ascontiguousarray(features).tobytes())
        return np.asarray(self._sign * self._ranker.score(features), np.float32)


def judged(tiny: Tiny) -> Evaluation:
    items = tiny.runtime.items.index
    truth = {customer_id(n): {items[article_number("shoe", n % 6)]: 9.5} for n in range(CUSTOMERS)}
    truth |= {f"stranger-{n}": {items[article_number("hat", 0)]: 1.0} for n in range(2)}
    return evaluate(
        tiny.runtime,
        load_histories(tiny.log),
        truth,
        to_micros(tiny.runtime.manifest.trained_through),
        Step("evaluate", 1, None),
        seed=1,
        peers={"upside-down": Recording(tiny.runtime.ranker, -1.0)},
    )


def test_figures_are_those_of_contenders_that_share_nothing(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = judged(tiny)
    monkeypatch.setattr(shared_catalog, "REMEMBERED", 1)
    forgetful = judged(tiny)
    monkeypatch.setattr(SharedCatalog, "of", lambda catalog: catalog)
    separate = judged(tiny)
    assert json.dumps(shared.report()) == json.dumps(separate.report())
    assert json.dumps(forgetful.report()) == json.dumps(separate.report())
    assert len({json.dumps(row) for row in separate.metrics.values()}) > 5  # there is something to confuse


def test_features_and_answers_of_an_ablation_are_those_of_its_own_pipeline(tiny: Tiny) -> None:
    cut = to_micros(tiny.runtime.manifest.trained_through)
    # Depths at which a source alone finds some of the candidates, so that taking it away changes the others' places.
    retrieval = replace(tiny.runtime.catalog.retrieval, depth=dict.fromkeys(tiny.runtime.catalog.retrieval.depth, 3))
    runtime = replace(tiny.runtime, catalog=replace(tiny.runtime.catalog, retrieval=retrieval))
    asked = ask(runtime, load_histories(tiny.log), [*map(customer_id, range(CUSTOMERS)), "stranger"], cut)
    sizes = set()
    sharing: Any = replace(runtime, ranker=Recording(runtime.ranker))
    everyone = contenders(sharing, cut, {})
    for contender in everyone:
        recorder: Any = Recording(runtime.ranker)
        own = replace(runtime, ranker=recorder)
        clock = ManualClock(from_micros(cut))
        if isinstance(contender.pipeline, RankerOff):
            pipeline: Pipeline = RankerOff(own, clock)
        else:
            left_out = [s.name for s in runtime.catalog.sources if contender.name == f"full without {s.name}"]
            pipeline = Pipeline(own, clock, without=left_out)
        sharing.ranker.seen.clear()
        rows = shown([everyone[0], contender], asked, Step("evaluate", 1, None))[contender.name]
        requests = [
            RecommendationRequest(request_id=c, customer_id=c, k=100, strategy=contender.strategy)
            for c in asked.customers
        ]
        expected = pipeline.recommend(requests, asked.stored)
        ids = [[runtime.items.article_ids[row] for row in mine if row >= 0] for mine in rows.tolist()]
        assert ids == [[item.article_id for item in answer.items] for answer in expected]
        assert not recorder.seen or sharing.ranker.seen[-len(recorder.seen) :] == recorder.seen
        sizes |= {len(seen) for seen in recorder.seen}
    assert len(sizes) > 3


def test_what_a_source_finds_and_what_features_say_is_asked_for_once(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = to_micros(tiny.runtime.manifest.trained_through)
    histories = load_histories(tiny.log)
    searched: Counter[int] = Counter()
    search = VectorIndex.search

    def counted(index: VectorIndex, queries: Floats, k: int) -> Any:
        searched[k] += len(queries)
        return search(index, queries, k)

    asked = ask(tiny.runtime, histories, [*map(customer_id, range(10))], cut)
    everyone = contenders(tiny.runtime, cut, {})
    built: list[int] = []
    own = FeatureBuilder._own

    def noted(builder: FeatureBuilder, *given: Any) -> Any:
        built.append(1)
        return own(builder, *given)

    monkeypatch.setattr(VectorIndex, "search", counted)
    monkeypatch.setattr(FeatureBuilder, "_own", noted)
    shown(everyone, asked, Step("evaluate", 1, None))
    depth = tiny.runtime.catalog.retrieval.depth
    of_full = Counter(depth[name] for name in ("collab", "two_tower", "content"))
    # The strategies of one source and the blend of the three look deeper, at one and the same depth.
    assert searched == Counter({k: 10 * times for k, times in of_full.items()}) + Counter({1_000: 30})
    assert len(built) == 10
