"""Two data sets become one catalogue in which no two ids can be the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ConfigurationError, DataError
from offline.event_log import import_data
from offline.sources.merged import merged_id
from offline.sources.registry import SOURCES
from offline.validate import validate_data
from offline.validate_log import validate_log
from tests.offline.test_mapping import PLAIN, write_plain
from tests.offline.test_retailrocket import EVENTS, write_retailrocket
from tests.offline.tiny_data import HM_TRANSACTIONS, write_hm

NAME = "hm+retailrocket"


def write_both(directory: Path) -> Path:
    directory.mkdir()
    write_hm(directory / "hm")
    write_retailrocket(directory / "retailrocket")
    return directory


def test_everything_of_both_is_there_under_its_sources_name(tmp_path: Path) -> None:
    both = write_both(tmp_path / "both")
    log = import_data(NAME, both, tmp_path / "log")
    parts = {name: import_data(name, both / name, tmp_path / name) for name in ("hm", "retailrocket")}
    assert log.manifest.source == NAME
    assert log.articles()["article_id"].to_pylist() == [
        merged_id(name, own) for name, part in parts.items() for own in part.articles()["article_id"].to_pylist()
    ]
    assert log.articles()["product_code"].to_pylist()[:4] == ["hm:0108775", "hm:0108775", "hm:0706016", None]
    assert log.customers()["customer_id"].to_pylist() == ["hm:anna", "hm:bert", "hm:cleo"]
    events = log.read().to_pylist()
    assert {(e["event_id"], e["customer_id"], e["article_id"], e["type"]) for e in events} == {
        (merged_id(name, e["event_id"]), merged_id(name, e["customer_id"]), merged_id(name, e["article_id"]), e["type"])
        for name, part in parts.items()
        for e in part.read().to_pylist()
    }
    assert len(events) == 11
    assert log.articles()["title"][0].as_py() == "Strap top"


def test_validation_and_the_log_pass(tmp_path: Path) -> None:
    both = write_both(tmp_path / "both")
    result = validate_data(NAME, both)
    assert result.passed
    assert result.counts == {"articles": 7, "customers": 3, "events": 11}
    assert validate_log(import_data(NAME, both, tmp_path / "log").path).passed


def test_a_broken_cell_is_named_as_in_its_own_source(tmp_path: Path) -> None:
    both = write_both(tmp_path / "both")
    write_hm(both / "hm", transactions=HM_TRANSACTIONS.replace("dora,706016001", "dora,706016009"))
    with pytest.raises(DataError, match=r"transactions_train.csv, column article_id, row 5: '0706016009': no such"):
        import_data(NAME, both, tmp_path / "log")


def test_an_id_is_never_bought_from_another_source(tmp_path: Path) -> None:
    """The article 248676 is RetailRocket's; H&M's article of that number, with its zeros, is unknown."""
    both = write_both(tmp_path / "both")
    write_hm(both / "hm", transactions=HM_TRANSACTIONS.replace("dora,706016001", "dora,248676"))
    with pytest.raises(DataError, match=r"'0000248676': no such article"):
        import_data(NAME, both, tmp_path / "log")


@given(st.permutations(list(SOURCES)).map(lambda names: names[:2]), st.text(), st.text())
def test_no_two_sources_make_the_same_id(names: list[str], one: str, other: str) -> None:
    assert merged_id(names[0], one) != merged_id(names[1], other)
    assert (merged_id(names[0], one) == merged_id(names[0], other)) == (one == other)


def test_odd_ids_stay_apart(tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    write_plain(both / "mapping", "t,u,i\n1433221332,hm:anna,retailrocket:355908\n")
    write_retailrocket(both / "retailrocket")
    log = import_data("mapping+retailrocket", both, tmp_path / "log")
    ids = log.articles()["article_id"].to_pylist()
    assert "mapping:retailrocket:355908" in ids and "retailrocket:355908" in ids
    assert len(set(ids)) == len(ids)


def test_an_id_too_long_with_its_source_is_named(tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    long = "u" * 122
    toml = PLAIN + 'event_id = "e"\n'
    write_plain(both / "mapping", f"t,u,i,e\n1433221332,ann,x,e1\n1433221332,{long},x,e2\n", toml)
    write_retailrocket(both / "retailrocket", events=EVENTS)
    with pytest.raises(DataError, match=r"column customer_id, row 2: .* at most 128 characters together"):
        import_data("mapping+retailrocket", both, tmp_path / "log")
    result = validate_data("mapping+retailrocket", both)
    assert {check.name: check.failed for check in result.checks if not check.passed} == {"ids_valid": 1}
    assert result.counts["events"] == 7


def test_wrong_names_and_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no data source 'hn'; allowed: complete-journey, hm"):
        import_data("hn+retailrocket", tmp_path, tmp_path / "log")
    with pytest.raises(ConfigurationError, match="names a source twice"):
        import_data("hm+hm", tmp_path, tmp_path / "log")
    with pytest.raises(ConfigurationError, match="both/hm does not exist: the source hm needs --path DIR"):
        import_data(NAME, tmp_path / "both", tmp_path / "log")
    with pytest.raises(ConfigurationError, match="give --path DIR with a folder hm in it"):
        import_data(NAME, None, tmp_path / "log")
