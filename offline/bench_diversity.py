"""What diversity costs and what it gives: lists of `full` for the week after a bundle's cut, by `diversity` asked for.

Everything but the order is shared: each customer's candidates and features are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from infra.clock import ManualClock
from infra.threads import answering
from offline import metrics as measure
from offline.bootstrap import Bootstrap
from offline.contenders import Asked, ask
from offline.metrics import Floats, Ints
from offline.progress import Step
from offline.shared_catalog import SharedCatalog
from offline.truth import Truth
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.runtime import Runtime
from streams.events import from_micros
from streams.histories import Histories

K = 12


def measure_diversity(
    runtime: Runtime,
    histories: Histories,
    bought: Mapping[str, Mapping[int, float]],
    cut: int,
    wanted: Sequence[float],
    progress: Step,
    *,
    seed: int = 1,
) -> list[dict[str, Any]]:
    """A row for each diversity wanted, the first of which the others are compared with: MAP@12 with the 95% interval of
    its difference, recall@12, mean distance within a list by content, and share of its pairs of two subcategories.

    Args:
        histories: states are taken strictly before `cut` (microseconds).
        bought: customer_id -> item_idx bought in the week after it.
    """
    truth = Truth.of(bought, len(runtime.items))
    asked = ask(runtime, histories, truth.customers, cut)
    shared = replace(runtime, catalog=SharedCatalog.of(runtime.catalog))
    lists = _lists(Pipeline(shared, ManualClock(from_micros(cut))), asked, wanted, progress)
    scores = {diversity: _scores(rows, truth, runtime) for diversity, rows in lists.items()}
    plain = scores[wanted[0]]["map@12"]
    found = []
    for diversity, by_name in scores.items():
        means = {name: round(float(np.nanmean(values)), 5) for name, values in by_name.items()}
        change = (
            Bootstrap(len(plain), seed).compare(by_name["map@12"], plain).report() if diversity != wanted[0] else {}
        )
        found.append({"diversity": diversity, **means, **({"map@12_change": change} if change else {})})
    return found


def _lists(pipeline: Pipeline, asked: Asked, wanted: Sequence[float], progress: Step) -> dict[float, Ints]:
    """By diversity int64[n, K] rows, -1 where a list has ended."""
    lists = {diversity: np.full((len(asked.first), K), -1, np.int64) for diversity in wanted}
    index = pipeline.runtime.items.index
    with answering():
        for chunk in asked.chunks():
            for diversity in wanted:
                requests = [
                    RecommendationRequest(request_id=c, customer_id=c, k=K, diversity=diversity)
                    for c in chunk.customers
                ]
                answers = pipeline.recommend(requests, chunk.stored)
                for row, answer in zip(lists[diversity][chunk.lots], answers, strict=True):
                    row[: len(answer.items)] = [index[item.article_id] for item in answer.items]
            progress.advance(len(chunk))
    return {diversity: rows[asked.lot] for diversity, rows in lists.items()}


def _scores(rows: Ints, truth: Truth, runtime: Runtime) -> dict[str, Floats]:
    hits = truth.hits(rows)
    return {
        "map@12": measure.average_precision(hits, truth.relevant, K),
        "recall@12": measure.recall(hits, truth.relevant, K),
        "content_distance": measure.dissimilarity(rows, runtime.catalog.content),
        "subcategory_diversity": measure.diversity(rows, runtime.items.codes["subcategory"]),
    }
