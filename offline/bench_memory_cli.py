"""`modiste bench memory`: the command."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from offline.bench_stream_cli import BROKERS


@click.command()
@click.option("--soak", "minutes", type=click.FloatRange(min=0), default=20.0, show_default=True, help="0: no soak.")
@click.option("--customers", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Of the soak.")
@click.option("--rate", type=click.IntRange(min=1), default=2_000, show_default=True, help="Its events a second.")
@click.option("--stored", type=click.IntRange(min=1), default=200, show_default=True, help="Measured in Redis.")
@click.option("--articles", type=click.IntRange(min=100), default=20_000, show_default=True, help="Random articles.")
@click.option("--kafka", type=click.Choice(BROKERS), default="tansu", show_default=True, help="Broker to start.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def memory(
    minutes: float, customers: int, rate: int, stored: int, articles: int, kafka: str, seed: int, as_json: bool
) -> None:
    """Bytes of a customer in Redis at 20 and 100 events, and a worker's memory over a soak.

    Starts a broker and a Redis server of its own and makes a random bundle; needs no data.
    """
    from offline.bench_memory import Soak, measure
    from offline.run import limit_threads

    limit_threads(1)
    with TemporaryDirectory(prefix="modiste-bench-") as scratch:
        report = measure(
            Path(scratch),
            kafka=kafka,
            events=(20, 100),
            customers=stored,
            soak=Soak(minutes, customers, rate) if minutes else None,
            articles=articles,
            seed=seed,
        )
    click.echo(json.dumps(report) if as_json else _table(report))


def _table(report: dict[str, Any]) -> str:
    lines = ["events   bytes in Redis   greatest   of the value"]
    for events, row in report["redis_bytes"].items():
        lines.append(f"{events:>6}   {row['mean']:>14}   {row['max']:>8}   {row['value']:>12}")
    if soak := report["soak"]:
        rss = soak["rss_mib"]
        lines += [
            f"worker over {soak['minutes']:g} minutes, {soak['events']} events of {soak['customers_seen']} customers:",
            f"{rss['first']} MiB at first, {rss['last']} at last, {rss['max']} at most; "
            f"{soak['growth_percent']:+}% over the second half",
        ]
    return "\n".join(lines)
