"""RetailRocket's files become articles and events; a broken file is refused with file, column and row."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from infra.errors import ConfigurationError, DataError
from offline.event_log import import_data
from offline.sources.retailrocket import MAX_WORDS, category_path, property_text
from offline.validate import validate_data

EVENTS = """\
timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,view,248676,
1433224214164,992329,addtocart,248676,
1433224244282,992329,transaction,248676,4000
1433224244282,992329,transaction,248676,4000
1433221999827,111016,view,318965,
"""
PART1 = """\
timestamp,itemid,property,value
1435460400000,460429,categoryid,1338
1441508400000,248676,categoryid,1277
1435460400000,248676,888,1116713 960601 n277.200
1435460400000,248676,400,n552.000 639502
1435460400000,248676,790,n32880.000
"""
PART2 = """\
timestamp,itemid,property,value
1435460400000,248676,categoryid,9
1439694000000,460429,available,1
1437274800000,248676,888,1116713 66718 1116713
1435460400000,460429,34,820477
"""
TREE = """\
categoryid,parentid
1338,1277
1277,57
57,
"""


def write_retailrocket(directory: Path, **changed: str) -> Path:
    directory.mkdir(exist_ok=True)
    files = {"events": EVENTS, "item_properties_part1": PART1, "item_properties_part2": PART2, "category_tree": TREE}
    for name, text in (files | changed).items():
        (directory / f"{name}.csv").write_text(text)
    return directory


def test_events_are_mapped_in_time_order(tmp_path: Path) -> None:
    log = import_data("retailrocket", write_retailrocket(tmp_path / "rr"), tmp_path / "log")
    events = log.read().to_pylist()
    assert [(e["event_id"], e["type"], e["occurred_at"].isoformat(timespec="milliseconds")) for e in events] == [
        ("257597-1433221332117-355908-view", "view", "2015-06-02T05:02:12.117+00:00"),
        ("111016-1433221999827-318965-view", "view", "2015-06-02T05:13:19.827+00:00"),
        ("992329-1433224214164-248676-cart", "cart", "2015-06-02T05:50:14.164+00:00"),
        ("992329-1433224214164-248676-view", "view", "2015-06-02T05:50:14.164+00:00"),
        ("992329-1433224244282-248676-purchase", "purchase", "2015-06-02T05:50:44.282+00:00"),
        ("992329-1433224244282-248676-purchase-2", "purchase", "2015-06-02T05:50:44.282+00:00"),
    ]
    assert {(e["price"], e["quantity"]) for e in events} == {(None, 1)}
    assert log.customers().num_rows == 0


def test_articles_carry_the_newest_properties(tmp_path: Path) -> None:
    log = import_data("retailrocket", write_retailrocket(tmp_path / "rr"), tmp_path / "log")
    shown = [
        (a["article_id"], a["department"], a["category"], a["subcategory"], a["text"])
        for a in log.articles().to_pylist()
    ]
    assert shown == [
        # The category of September, though an older one comes later in the files; the text of July.
        ("248676", "57", "1277", "1277", "639502 1116713 66718 n32880.000 n552.000"),
        ("318965", None, None, None, None),
        ("355908", None, None, None, None),
        ("460429", "57", "1277", "1338", "820477"),
    ]


def test_of_equal_times_the_later_row_counts(tmp_path: Path) -> None:
    twice = PART2 + "1441508400000,248676,categoryid,57\n"
    log = import_data(
        "retailrocket", write_retailrocket(tmp_path / "rr", item_properties_part2=twice), tmp_path / "log"
    )
    assert log.articles()["subcategory"][0].as_py() == "57"


def test_category_paths() -> None:
    parents = {"4": "3", "3": "2", "2": "1", "1": None}
    assert category_path("4", parents) == ("1", "2", "4")
    assert category_path("2", parents) == ("1", "2", "2")
    assert category_path("1", parents) == ("1", "1", "1")
    assert category_path("9", parents) == ("9", "9", "9")
    assert category_path(None, parents) == (None, None, None)


def test_the_text_is_bounded_and_keeps_attributes() -> None:
    text = property_text({"888": " ".join(str(n) for n in range(1_000)), "5": "brand", "7": "n5.000", "8": None})
    assert text is not None
    words = text.split()
    assert len(words) == MAX_WORDS
    assert words[:2] == ["brand", "0"]
    assert property_text({"1": None}) is None


def test_parquet_gives_what_csv_gives_and_no_scratch_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    source = write_retailrocket(tmp_path / "rr")
    from_csv = import_data("retailrocket", source, tmp_path / "log")
    for path in sorted(source.glob("*.csv")):
        pq.write_table(pacsv.read_csv(path), path.with_suffix(".parquet"))
        path.unlink()
    assert import_data("retailrocket", source, tmp_path / "other").content_hash == from_csv.content_hash
    assert not list(scratch.iterdir())


def test_good_files_pass_every_check(tmp_path: Path) -> None:
    result = validate_data("retailrocket", write_retailrocket(tmp_path / "rr"))
    assert result.passed
    assert result.counts == {"articles": 4, "customers": 0, "events": 6}


@pytest.mark.parametrize(
    ("table", "old", "new", "place", "words"),
    [
        ("events", "1433221332117", "soon", ("events.csv", "timestamp", 1), "'soon'"),
        ("events", "1433221332117", "1433221332", ("events.csv", "timestamp", 1), "1990"),
        ("events", "addtocart", "like", ("events.csv", "event", 3), "allowed are view, addtocart, transaction"),
        ("events", "318965", "item", ("events.csv", "itemid", 6), "'item'"),
        ("events", ",111016,", ",,", ("events.csv", "visitorid", 6), "id is needed"),
        ("item_properties_part1", "460429", "", ("item_properties_part1.csv", "itemid", 1), "whole number"),
        ("item_properties_part2", "1439694000000", "x", ("item_properties_part2.csv", "timestamp", 2), "'x'"),
        ("category_tree", "1277,57", "1338,57", ("category_tree.csv", "categoryid", 2), "seen before, in row 1"),
        ("category_tree", "57,\n", "57,1338\n", ("category_tree.csv", "parentid", 1), "its own ancestor"),
    ],
)
def test_a_broken_cell_is_named_and_leaves_nothing(
    tmp_path: Path, table: str, old: str, new: str, place: tuple[str, str, int], words: str
) -> None:
    original = {"events": EVENTS, "item_properties_part1": PART1, "item_properties_part2": PART2, "category_tree": TREE}
    assert old in original[table]
    source = write_retailrocket(tmp_path / "rr", **{table: original[table].replace(old, new, 1)})
    with pytest.raises(DataError) as caught:
        import_data("retailrocket", source, tmp_path / "log")
    assert (caught.value.file, caught.value.column, caught.value.row) == place
    assert words in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["rr"]


def test_validation_goes_on_after_a_circle_in_the_tree(tmp_path: Path) -> None:
    source = write_retailrocket(tmp_path / "rr", category_tree=TREE.replace("57,\n", "57,1338\n"))
    result = validate_data("retailrocket", source)
    assert {check.name for check in result.checks if not check.passed} == {"ids_valid"}
    assert result.counts["articles"] == 4


def test_missing_path_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs --path DIR, the directory with events, item_properties_part1"):
        import_data("retailrocket", None, tmp_path / "log")
    source = write_retailrocket(tmp_path / "rr")
    (source / "item_properties_part2.csv").unlink()
    with pytest.raises(DataError, match=r"looked for item_properties_part2.csv or item_properties_part2.parquet"):
        import_data("retailrocket", source, tmp_path / "log")
