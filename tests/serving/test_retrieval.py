"""What each source finds, and how the finds of all become one set."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.history import history_of
from serving.pipeline import DEPTH, retrieve
from serving.retrieval.candidates import UNRANKED, Floats, Ints, Query, merge
from serving.retrieval.popular import Popular
from serving.retrieval.repurchase import Repurchase
from serving.retrieval.two_tower import TwoTower
from streams.events import to_micros
from streams.state import CustomerState
from tests.support.toy_catalog import IDS, POPULAR, TODAY, YOUNG, CountingEncoder, N, catalog, event, moment, state

CATALOG = catalog()


def query(customer: CustomerState | None, segment: int = 0) -> Query:
    vector = CountingEncoder().encode([customer])[0] if customer else np.zeros(N, np.float32)
    return Query(history_of(customer, CATALOG.items.index, to_micros(moment(TODAY))), vector, segment)


def find(rows: list[int], scores: list[float] | None = None) -> tuple[Ints, Floats]:
    return np.array(rows, np.int64), np.array(scores or [1.0] * len(rows), np.float32)


def test_merge_keeps_ranks_and_scores_of_each_source() -> None:
    found = merge(["repurchase", "popular"], [find([7, 3], [0.9, 0.5]), find([3, 5, 7], [30, 20, 10])])
    assert found.item_idx.tolist() == [7, 3, 5]
    assert found.ranks.tolist() == [[0, 2], [1, 0], [UNRANKED, 1]]
    assert found.scores.tolist() == [[np.float32(0.9), 10], [0.5, 30], [0, 20]]
    assert [found.found_by(row) for row in range(3)] == ["repurchase+popular", "popular+repurchase", "popular"]


def test_keep_drops_whole_rows() -> None:
    found = merge(["a", "b"], [find([7, 3]), find([3, 5])]).keep(np.array([False, True, True]))
    assert found.item_idx.tolist() == [3, 5]
    assert [found.found_by(0), found.found_by(1)] == ["b+a", "b"]


finds = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=12), min_size=1, max_size=4)


@given(finds)
def test_merge_is_the_union_without_duplicates(lists: list[list[int]]) -> None:
    names = [f"s{n}" for n in range(len(lists))]
    found = merge(names, [find(rows) for rows in lists])
    assert found.item_idx.tolist() == list(dict.fromkeys(row for rows in lists for row in rows))
    for place, item in enumerate(found.item_idx.tolist()):
        expected = [rows.index(item) if item in rows else UNRANKED for rows in lists]
        assert found.ranks[place].tolist() == expected
        ranked = sorted((rank, s) for s, rank in enumerate(expected) if rank < UNRANKED)
        assert found.found_by(place) == "+".join(names[s] for _, s in ranked)


def test_repurchase_prefers_often_and_lately() -> None:
    anna = state(event(10, "hat"), event(70, "bread"), event(90, "bread"), event(95, "milk"))
    (rows, scores), (none, _) = Repurchase().retrieve([query(anna), query(None)], 2)
    assert [IDS[row] for row in rows] == ["bread", "milk"]
    assert scores.tolist() == [np.float32(np.exp(-30 / 60) + np.exp(-10 / 60)), np.float32(np.exp(-5 / 60))]
    assert len(none) == 0


def test_popular_follows_the_segment() -> None:
    (all_rows, shares), (young_rows, _) = Popular(CATALOG.statistics).retrieve([query(None), query(None, 1)], 3)
    assert all_rows.tolist() == POPULAR[:3]
    assert young_rows.tolist() == YOUNG[:3]
    assert shares.tolist() == CATALOG.statistics.segment_share[0, :3].tolist()


def test_two_tower_finds_the_nearest_and_nothing_without_a_vector() -> None:
    anna = state(event(1, "hat"), event(2, "hat"), event(3, "milk"))
    (rows, scores), (none, _) = TwoTower(CATALOG.index).retrieve([query(anna), query(None)], 2)
    assert [IDS[row] for row in rows] == ["hat", "milk"]
    assert np.allclose(scores, [2 / 5**0.5, 1 / 5**0.5], atol=1e-3)
    assert len(none) == 0
    assert TwoTower(CATALOG.index).retrieve([], 2) == []


def test_sources_are_merged_customer_by_customer() -> None:
    anna, ben = query(state(event(90, "hat"))), query(state(event(90, "milk", customer="ben"), customer="ben"), 1)
    together = retrieve(CATALOG.sources, [anna, ben])
    for found, one in zip(together, [anna, ben], strict=True):
        (alone,) = retrieve(CATALOG.sources, [one])
        assert np.array_equal(found.item_idx, alone.item_idx)
        assert np.array_equal(found.ranks, alone.ranks)
    assert [IDS[found.item_idx[0]] for found in together] == ["hat", "milk"]
    assert together[0].sources == tuple(DEPTH)
    assert retrieve(CATALOG.sources, []) == []
