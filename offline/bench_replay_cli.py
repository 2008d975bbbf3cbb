"""`modiste bench replay`: the command."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from offline.event_log import EventLog


@click.command()
@click.option("--bundle", "given", help="A channel, a bundle's id or its directory: replays what it was trained on.")
@click.option("--customers", type=click.IntRange(min=1), default=2_500, show_default=True, help="Random customers.")
@click.option("--days", type=click.IntRange(min=1), default=365, show_default=True, help="Of random purchases.")
@click.option("--events-a-day", type=click.IntRange(min=2), default=4_000, show_default=True)
@click.option("--articles", type=click.IntRange(min=100), default=20_000, show_default=True, help="Random articles.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Medians are over these.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def replay(
    given: str | None,
    customers: int,
    days: int,
    events_a_day: int,
    articles: int,
    rounds: int,
    seed: int,
    as_json: bool,
) -> None:
    """Events a second of an in-process replay with states and embeddings, and its memory at three lengths of history.

    Columns of the event log through the processor, beside events by JSON through the same processor. Needs no data: by
    default purchases, articles and networks are random, as many as Complete Journey's households make in a year.
    """
    from offline import bench_replay
    from offline.bench_log import LogSize, write_bench_log
    from offline.run import limit_threads

    limit_threads(2)
    with TemporaryDirectory(prefix="modiste-bench-") as scratch:
        directory = Path(scratch)
        if given is not None:
            log, bundle = _of(given)
            report = {**bench_replay.measure(log, bundle, rounds=rounds), "random": False}
        else:
            size = LogSize(customers, articles, days, events_a_day)
            bundle = bench_replay.random_bundle(directory, articles, seed)
            log = write_bench_log(directory / "log", size, seed)
            report = {
                **bench_replay.measure(log, bundle, rounds=rounds),
                "sparse": bench_replay.sparse(directory, bundle, size, seed),
                "memory": bench_replay.memory(directory, bundle, size, seed),
                "random": True,
            }
    click.echo(json.dumps(report) if as_json else _table(report))


def _of(given: str) -> tuple[EventLog, Path]:
    """The log that a bundle was trained on, and the bundle's directory."""
    from infra.bundle import BUNDLE_ID, open_bundle
    from infra.registry import Registry
    from infra.settings import load_settings
    from offline.event_log import EventLog, log_directory

    settings = load_settings()
    registry = Registry(settings.registry.url)
    if Path(given, "manifest.json").is_file():
        bundle = open_bundle(Path(given))
    elif BUNDLE_ID.fullmatch(given):
        bundle = registry.open(given)
    else:
        bundle = registry.resolve(given)
    return EventLog(log_directory(settings.data_dir, bundle.manifest.config["source"])), bundle.path


def _table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['events']:,} events of {report['customers']:,} customers, median of {report['rounds']} rounds",
        f"{'':<16}{'events/s':>10}{'a CPU second':>14}{'times json':>12}{'peak MB':>10}{'encoded':>12}",
    ]
    for way, row in report["ways"].items():
        lines.append(
            f"{way:<16}{row['eps']:>10,}{row['eps_cpu']:>14,}{row['times_json_cpu']:>12.2f}{row['peak_mb']:>10.1f}"
            f"{row['encoded']:>12,}"
        )
    if "memory" in report:
        many = report["sparse"]
        lines.append(f"{many['customers']:,} customers: {many['eps']:,} events/s, {many['peak_mb']} MB")
        lines += [
            f"{row['events']:>12,} events of {row['customers']} customers: peak {row['peak_mb']} MB"
            for row in report["memory"]
        ]
    return "\n".join(lines)
