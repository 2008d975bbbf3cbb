"""The H&M files become articles, customers and events; a broken file is refused with file, column and row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from infra.errors import ConfigurationError, DataError
from offline.event_log import import_data
from offline.sources import tables
from offline.validate import validate_data
from tests.offline.tiny_data import HM_ARTICLES, HM_CUSTOMERS, HM_TRANSACTIONS, write_hm

HM_WEEK = Path(__file__).parents[3] / "shared" / "data" / "hm-week"


def test_events_carry_ten_digit_article_ids_days_and_running_numbers(tmp_path: Path) -> None:
    log = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    events = log.read().to_pylist()
    assert [(e["event_id"], e["occurred_at"].day, e["customer_id"], e["article_id"]) for e in events] == [
        ("20200916-anna-0108775015", 16, "anna", "0108775015"),
        ("20200916-anna-0108775015-2", 16, "anna", "0108775015"),
        ("20200916-anna-0108775044", 16, "anna", "0108775044"),
        ("20200917-bert-0706016001", 17, "bert", "0706016001"),
        ("20200917-dora-0706016001", 17, "dora", "0706016001"),
    ]
    assert events[0]["occurred_at"] == datetime(2020, 9, 16, tzinfo=UTC)
    assert {(e["type"], e["quantity"]) for e in events} == {("purchase", 1)}
    assert [e["price"] for e in events] == [0.0084, 0.0084, 0.0084, 0.0338, 0.0338]
    assert [e["sales_channel_id"] for e in events] == [1, 1, 1, 2, 2]
    assert log.manifest.notes == {"repeated lines numbered": 1}


def test_articles_and_customers_are_mapped(tmp_path: Path) -> None:
    log = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    assert log.articles().slice(1, 1).to_pylist() == [
        {
            "article_id": "0108775044",
            "product_code": "0108775",
            "title": "Strap top",
            "department": "Jersey Basic",
            "category": "Garment Upper body",
            "subcategory": "Vest top",
            "brand": None,
            "colour": "White",
            "text": "Jersey top, with narrow straps.",
            "price": None,
            "known_from": None,
        }
    ]
    assert log.articles()["text"][2].as_py() is None
    shown = [(c["customer_id"], c["age_band"], c["membership"]) for c in log.customers().to_pylist()]
    assert shown == [("anna", "16-24", "ACTIVE"), ("bert", "25-34", "ACTIVE"), ("cleo", None, None)]


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    from_csv = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    # As Kaggle notebooks write it: ids as numbers, days as dates; articles stay CSV.
    table = pacsv.read_csv(tmp_path / "hm" / "transactions_train.csv")
    assert table.schema.field("article_id").type == pa.int64()
    assert table.schema.field("t_dat").type == pa.date32()
    (tmp_path / "hm" / "transactions_train.csv").unlink()
    pq.write_table(table, tmp_path / "hm" / "transactions_train.parquet")
    mixed = import_data("hm", tmp_path / "hm", tmp_path / "mixed")
    assert mixed.read().equals(from_csv.read())
    assert mixed.content_hash == from_csv.content_hash


@pytest.mark.parametrize(
    ("table", "old", "new", "place"),
    [
        (
            "transactions",
            "2020-09-16,anna,0108775044",
            "2020-02-30,anna,0108775044",
            ("t_dat", 4, "2020-02-30"),
        ),
        ("transactions", "2020-09-17,bert", "17.09.2020,bert", ("t_dat", 1, "17.09.2020")),
        ("transactions", "2020-09-17,bert", "1889-09-17,bert", ("t_dat", 1, "1990")),
        ("transactions", "706016001,0.0338,2\n", "706016001,-0.0338,2\n", ("price", 1, ">= 0")),
        ("transactions", "706016001,0.0338", "706016001,cheap", ("price", 1, "'cheap'")),
        ("transactions", "706016001,0.0338", "706016001,nan", ("price", 1, "finite")),
        ("transactions", "dora,706016001", "dora,706016009", ("article_id", 5, "0706016009")),
        ("transactions", "dora,706016001", "dora,A1", ("article_id", 5, "10 digits")),
        ("transactions", "dora,", ",", ("customer_id", 5, "id is needed")),
        (
            "transactions",
            "dora,706016001,0.0338,2",
            "dora,706016001,0.0338,x",
            ("sales_channel_id", 5, "'x'"),
        ),
        ("transactions", "dora", "d" * 101, ("customer_id", 5, "at most 100 characters")),
        ("transactions", "706016001,0.0338", "706016001,1_0", ("price", 1, "'1_0'")),
        ("articles", "0108775044", "0108775015", ("article_id", 2, "seen before, in row 1")),
        ("articles", "0706016001,", ",", ("article_id", 3, "id is needed")),
        ("customers", "cleo", "anna", ("customer_id", 3, "seen before, in row 1")),
        ("customers", "25.0", "young", ("age", 2, "'young'")),
    ],
)
def test_a_broken_cell_is_named_and_leaves_nothing(
    tmp_path: Path, table: str, old: str, new: str, place: tuple[str, int, str]
) -> None:
    files = {"articles": HM_ARTICLES, "customers": HM_CUSTOMERS, "transactions": HM_TRANSACTIONS}
    assert old in files[table]
    source = write_hm(tmp_path / "hm", **{table: files[table].replace(old, new)})
    with pytest.raises(DataError) as caught:
        import_data("hm", source, tmp_path / "log")
    column, row, words = place
    assert (caught.value.column, caught.value.row) == (column, row)
    assert caught.value.file in {"articles.csv", "customers.csv", "transactions_train.csv"}
    assert words in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["hm"]


def test_rows_are_counted_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CSV_BLOCK_BYTES", 256)
    good = "2020-09-16,anna,108775015,0.0084,1\n" * 1_000
    text = HM_TRANSACTIONS + good + "2020-09-16,anna,108775015,-1,1\n" + good
    with pytest.raises(DataError) as caught:
        import_data("hm", write_hm(tmp_path / "hm", transactions=text), tmp_path / "log")
    assert (caught.value.column, caught.value.row) == ("price", 5 + 1_000 + 1)


def test_a_missing_column_lists_what_was_found(tmp_path: Path) -> None:
    text = HM_TRANSACTIONS.replace("price", "prize")
    with pytest.raises(DataError, match=r"transactions_train.csv, column price: .*customer_id.*prize"):
        import_data("hm", write_hm(tmp_path / "hm", transactions=text), tmp_path / "log")


def test_a_missing_file_lists_the_names_looked_for(tmp_path: Path) -> None:
    source = write_hm(tmp_path / "hm")
    (source / "customers.csv").unlink()
    with pytest.raises(DataError, match=r"looked for customers.csv or customers.parquet, found articles.csv"):
        import_data("hm", source, tmp_path / "log")


def test_one_table_in_two_formats_is_refused(tmp_path: Path) -> None:
    source = write_hm(tmp_path / "hm")
    (source / "articles.parquet").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"articles.csv and articles.parquet; keep one"):
        import_data("hm", source, tmp_path / "log")


def test_a_path_is_needed_and_must_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs --path DIR"):
        import_data("hm", None, tmp_path / "log")
    with pytest.raises(ConfigurationError, match="not a directory"):
        import_data("hm", tmp_path / "nowhere", tmp_path / "log")


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        ("2020-09-16,anna,108775015", r"row 6: 3 columns where the header has 5 \(cut short\?\)"),
        ('2020-09-16,"anna', r"a quoted cell is never closed \(cut short\?\)"),
    ],
)
def test_a_csv_cut_short_is_refused(tmp_path: Path, cut: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        import_data("hm", write_hm(tmp_path / "hm", transactions=HM_TRANSACTIONS + cut), tmp_path / "log")
    assert [p.name for p in tmp_path.iterdir()] == ["hm"]


def test_a_parquet_cut_short_is_refused(tmp_path: Path) -> None:
    source = write_hm(tmp_path / "hm")
    path = source / "customers.parquet"
    pq.write_table(pacsv.read_csv(source / "customers.csv"), path)
    (source / "customers.csv").unlink()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"customers.parquet: not a whole Parquet file"):
        import_data("hm", source, tmp_path / "log")
    assert [p.name for p in tmp_path.iterdir()] == ["hm"]


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    source = write_hm(tmp_path / "hm")
    raw = HM_ARTICLES.replace("Jade", "J\xe4de").encode("latin-1")
    (source / "articles.csv").write_bytes(raw)
    with pytest.raises(DataError, match=r"articles.csv, column prod_name, row 3: not text"):
        import_data("hm", source, tmp_path / "log")


def test_no_transactions_is_an_error(tmp_path: Path) -> None:
    header = HM_TRANSACTIONS.splitlines()[0] + "\n"
    with pytest.raises(DataError, match=r"transactions_train.csv: no events"):
        import_data("hm", write_hm(tmp_path / "hm", transactions=header), tmp_path / "log")


@pytest.mark.slow
@pytest.mark.skipif(not HM_WEEK.is_dir(), reason="the H&M week is not beside this checkout (shared/data/hm-week)")
def test_a_real_week(tmp_path: Path) -> None:
    log = import_data("hm", HM_WEEK, tmp_path / "log")
    assert log.manifest.counts == {"articles": 105_542, "customers": 22_638, "events": 240_311, "days": 7}
    assert log.span == (datetime(2020, 9, 16, tzinfo=UTC), datetime(2020, 9, 22, tzinfo=UTC))
    events = log.read()
    assert len(set(events["event_id"].to_pylist())) == 240_311
    assert validate_data("hm", HM_WEEK).passed
