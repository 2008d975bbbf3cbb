"""Similar to an article: its own kind first, one of each title, only what can be had."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from serving.shelf import Shelf
from serving.similar import similar
from tests.support.tiny import KINDS, article_number
from tests.support.tiny_fixture import Tiny

TOP = article_number("top", 0)


def test_a_top_is_like_the_other_tops(tiny: Tiny) -> None:
    found = [item.article_id for item in similar(tiny.runtime.catalog, TOP, KINDS - 1)]
    assert sorted(found) == [article_number("top", n) for n in range(1, KINDS)]


def test_ranks_count_up_and_scores_fall(tiny: Tiny) -> None:
    found = similar(tiny.runtime.catalog, TOP, 6)
    assert [item.rank for item in found] == [1, 2, 3, 4, 5, 6]
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)


def test_what_cannot_be_had_is_left_out_and_prices_are_those_of_now(tiny: Tiny) -> None:
    items = tiny.runtime.items
    available = np.ones(len(items), np.bool_)
    gone = article_number("top", 1)
    available[items.index[gone]] = False
    shelf = Shelf(available, np.full(len(items), 4.0, np.float32))
    found = similar(tiny.runtime.catalog, TOP, 50, shelf)
    assert gone not in {item.article_id for item in found} and TOP not in {item.article_id for item in found}
    assert {item.price for item in found} == {4.0}


def test_one_of_each_title(tiny: Tiny) -> None:
    items = tiny.runtime.items
    titles = ["Top 1" if title.startswith("Top") else title for title in items.titles]
    catalog = replace(tiny.runtime.catalog, items=replace(items, titles=titles))
    found = similar(catalog, article_number("shoe", 0), 50)
    assert sum(titles[items.index[item.article_id]] == "Top 1" for item in found) == 1


def test_an_article_that_is_not_known_is_like_nothing(tiny: Tiny) -> None:
    assert similar(tiny.runtime.catalog, "no-such", 5) == []
