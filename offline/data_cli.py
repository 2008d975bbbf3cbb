"""`modiste offline data`: import a data set, validate it, look at an event log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from infra.errors import ConfigurationError
from infra.settings import load_settings
from infra.telemetry import configure_logging
from offline.day_files import Progress
from offline.event_log import EventLog, import_data, log_directory
from offline.sources.base import Example
from offline.sources.registry import HELP, open_source
from offline.validate import Validation, validate_data
from offline.validate_log import validate_log
from offline.world.cli import score, synthesize

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
DATA = click.option("--data", "name", metavar="NAME", help=f"Data source: {HELP}.")
PATH = click.option("--path", type=click.Path(path_type=Path), help="The source's directory, or its TOML.")
LOG = click.option("--log", "log_path", type=click.Path(path_type=Path), help="Directory of an event log.")
DEFAULT_SOURCE = "complete-journey"
SHOWN_EVENTS = 5


@click.group()
def data() -> None:
    """Import a data set, validate it, look at an event log."""


data.add_command(synthesize)
data.add_command(score)


@data.command("import")
@DATA
@PATH
@click.option("--out", type=click.Path(path_type=Path), help="Event log to make; default: under data_dir.")
@AS_JSON
def import_(name: str | None, path: Path | None, out: Path | None, as_json: bool) -> None:
    """Make an event log of a data set; an unchanged one is not imported again."""
    data_dir = _settings()
    name = name or DEFAULT_SOURCE
    started = time.perf_counter()
    with progress_display() as progress:
        log = import_data(name, path, out or log_directory(data_dir, name), progress)
    if as_json:
        _print({**_summary(log), "elapsed_s": round(time.perf_counter() - started, 3)})
        return
    _tell(log)
    click.echo(f"ready in {time.perf_counter() - started:.1f} s")


@data.command()
@DATA
@PATH
@LOG
@AS_JSON
@click.pass_context
def validate(context: click.Context, name: str | None, path: Path | None, log_path: Path | None, as_json: bool) -> None:
    """Check a source's files, or with --log an event log (with --data too: that it is up to date).

    Exit code 1 if any check fails; all are run.
    """
    _settings()
    if log_path is None:
        result = validate_data(name or DEFAULT_SOURCE, path)
    elif path is not None and name is None:
        raise ConfigurationError("--path belongs to a source; name it by --data")
    else:
        result = validate_log(log_path, open_source(name, path) if name else None)
    if as_json:
        _print(result.to_dict())
    else:
        _tell_validation(result)
    if not result.passed:
        context.exit(1)


@data.command()
@DATA
@LOG
@AS_JSON
def show(name: str | None, log_path: Path | None, as_json: bool) -> None:
    """Show what an event log holds and its first events."""
    log = EventLog(log_path or log_directory(_settings(), name or DEFAULT_SOURCE))
    events = next(log.scan()).slice(0, SHOWN_EVENTS).to_pylist()
    if as_json:
        _print({**_summary(log), "events": events})
        return
    _tell(log)
    for event in events:
        price = "" if event["price"] is None else f"  price {event['price']:g}"
        click.echo(
            f"  {event['occurred_at']:%Y-%m-%d %H:%M:%S}  {event['type']}  customer {event['customer_id']}  "
            f"article {event['article_id']}  {event['quantity']} pc{price}"
        )


@contextmanager
def progress_display() -> Iterator[Progress]:
    """A progress callback: a bar on stderr where that is a terminal, else a plain line every two seconds."""
    if not sys.stderr.isatty():
        yield _PlainLines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def draw(phase: str, done: int, total: int | None) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total)
            bar.update(tasks[phase], completed=done, total=total)

        yield draw


class _PlainLines:
    """Tells the first step of a phase, the last, and one every two seconds between."""

    def __init__(self) -> None:
        self._phase = ""
        self._told = 0.0

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if phase == self._phase and done != total and now - self._told < 2:
            return
        self._phase, self._told = phase, now
        click.echo(f"{phase}: {done:,}" + (f" of {total:,}" if total is not None else ""), err=True)


def _settings() -> Path:
    settings = load_settings()
    configure_logging(settings.log.level)
    return settings.data_dir


def _print(value: dict[str, Any]) -> None:
    click.echo(msgspec.json.encode(value).decode())


def _summary(log: EventLog) -> dict[str, Any]:
    manifest = log.manifest
    return {
        "log": str(log.path),
        "source": manifest.source,
        "counts": manifest.counts,
        "notes": manifest.notes,
        "first": manifest.first,
        "last": manifest.last,
        "content_hash": manifest.content_hash,
    }


def _tell(log: EventLog) -> None:
    manifest = log.manifest
    counts = manifest.counts
    click.echo(f"{manifest.source} in {log.path}")
    click.echo(
        f"  {counts['events']:,} events on {counts['days']:,} days, {counts['articles']:,} articles, "
        f"{counts['customers']:,} customers described"
    )
    click.echo(f"  {manifest.first:%Y-%m-%d %H:%M:%S} to {manifest.last:%Y-%m-%d %H:%M:%S} UTC")
    for note, count in manifest.notes.items():
        click.echo(f"  {count:,} {note}")


def _tell_validation(result: Validation) -> None:
    for check in result.checks:
        verdict = "PASS" if check.passed else "FAIL"
        click.echo(f"{verdict}  {check.name:<15} {check.description}" + _times(check.failed))
        for example in check.examples:
            click.echo(f"        {_place(example)}")
    click.echo(", ".join(f"{count:,} good {table}" for table, count in result.counts.items()))
    for note, count in result.notes.items():
        click.echo(f"{count:,} {note}")
    click.echo(f"{result.subject}: {'PASS' if result.passed else 'FAIL'}")


def _times(failed: int) -> str:
    return f": {failed:,} times not" if failed else ""


def _place(example: Example) -> str:
    place = [example.file] if example.file else []
    if example.row is not None:
        place.append(f"row {example.row:,}")
    if example.column is not None:
        place.append(example.column if example.value is None else f"{example.column} {example.value!r}")
    return f"{', '.join(place)}: {example.reason}" if place else example.reason
