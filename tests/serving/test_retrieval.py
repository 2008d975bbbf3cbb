"""How the finds of all sources become one set, and what every source promises whatever the customer did."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.pipeline import retrieve
from serving.retrieval.candidates import UNRANKED, Floats, Ints, best, merge
from streams.bundle_contract import SOURCES
from streams.events import EVENT_TYPES, Event
from tests.support.toy_catalog import IDS, N, catalog, event, query, state

CATALOG = catalog()


def find(rows: list[int], scores: list[float] | None = None) -> tuple[Ints, Floats]:
    return np.array(rows, np.int64), np.array(scores or [1.0] * len(rows), np.float32)


def test_best_keeps_the_order_given_among_equals() -> None:
    rows, scores = best(np.array([5, 2, 9, 1]), np.array([1.0, 3.0, 1.0, 3.0]), 3)
    assert (rows.tolist(), scores.tolist()) == ([2, 1, 5], [3, 3, 1])
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 10))
def test_best_is_the_head_of_all_sorted(scores: list[int], k: int) -> None:
    rows = np.arange(len(scores))[::-1]
    expected = sorted(zip(rows.tolist(), scores, strict=True), key=lambda pair: -pair[1])[:k]
    found, values = best(rows, np.array(scores, np.float64), k)
    assert list(zip(found.tolist(), values.tolist(), strict=True)) == expected


def test_merge_keeps_the_ranks_of_each_source() -> None:
    found = merge(["repurchase", "popular"], [find([7, 3], [0.9, 0.5]), find([3, 5, 7], [30, 20, 10])])
    assert found.item_idx.tolist() == [7, 3, 5]
    assert found.ranks.tolist() == [[0, 2], [1, 0], [UNRANKED, 1]]
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


events = st.lists(
    st.builds(
        lambda day, article, kind, price: event(day, article, type=kind, price=price),
        st.integers(0, 120),
        st.sampled_from([*IDS, "wine"]),
        st.sampled_from(EVENT_TYPES),
        st.none() | st.floats(0, 1e4),
    ),
    max_size=12,
)


@settings(max_examples=30)
@given(events, st.integers(1, N + 3), st.sampled_from([None, "young"]))
def test_no_source_gives_a_row_twice_or_more_than_asked(past: list[Event], k: int, segment: str | None) -> None:
    asked = [query(state(*past), segment=segment, given=CATALOG), query(None, given=CATALOG)]
    for source in CATALOG.strategies.values():
        found = source.retrieve(asked, k)
        assert len(found) == 2
        for rows, scores in found:
            assert len(set(rows.tolist())) == len(rows) == len(scores) <= min(k, N)
            assert (rows >= 0).all()
            assert (rows < N).all()
            assert np.isfinite(scores).all()
            # Most of content's places are for what was never sold, however far.
            assert (np.diff(scores) <= 0).all() or source.name == "content"
        unknown_rows, _ = found[1]
        # Nobody knows a stranger, but there is what is popular, and what is new.
        assert (len(unknown_rows) > 0) == (source.name in ("popular", "content"))
        assert source.retrieve([], k) == []


def test_the_sources_of_the_ranker_have_the_places_of_its_features() -> None:
    assert tuple(source.name for source in CATALOG.sources) == SOURCES
    assert set(CATALOG.strategies) == {*SOURCES, "hybrid"}


def test_sources_are_merged_customer_by_customer() -> None:
    anna = query(state(event(90, "hat")))
    ben = query(state(event(90, "milk", customer="ben"), customer="ben"), segment="young")
    together = retrieve(CATALOG, [anna, ben])
    for found, one in zip(together, [anna, ben], strict=True):
        (alone,) = retrieve(CATALOG, [one])
        assert np.array_equal(found.item_idx, alone.item_idx)
        assert np.array_equal(found.ranks, alone.ranks)
    assert [IDS[found.item_idx[0]] for found in together] == ["hat", "milk"]
    assert together[0].sources == SOURCES
    assert retrieve(CATALOG, []) == []


def test_each_source_is_asked_for_its_own_depth() -> None:
    depth = {name: n + 1 for n, name in enumerate(SOURCES)}
    given = catalog(depth=depth)
    anna = query(state(*(event(80 + n, article) for n, article in enumerate(IDS))), given=given)
    (found,) = retrieve(given, [anna])
    counts = dict(zip(SOURCES, (found.ranks < UNRANKED).sum(axis=0).tolist(), strict=True))
    # She had everything, so there is no variant left; cheese, milk, bread, socks and shirt go with what she had.
    assert counts == depth | {"variants": 0, "covisitation": 3}
