"""`modiste streams dead-letters`: show, requeue, export."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.settings import load_settings

if TYPE_CHECKING:
    from streams.letter_desk import Letter

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.group("dead-letters")
def dead_letters() -> None:
    """Messages nobody could use: look at them, send them again, take them away."""


def _since(context: click.Context, option: click.Parameter, given: str | None) -> datetime | None:
    del context, option
    if given is None:
        return None
    if ago := _AGO.fullmatch(given):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise click.BadParameter(f"{given!r}; write 90s, 15m, 2h, 7d or 2026-11-21T08:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _chosen(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that say which letters are meant."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--limit", type=click.IntRange(min=1), default=default, show_default=True),
            click.option("--since", callback=_since, help="Refused since then: 2h ago, or an ISO time (UTC)."),
            click.option("--topic", help="Refused on this topic."),
            click.option("--reason", help="Refused for this reason, as `show` has it: rejected, state_unreadable."),
        ):
            command = option(command)
        return command

    return decorate


def _read(reason: str | None, topic: str | None, since: datetime | None, limit: int) -> list[Letter]:
    from streams.letter_desk import Wanted, read_letters

    return asyncio.run(read_letters(load_settings().kafka, Wanted(reason, topic, since), limit=limit))


@dead_letters.command()
@_chosen(20)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def show(as_json: bool, **chosen: Any) -> None:
    """Print refused messages: where they stood, what was wrong, the raw bytes."""
    from streams.letter_desk import as_row

    letters = _read(**chosen)
    for one in letters:
        row = as_row(one)
        if as_json:
            click.echo(json.dumps({**row, "at": one.at.isoformat()}))
        else:
            times = f", sent again {row['requeued']} times" if row["requeued"] else ""
            place = f"{row['topic']}/{row['partition']}@{row['offset']}"
            click.echo(f"{place}  {row['reason']}{times}: {row['error']}\n    {row['text']}")
    if not letters and not as_json:
        click.echo("no dead letters")


@dead_letters.command()
@_chosen(1_000)
@click.option("--max-times", type=click.IntRange(min=1), help="Leave those that came back as often.  [default: 3]")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def requeue(max_times: int | None, dry_run: bool, as_json: bool, **chosen: Any) -> None:
    """Send refused messages to their topics again, byte for byte under their own keys, each once."""
    from streams.letter_desk import MAX_TIMES
    from streams.letter_desk import requeue as send_again

    counts = asyncio.run(
        send_again(load_settings().kafka, _read(**chosen), max_times=max_times or MAX_TIMES, dry_run=dry_run)
    )
    names = ("sent", "too_often", "incomplete", "superseded")
    if as_json:
        click.echo(json.dumps({**{name: counts[name] for name in names}, "dry_run": dry_run}))
        return
    click.echo(f"{counts['sent']} {'would be sent' if dry_run else 'sent'} again")
    if counts["too_often"]:
        click.echo(f"{counts['too_often']} left: they came back {max_times or MAX_TIMES} times (--max-times)")
    if counts["incomplete"]:
        click.echo(f"{counts['incomplete']} left: too large to be kept whole")
    if counts["superseded"]:
        click.echo(f"{counts['superseded']} left: their topic has something newer under their key")


@dead_letters.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_chosen(100_000)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(file: Path, as_json: bool, **chosen: Any) -> None:
    """Write refused messages to FILE: .jsonl or .parquet."""
    from streams.letter_desk import export as write

    letters = _read(**chosen)
    write(letters, file)
    click.echo(json.dumps({"file": str(file), "letters": len(letters)}) if as_json else f"{len(letters)} in {file}")
