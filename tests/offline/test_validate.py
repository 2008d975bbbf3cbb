"""Validation runs every check and says where; the commands turn its verdict into an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from infra.errors import ConfigurationError
from offline.data_cli import data
from offline.event_log import EventLog, import_data
from offline.sources.registry import open_source
from offline.validate import Check, Validation, validate_data
from offline.validate_log import LOG_CHECKS, validate_log
from tests.offline.tiny_data import HM_ARTICLES, HM_CUSTOMERS, HM_TRANSACTIONS, write_hm


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def failed(result: Validation) -> dict[str, Check]:
    return {check.name: check for check in result.checks if not check.passed}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(data, arguments)


def test_good_files_pass_every_check(tmp_path: Path) -> None:
    result = validate_data("hm", write_hm(tmp_path / "hm"))
    assert result.passed
    assert failed(result) == {}
    assert result.counts == {"articles": 3, "customers": 3, "events": 5}


def test_all_checks_run_and_give_counts_and_examples(tmp_path: Path) -> None:
    bad = [
        *(f"2020-09-16,anna,108775015,-{n},1" for n in range(1, 8)),
        "2020-13-01,anna,108775015,0.1,1",
        "2020-09-16,,108775015,0.1,1",
        "2020-09-16,anna,999,0.1,1",
        "2020-09-16,anna,B7,0.1,1",
        "2020-09-16,anna,108775015,0.1,999",
    ]
    source = write_hm(
        tmp_path / "hm",
        articles=HM_ARTICLES.replace("0706016001,", "0108775015,"),
        customers=HM_CUSTOMERS.replace("bert", "anna"),
        transactions=HM_TRANSACTIONS + "\n".join(bad) + "\n",
    )
    result = validate_data("hm", source)
    checks = failed(result)
    assert {name: check.failed for name, check in checks.items()} == {
        "ids_present": 1,
        "ids_unique": 2,  # an article and a customer
        "ids_valid": 1,
        "dates": 1,
        "prices": 7,
        "channels": 1,
        "known_articles": 4,  # 999, B7, and the two lines of the article whose row is gone
    }
    assert [(e.row, e.value) for e in checks["prices"].examples] == [(n + 5, f"-{float(n)}") for n in range(1, 6)]
    assert [(e.file, e.row) for e in checks["ids_unique"].examples] == [
        ("articles.csv", 3),
        ("customers.csv", 2),
    ]
    assert checks["dates"].examples[0].value == "2020-13-01"
    assert result.counts["events"] == 3


def test_an_unreadable_table_does_not_stop_the_others(tmp_path: Path) -> None:
    source = write_hm(tmp_path / "hm", transactions=HM_TRANSACTIONS.replace("0.0338,2\n", "-1,2\n"))
    (source / "articles.csv").unlink()
    checks = failed(validate_data("hm", source))
    assert set(checks) == {"columns", "known_articles", "prices"}
    assert "looked for articles.csv or articles.parquet" in checks["columns"].examples[0].reason
    assert checks["known_articles"].examples[0].reason == "not checked: the article table cannot be read"


def test_a_good_log_passes(tmp_path: Path) -> None:
    log = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    result = validate_log(log.path, open_source("hm", tmp_path / "hm"))
    assert [check.name for check in result.checks] == list(LOG_CHECKS)
    assert result.passed
    assert result.counts == {"articles": 3, "customers": 3, "events": 5, "days": 2}


def test_a_log_older_than_its_source_fails(tmp_path: Path) -> None:
    log = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    write_hm(tmp_path / "hm", transactions=HM_TRANSACTIONS + "2020-09-18,anna,108775015,0.1,1\n")
    check = failed(validate_log(log.path, open_source("hm", tmp_path / "hm")))["source"]
    assert [e.reason for e in check.examples] == [
        "the source's files changed since; import again",
        "5 events, the source has 6 good ones; import again",
    ]


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [
        ("event_id", "", "ids_present"),
        ("event_id", "20200917-bert-0706016001", "ids_unique"),  # the next day's first
        ("event_id", "zzz", "sorted"),
        ("type", "gift", "types"),
        ("occurred_at", 0, "dates"),
        ("price", -1.0, "prices"),
        ("price", float("nan"), "prices"),
        ("quantity", 0, "quantities"),
        ("quantity", None, "quantities"),
        ("article_id", "0999999999", "known_articles"),
    ],
)
def test_each_damage_to_a_log_is_found_by_its_check(tmp_path: Path, column: str, value: object, check: str) -> None:
    log = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    day = log.days[0]
    table = pq.ParquetFile(day).read()
    index, kind = table.schema.get_field_index(column), table.schema.field(column)
    cells = [value, *table[column].to_pylist()[1:]]
    damaged = table.set_column(index, kind, pa.array(cells, kind.type))
    rewrite(log, day, lambda: pq.write_table(damaged, day))
    found = failed(validate_log(log.path))
    assert check in found
    assert found[check].examples[0].row == (2 if check == "sorted" else 1)
    assert "content" in found


def test_a_missing_row_is_found_by_counts(tmp_path: Path) -> None:
    log = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    day = log.days[0]
    table = pq.ParquetFile(day).read()
    rewrite(log, day, lambda: pq.write_table(table.slice(1), day))
    assert [e.reason for e in failed(validate_log(log.path))["counts"].examples] == ["5 events, found 4"]


def rewrite(log: EventLog, day: Path, write: object) -> None:
    """Damage a day file and make the manifest's size agree, as a careless tool would."""
    before = day.stat().st_size
    assert callable(write)
    write()
    manifest = json.loads((log.path / "manifest.json").read_text())
    entry = manifest["files"][f"events/{day.name}"]
    assert entry["bytes"] == before
    entry["bytes"] = day.stat().st_size
    (log.path / "manifest.json").write_text(json.dumps(manifest))


def test_import_show_and_validate_commands(tmp_path: Path) -> None:
    write_hm(tmp_path / "hm")
    result = run("import", "--data", "hm", "--path", "hm", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["counts"] == {"articles": 3, "customers": 3, "events": 5, "days": 2}
    assert told["log"] == ".modiste/event-logs/hm"
    assert "events: 5 of 5" in result.stderr
    shown = run("show", "--data", "hm")
    assert "5 events on 2 days, 3 articles, 3 customers described" in shown.stdout
    assert "2020-09-16 00:00:00  purchase  customer anna  article 0108775015  1 pc  price 0.0084" in shown.stdout
    checked = run("validate", "--log", ".modiste/event-logs/hm", "--data", "hm", "--path", "hm", "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["passed"] is True


def test_validate_fails_with_exit_code_1_and_example_rows(tmp_path: Path) -> None:
    write_hm(tmp_path / "hm", transactions=HM_TRANSACTIONS.replace("bert,0706016001,0.0338", "bert,7,-2"))
    result = run("validate", "--data", "hm", "--path", "hm")
    assert result.exit_code == 1
    assert "FAIL  prices" in result.stdout
    assert "transactions_train.csv, row 1, price '-2.0': a price is a finite number >= 0" in result.stdout
    assert "FAIL  known_articles" in result.stdout
    assert "PASS  dates" in result.stdout
    assert result.stdout.splitlines()[-1] == "hm: FAIL"
    as_json = run("validate", "--data", "hm", "--path", "hm", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["passed"] is False


def test_a_path_without_its_source_is_refused(tmp_path: Path) -> None:
    result = run("validate", "--log", "log", "--path", "hm")
    assert isinstance(result.exception, ConfigurationError)
    assert "name it by --data" in str(result.exception)
