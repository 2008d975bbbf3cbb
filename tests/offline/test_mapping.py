"""A TOML makes any shop's files a data set; what it gets wrong is told with what is allowed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import ConfigurationError, DataError
from offline.event_log import EventLog, import_data
from offline.sources import mapping_spec
from offline.validate import validate_data

EXAMPLE = Path(mapping_spec.__file__).with_name("mapping.example.toml")
SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "events-samples"

ORDERS = """\
at;user;sku;action;paid;pieces;channel;line_id
1735725600000;ann;a-1;order;19.98;2;2;o1
1735725601500;bob;a-2;click;;;2;c1
1735725602000;bob;a-2;newsletter;;;;n1
"""
MORE_ORDERS = """\
line_id;at;user;sku;action;paid;pieces;channel
o2;1735812000000;ann;a-1;basket;9.99;;1
"""
ARTICLES = """\
sku,name,model,area,group,kind,brand,colour,description,material,list_price
a-1,Linen shirt,a,Men,Tops,Shirt,Nord,White,Airy shirt.,Linen,9.99
a-2,Cap,b,Men,Hats,Cap,,Red,,Wool,5
"""
PLAIN = """\
[events]
file = "log.csv"
customer = "u"
article = "i"
time = "t"
time_format = "s"
type = "view"
"""


def write_example(directory: Path) -> Path:
    """The files that `mapping.example.toml` names, beside a copy of it."""
    directory.mkdir()
    (directory / "mapping.toml").write_text(EXAMPLE.read_text())
    (directory / "orders-2024.csv").write_text(ORDERS)
    (directory / "orders-2025.csv").write_text(MORE_ORDERS)
    (directory / "articles.csv").write_text(ARTICLES)
    columns = ["income", "household", "household_type", "kids", "home", "status", "club", "news"]
    people = pa.table({"user": ["ann", "cat"], "age": [33, None], **{name: [f"{name}-1", None] for name in columns}})
    pq.write_table(people, directory / "customers.parquet")
    return directory


def write_plain(directory: Path, text: str = "t,u,i\n1735725600,ann,x\n", toml: str = PLAIN) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "log.csv").write_text(text)
    (directory / "mapping.toml").write_text(toml)
    return directory


def test_the_example_file_works_as_it_stands(tmp_path: Path) -> None:
    log = import_data("mapping", write_example(tmp_path / "shop"), tmp_path / "log")
    events = [
        (
            e["event_id"],
            e["type"],
            e["occurred_at"].isoformat(),
            e["customer_id"],
            e["article_id"],
            e["price"],
            e["quantity"],
            e["sales_channel_id"],
        )
        for e in log.read().to_pylist()
    ]
    assert events == [
        ("o1", "purchase", "2025-01-01T10:00:00+00:00", "ann", "a-1", 19.98, 2, 2),
        ("c1", "view", "2025-01-01T10:00:01.500000+00:00", "bob", "a-2", None, 1, 2),
        ("o2", "cart", "2025-01-02T10:00:00+00:00", "ann", "a-1", 9.99, 1, 1),
    ]
    assert log.manifest.notes == {"events of type newsletter left out": 1}
    assert log.articles().to_pylist()[0] == {
        "article_id": "a-1",
        "product_code": "a",
        "title": "Linen shirt",
        "department": "Men",
        "category": "Tops",
        "subcategory": "Shirt",
        "brand": "Nord",
        "colour": "White",
        "text": "Airy shirt. · Linen",
        "price": 9.99,
        "known_from": None,
    }
    assert log.articles()["text"][1].as_py() == "Wool"
    ann, cat = log.customers().to_pylist()
    assert (ann["age_band"], ann["household_size"], ann["membership"]) == ("25-34", "household-1", "club-1")
    assert (cat["customer_id"], cat["age_band"], cat["news_frequency"]) == ("cat", None, None)
    assert validate_data("mapping", tmp_path / "shop").passed


def test_the_example_explains_every_key() -> None:
    text = EXAMPLE.read_text()
    parts = dict(re.findall(r"^\[(events|articles|customers)\](.*?)(?=^\[(?!events\.)|\Z)", text, re.S | re.M))
    for section, keys in mapping_spec.KEYS.items():
        for key in keys:
            if key != "types":
                assert re.search(rf"\b{key} = ", parts[section]), f"{key} in [{section}]"
    assert "[events.types]" in parts["events"]
    for word in (*mapping_spec.TIME_FORMATS, *mapping_spec.MEANINGS):
        assert word in text


def test_without_articles_they_are_those_that_occur(tmp_path: Path) -> None:
    text = "t,u,i\n1735725600,ann,x\n1735725600,ann,x\n1735725601.25,bob,w\n"
    log = import_data("mapping", write_plain(tmp_path / "shop", text), tmp_path / "log")
    assert log.articles()["article_id"].to_pylist() == ["w", "x"]
    assert log.articles()["title"].null_count == 2
    assert log.read()["event_id"].to_pylist() == [
        "view-1735725600000000-ann-x",
        "view-1735725600000000-ann-x-2",
        "view-1735725601250000-bob-w",
    ]
    assert log.customers().num_rows == 0
    # The TOML itself may be named, and the log is not made again while nothing changes.
    assert import_data("mapping", tmp_path / "shop" / "mapping.toml", tmp_path / "log").content_hash == log.content_hash


def test_a_changed_toml_is_a_changed_source(tmp_path: Path) -> None:
    import_data("mapping", write_plain(tmp_path / "shop"), tmp_path / "log")
    write_plain(tmp_path / "shop", toml=PLAIN.replace('"view"', '"cart"'))
    assert import_data("mapping", tmp_path / "shop", tmp_path / "log").read()["type"].to_pylist() == ["cart"]


@pytest.mark.parametrize(
    ("form", "cell"),
    [
        ("iso", "2025-01-01T10:00:00"),
        ("iso", "2025-01-01 12:00:00+02:00"),
        ("iso", "2025-01-01T10:00:00Z"),
        ("s", "1735725600"),
        ("s", "1735725600.0"),
        ("ms", "1735725600000"),
        ("us", "1735725600000000"),
        ("%d.%m.%Y %H:%M", "01.01.2025 10:00"),
        ("%d.%m.%Y %H:%M %z", "01.01.2025 11:00 +0100"),
    ],
)
def test_times_in_every_form_are_one_moment(tmp_path: Path, form: str, cell: str) -> None:
    source = write_plain(tmp_path / "shop", f"t,u,i\n{cell},ann,x\n", PLAIN.replace('"s"', f'"{form}"'))
    assert import_data("mapping", source, tmp_path / "log").span[0] == datetime(2025, 1, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("form", "cell"),
    [
        ("s", "soon"),
        ("s", ""),
        ("s", "-5"),
        ("s", "nan"),
        ("s", "1e300"),
        ("ms", "1735725600"),
        ("iso", "1735725600"),
        ("%d.%m.%Y", "30.02.2025"),
    ],
)
def test_a_time_in_another_form_is_named_once(tmp_path: Path, form: str, cell: str) -> None:
    text = f"t,u,i\n{cell},ann,x\n"
    source = write_plain(tmp_path / "shop", text, PLAIN.replace('"s"', f'"{form}"'))
    with pytest.raises(DataError) as caught:
        import_data("mapping", source, tmp_path / "log")
    assert (caught.value.file, caught.value.column, caught.value.row) == ("log.csv", "t", 1)
    checks = {check.name: check.failed for check in validate_data("mapping", source).checks}
    assert checks["dates"] == 1


def test_a_price_of_a_piece_becomes_one_of_the_line(tmp_path: Path) -> None:
    toml = PLAIN + 'price = "p"\nquantity = "q"\nprice_of = "piece"\n'
    source = write_plain(tmp_path / "shop", "t,u,i,p,q\n1735725600,ann,x,2.5,4\n1735725601,ann,x,2.5,\n", toml)
    events = import_data("mapping", source, tmp_path / "log").read()
    assert events["price"].to_pylist() == [10.0, 2.5]


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    from_csv = import_data("mapping", write_plain(tmp_path / "shop"), tmp_path / "log")
    pq.write_table(pa.table({"t": [1735725600.0], "u": ["ann"], "i": ["x"]}), tmp_path / "shop" / "log.parquet")
    (tmp_path / "shop" / "mapping.toml").write_text(PLAIN.replace("log.csv", "log.parquet"))
    assert import_data("mapping", tmp_path / "shop", tmp_path / "other").content_hash == from_csv.content_hash


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "customer =",
            "custmer =",
            r"unknown key 'custmer' in \[events\]; did you mean customer\? allowed: file, customer",
        ),
        ("[events]", "[event]", r"unknown table \[event\]; did you mean events\?"),
        ('customer = "u"\n', "", r"customer in \[events\]: is missing; it names a column"),
        ('file = "log.csv"\n', "", r"file in \[events\]: is missing; it names a file"),
        ('"log.csv"', '"log.xlsx"', r"'log.xlsx'; files are .csv or .parquet"),
        ('"log.csv"', "[]", r"\[\]; a text or a list of texts is needed"),
        ('"u"', "7", r"customer in \[events\]: 7; a text in quotes is needed"),
        ('"s"', '"hours"', r"time_format in \[events\]: 'hours'; allowed: iso, s, ms, us, or a pattern"),
        ('"view"', '"gift"', r"type in \[events\]: 'gift'; allowed: purchase, view, cart"),
        ('type = "view"', "", r"give either type .* or type_column"),
        ('type = "view"', 'type = "view"\ntype_column = "a"', r"give either type .* or type_column"),
        (
            'type = "view"',
            'type_column = "a"\n[events.types]\nx = "gift"',
            r"x in \[events.types\]: 'gift'; allowed: .* ignore",
        ),
        ('type = "view"', 'type = "view"\nprice_of = "piece"', r"needs the columns price and quantity"),
        ('type = "view"', 'type = "view"\nseparator = ";;"', r"';;'; one character is needed"),
        (
            'type = "view"',
            'type = "view"\n[articles]\nfile = ["a.csv", "b.csv"]\nid = "i"',
            r"one file is allowed here",
        ),
        (
            'type = "view"',
            'type = "view"\n[customers]\nfile = "a.csv"\nid = "i"\nage = "a"\nage_band = "b"',
            r"either age .* or age_band",
        ),
        ("[events]", "[events", r"mapping.toml: not TOML"),
    ],
)
def test_what_the_toml_gets_wrong_is_told_with_what_is_allowed(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in PLAIN
    source = write_plain(tmp_path / "shop", toml=PLAIN.replace(old, new))
    with pytest.raises(ConfigurationError, match=words):
        import_data("mapping", source, tmp_path / "log")


def test_a_missing_path_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mapping needs --path, a TOML"):
        import_data("mapping", None, tmp_path / "log")
    with pytest.raises(ConfigurationError, match=r"a directory with mapping.toml"):
        import_data("mapping", tmp_path / "nowhere.toml", tmp_path / "log")
    source = write_plain(tmp_path / "shop", "t,u,x\n")
    with pytest.raises(DataError, match=r"log.csv, column i: column missing; found t, u, x"):
        import_data("mapping", source, tmp_path / "log")
    (source / "log.csv").unlink()
    with pytest.raises(DataError, match=r"no such file, though mapping.toml names it"):
        import_data("mapping", source, tmp_path / "log")


@pytest.mark.parametrize(
    ("file", "old", "new", "place", "words"),
    [
        ("orders-2024.csv", "newsletter", "gift", ("action", 3), "knows order, click, basket, newsletter"),
        ("orders-2025.csv", "a-1", "a-9", ("sku", 1), "'a-9': no such article"),
        ("orders-2025.csv", "o2", "o1", ("line_id", 1), "the event id of an earlier row"),
        ("orders-2024.csv", "19.98;2", "19.98;0", ("pieces", 1), "from 1 to 65535"),
        ("orders-2024.csv", "19.98", "-1", ("paid", 1), ">= 0"),
        ("articles.csv", "a-2", "a-1", ("article_id", 2), "seen before, in row 1"),
    ],
)
def test_a_broken_cell_is_named(
    tmp_path: Path, file: str, old: str, new: str, place: tuple[str, int], words: str
) -> None:
    path = write_example(tmp_path / "shop") / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError) as caught:
        import_data("mapping", tmp_path / "shop", tmp_path / "log")
    assert (caught.value.file, caught.value.column, caught.value.row) == (file, *place)
    assert words in str(caught.value)


def test_unknown_articles_may_be_left_out_and_are_counted(tmp_path: Path) -> None:
    source = write_example(tmp_path / "shop")
    for name, old, new in (("mapping.toml", '"refuse"', '"ignore"'), ("orders-2025.csv", "a-1", "a-9")):
        (source / name).write_text((source / name).read_text().replace(old, new, 1))
    log = import_data("mapping", source, tmp_path / "log")
    assert log.read()["event_id"].to_pylist() == ["o1", "c1"]
    assert log.manifest.notes["events of articles that are not in the article table left out"] == 1


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the event samples are not beside this checkout (shared/data)")
@pytest.mark.parametrize(
    ("files", "columns", "events", "first"),
    [
        (["retailrocket_sample.parquet"], ("user_id", "item_id", "timestamp"), 10_080, "2015-05"),
        (["yoochoose_clicks_100k_train_full.parquet"], ("SessionId", "ItemId", "Time"), 70_278, "2014-04"),
        (["yoochoose_clicks_100k_test.parquet"], ("SessionId", "ItemId", "Time"), 13_568, "2014-04"),
    ],
)
def test_real_samples(tmp_path: Path, files: list[str], columns: tuple[str, str, str], events: int, first: str) -> None:
    customer, article, time = columns
    toml = PLAIN.replace('"u"', f'"{customer}"').replace('"i"', f'"{article}"').replace('"t"', f'"{time}"')
    (tmp_path / "shop.toml").write_text(toml.replace('"log.csv"', str([str(SAMPLES / name) for name in files])))
    log: EventLog = import_data("mapping", tmp_path / "shop.toml", tmp_path / "log")
    assert log.manifest.counts["events"] == events
    assert log.span[0].isoformat().startswith(first)
    assert len(set(log.read()["event_id"].to_pylist())) == events
