"""A toy catalogue's features by article and name."""

from __future__ import annotations

import numpy as np

from serving.retrieval.candidates import UNRANKED, CandidateSet
from serving.retrieval.query import Query
from streams.bundle_contract import FEATURES, SOURCES
from tests.support.toy_catalog import IDS, catalog, event

CATALOG = catalog()
# Three trips: 40, 20 and 10 days ago.
PAST = (
    event(60, "bread", price=4.0, n=2),
    event(80, "bread"),
    event(80, "milk", price=1.5),
    event(90, "bread"),
)
LOOKED = ("viewed_decayed", "viewed_last_days", "carted_last_days")


def features(given: Query, *articles: str) -> dict[str, dict[str, float]]:
    """Feature by article and name, for candidates found by `popular` at ranks 0, 1, 2..."""
    rows = np.array([IDS.index(a) for a in articles], np.int64)
    shape = (len(rows), len(SOURCES))
    ranks = np.full(shape, UNRANKED, np.float32)
    ranks[:, SOURCES.index("popular")] = np.arange(len(rows))
    table = CATALOG.features.build(given, CandidateSet(SOURCES, rows, ranks))
    assert table.shape == (len(articles), len(FEATURES))
    assert table.dtype == np.float32
    return {a: dict(zip(FEATURES, row.tolist(), strict=True)) for a, row in zip(articles, table, strict=True)}


def block(found: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: found[name] for name in names}
