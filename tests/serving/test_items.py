"""The items table of a bundle."""

from __future__ import annotations

import numpy as np

from tests.support.toy_catalog import IDS, items


def test_items_table_keeps_what_is_missing() -> None:
    table = items()
    assert table.describe("apple") == {
        "article_id": "apple",
        "title": "Apple",
        "category": "Fruit",
        "subcategory": "Apples",
        "department": "Food",
        "price": None,
    }
    assert table.describe("wine")["title"] is None
    assert table.label("brand", IDS.index("hat")) is None


def test_chosen_rows_keep_their_codes_and_their_order() -> None:
    table = items()
    few = table.rows(np.array([3, 0]))
    assert few.article_ids == [IDS[3], IDS[0]]
    assert few.index == {IDS[3]: 0, IDS[0]: 1}
    assert [few.describe(name) for name in few.article_ids] == [table.describe(name) for name in few.article_ids]
    assert few.products.tolist() == table.products[[3, 0]].tolist()
