"""What the demo shows: a data set, when its present begins, how fast time runs, how the page looks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from infra.errors import ConfigurationError
from infra.settings import Settings
from offline.event_log import EventLog, import_data, log_directory
from offline.held_out import purchases, take
from offline.progress import step
from offline.window import Window, choose_window, parse_day
from offline.world.drawings import write_drawings
from offline.world.files import read_world, write_world
from offline.world.settings import WorldSize
from offline.world.simulation import World
from streams.events import Event, id_key

NAMES = ("complete-journey", "synthetic", "hm")
# Complete Journey: the year's last full week, eight days before the end of the data.
CUT = "2017-12-24"
# A small town of fashion: small enough to be made, drawn and learned from while somebody waits.
TOWN = WorldSize(customers=3_000, articles=1_600, days=150)
ORACLE_CUSTOMERS = 100
WHOLE_DAY_S = 86_400
ALREADY = 30  # things that have happened when the demo opens: nobody wants to wait for a shop to wake


@dataclass(frozen=True)
class Shown:
    """A data set, ready for the demo.

    title: what it is, in words · speed: how many times as fast as it happened, unless told otherwise · currency,
    pictures: of the page, those that were set on purpose before all others · by_day: the data tells the day of an
    event but not the time · light: so little that the quick preset would learn from it for longer than it is worth ·
    photos: what a photo that is dropped on the page is compared with · prices: whether they mean anything to a
    shopper · again: whether people buy the same article again and again, as in a grocery.
    """

    name: str
    title: str
    log: EventLog
    window: Window
    speed: float
    currency: str = ""
    pictures: Path | None = None
    by_day: bool = False
    light: bool = False
    photos: Path | None = None
    prices: bool = True
    again: bool = False

    def settings(self, settings: Settings) -> Settings:
        """The settings with the page as this data set wants it, and a channel of its own: bundles of several data sets
        must not take each other's place. What was set on purpose stays."""
        page = settings.page
        wanted = page.model_copy(
            update={
                "pictures": self.pictures,
                "prices": page.prices and self.prices,
                "currency": page.currency or self.currency,
                "hide_bought": page.hide_bought or not self.again,
            }
        )
        registry = settings.registry
        if self.name != NAMES[0]:
            registry = registry.model_copy(update={"channel": f"{registry.channel}-{self.name}"})
        return settings.model_copy(update={"page": wanted, "registry": registry})

    def held_out(self) -> Iterator[Event]:
        """What happened in the days after the cut, in time order."""
        events = purchases(self.log, self.window.cut, self.window.cut + timedelta(days=self.window.horizon))
        return spread(events) if self.by_day else events

    def opening(self) -> datetime:
        """When the present begins: the moment of one of the first things that happen after the cut."""
        first = take(self.held_out(), ALREADY)
        return first[-1].occurred_at if first else self.window.cut


def open_data(name: str, path: Path | None, settings: Settings) -> Shown:
    """Make or import the data set; a second time it is there already.

    Raises:
        ConfigurationError: hm without a path, a path for complete-journey.
    """
    return {"complete-journey": _complete_journey, "synthetic": _synthetic, "hm": _hm}[name](path, settings)


def _complete_journey(path: Path | None, settings: Settings) -> Shown:
    if path is not None:
        raise ConfigurationError("complete-journey comes with its package; --path is for synthetic and hm")
    log = import_data("complete-journey", None, log_directory(settings.data_dir, "complete-journey"))
    title = "a year of a retailer's transactions (dunnhumby Complete Journey)"
    window = choose_window(log.span, parse_day(CUT))
    pictures = settings.page.pictures
    return Shown("complete-journey", title, log, window, 300.0, currency="$", pictures=pictures, again=True)


def _synthetic(path: Path | None, settings: Settings) -> Shown:
    """`path`: a world that `modiste offline data synthesize` wrote; without it a small one is made."""
    world = path or settings.data_dir / "demo-world"
    if path is None and not (world / "images").is_dir():
        write_world(TOWN, world, pictures=True, oracle_customers=ORACLE_CUSTOMERS)
    size = read_world(world).size
    drawings = settings.data_dir / "demo-drawings" / _digest(size)
    if not drawings.is_dir():
        aside = drawings.with_name(f".{drawings.name}.drawing")
        shutil.rmtree(aside, ignore_errors=True)
        write_drawings(World(size).catalogue, aside)
        aside.rename(drawings)
    log = import_data("synthetic", world, log_directory(settings.data_dir, "demo-world"))
    title = f"a fashion world of {size.customers:,} customers and {size.articles:,} drawn articles"
    window = choose_window(log.span, None)
    photos = world / "images"
    return Shown(
        "synthetic",
        title,
        log,
        window,
        300.0,
        "€",
        settings.page.pictures or drawings,
        light=path is None,
        photos=photos if photos.is_dir() else None,
    )


def _hm(path: Path | None, settings: Settings) -> Shown:
    """`path`: Kaggle's files. Photos are looked for in `path`/images as Kaggle has them, or in a Parquet file of
    article_id and jpeg there or as page.pictures."""
    log = import_data("hm", path, log_directory(settings.data_dir, "hm"))
    title = "purchases of H&M's customers (Kaggle, 2022)"
    photos = _photos(settings.page.pictures or (None if path is None else path / "images"), settings.data_dir)
    window = choose_window(log.span, None)
    return Shown("hm", title, log, window, 60.0, pictures=photos, by_day=True, photos=photos, prices=False)


def _photos(place: Path | None, data_dir: Path) -> Path | None:
    """A directory of photos as the page reads it: photos in a Parquet file are written out once."""
    if place is None or not place.exists():
        return None
    tables = [place] if place.is_file() else sorted(place.glob("*.parquet"))
    if not tables:
        return place
    stamp = tables[0].stat()
    out = data_dir / "demo-photos" / f"{tables[0].stem}-{stamp.st_size}-{stamp.st_mtime_ns}"
    if not out.is_dir():
        aside = out.with_name(f".{out.name}.writing")
        shutil.rmtree(aside, ignore_errors=True)
        unpack_photos(tables[0], aside)
        aside.rename(out)
    return out


def unpack_photos(table: Path, out: Path) -> int:
    """Write each photo of a Parquet file (article_id, jpeg) as OUT/010/0108775015.jpg; returns how many."""
    file = pq.ParquetFile(table)
    written = 0
    with step("photos", file.metadata.num_rows) as progress:
        for batch in file.iter_batches(500, columns=["article_id", "jpeg"]):
            for row in batch.to_pylist():
                name = row["article_id"]
                # An id is data: it must not lead out of the directory.
                if row["jpeg"] and name.isalnum():
                    (out / name[:3]).mkdir(parents=True, exist_ok=True)
                    (out / name[:3] / f"{name}.jpg").write_bytes(row["jpeg"])
                    written += 1
            progress.advance(batch.num_rows)
    return written


def spread(events: Iterator[Event]) -> Iterator[Event]:
    """Events of which only the day is known, each at a time of that day that follows from its customer: a basket stays
    together. They come in time order again, and hold one day in memory."""
    day: list[Event] = []
    for event in events:
        if day and event.occurred_at.date() != day[0].occurred_at.date():
            yield from _day(day)
            day = []
        day.append(event)
    yield from _day(day)


def _day(events: list[Event]) -> Iterator[Event]:
    placed = [msgspec.structs.replace(event, occurred_at=_moment(event)) for event in events]
    yield from sorted(placed, key=lambda event: (event.occurred_at, event.event_id))


def _moment(event: Event) -> datetime:
    midnight = datetime.combine(event.occurred_at.date(), time(), event.occurred_at.tzinfo)
    return midnight + timedelta(seconds=id_key(event.customer_id) % WHOLE_DAY_S)


def _digest(size: WorldSize) -> str:
    return f"{size.articles}-articles-{size.days}-days-seed-{size.seed}"
