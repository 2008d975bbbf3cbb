"""What the demo shows: days become times, photos are written out, each data set has a channel of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import ConfigurationError
from infra.settings import PageSettings, Settings
from offline.demo_data import ALREADY, NAMES, Shown, open_data, spread, unpack_photos
from offline.window import Window
from streams.events import Event
from tests.support.tiny import write_tiny_shop

MONDAY = datetime(2020, 9, 21, tzinfo=UTC)


def bought(day: int, customer: str, article: str) -> Event:
    return Event(
        event_id=f"{day}-{customer}-{article}",
        type="purchase",
        occurred_at=MONDAY + timedelta(days=day),
        customer_id=customer,
        article_id=article,
    )


def test_a_day_becomes_times_of_that_day_and_a_basket_stays_together() -> None:
    given = [bought(day, f"c{n}", article) for day in range(2) for n in range(50) for article in ("a", "b")]
    spread_out = list(spread(iter(given)))
    times = [event.occurred_at for event in spread_out]
    assert times == sorted(times)
    assert {event.event_id for event in spread_out} == {event.event_id for event in given}
    for event in spread_out:
        assert event.occurred_at.date() == (MONDAY + timedelta(days=int(event.event_id[0]))).date()
    baskets = {}
    for event in spread_out:
        baskets.setdefault((event.event_id[0], event.customer_id), set()).add(event.occurred_at)
    assert all(len(moments) == 1 for moments in baskets.values())
    assert len({moment.time() for moment in times}) > 40
    assert list(spread(iter(given))) == spread_out


def test_no_event_is_no_event() -> None:
    assert list(spread(iter([]))) == []


def test_photos_are_written_as_the_page_reads_them(tmp_path: Path) -> None:
    table = pa.table({"article_id": ["0108775015", "../evil", "0108775016"], "jpeg": [b"\xff\xd8one", b"x", b""]})
    pq.write_table(table, tmp_path / "photos.parquet")
    assert unpack_photos(tmp_path / "photos.parquet", tmp_path / "out" / "photos") == 1
    written = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.jpg")]
    assert written == [Path("photos/010/0108775015.jpg")]


def test_hm_is_read_from_its_directory_with_its_photos(tmp_path: Path) -> None:
    shop = write_tiny_shop(tmp_path / "shop")
    (shop / "images").mkdir()
    pq.write_table(pa.table({"article_id": ["0100000000"], "jpeg": [b"\xff\xd8"]}), shop / "images" / "p.parquet")
    shown = open_data("hm", shop, Settings(data_dir=tmp_path / "data"))
    assert shown.pictures is not None and (shown.pictures / "010" / "0100000000.jpg").is_file()
    events = list(shown.held_out())
    assert events and all(event.occurred_at >= shown.window.cut for event in events)
    # Who opens the page finds that something has happened, and the rest still to come.
    assert shown.opening() == events[ALREADY - 1].occurred_at < events[-1].occurred_at


def test_photos_of_a_table_that_was_set_are_shown_as_files(tmp_path: Path) -> None:
    shop = write_tiny_shop(tmp_path / "shop")
    (tmp_path / "mine").mkdir()
    pq.write_table(pa.table({"article_id": ["0100000000"], "jpeg": [b"\xff\xd8"]}), tmp_path / "mine" / "p.parquet")
    settings = Settings(data_dir=tmp_path / "data", page=PageSettings(pictures=tmp_path / "mine"))
    pictures = open_data("hm", shop, settings).settings(settings).page.pictures
    assert pictures is not None and (pictures / "010" / "0100000000.jpg").is_file()


def test_complete_journey_takes_no_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--path is for synthetic and hm"):
        open_data("complete-journey", tmp_path, Settings(data_dir=tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_each_data_set_has_a_channel_and_what_was_set_stays(name: str, tmp_path: Path) -> None:
    log, window = None, Window(MONDAY, 7)
    shown = Shown(name, "", log, window, 300.0, "€", tmp_path)  # type: ignore[arg-type]
    plain = shown.settings(Settings())
    assert plain.registry.channel == ("production" if name == NAMES[0] else f"production-{name}")
    assert (plain.page.currency, plain.page.pictures) == ("€", tmp_path)
    assert shown.settings(Settings(page=PageSettings(currency="£"))).page.currency == "£"
    # A coat is bought once, milk every week.
    assert plain.page.hide_bought
    assert not replace(shown, again=True).settings(Settings()).page.hide_bought
