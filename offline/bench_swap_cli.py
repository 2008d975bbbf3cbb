"""`modiste bench swap`: bundles take turns under load."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import click


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="The ratio is their median.")
@click.option("--swaps", type=click.IntRange(min=1), default=20, show_default=True, help="A round.")
@click.option(
    "--turns", type=click.IntRange(min=1), default=20, show_default=True, help="A round: each quiet, then its swaps."
)
@click.option("--rate", type=click.FloatRange(min=1), default=100.0, show_default=True, help="Requests a second.")
@click.option("--gap", type=click.FloatRange(min=2), default=4.0, show_default=True, help="Seconds between swaps.")
@click.option("--articles", type=click.IntRange(min=100), default=2_000, show_default=True, help="Of each bundle.")
@click.option("--customers", type=click.IntRange(min=10), default=500, show_default=True)
@click.option("--kafka", type=click.Choice(["tansu", "apache"]), default="tansu", show_default=True)
@click.option("--alone", is_flag=True, help="Without a worker, which loads and sweeps too: whose cost is it?")
@click.option("--responders", type=click.IntRange(min=1), default=2, show_default=True, help="They share the topic.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def swap(
    rounds: int,
    swaps: int,
    turns: int,
    rate: float,
    gap: float,
    articles: int,
    customers: int,
    kafka: str,
    alone: bool,
    responders: int,
    seed: int,
    as_json: bool,
) -> None:
    """Swap bundles of random articles under running responders; exit 1 when an answer failed or was mixed."""
    from offline.bench_swap import SwapPlan, bench_swap
    from offline.run import limit_threads

    limit_threads(1)
    plan = SwapPlan(rounds, swaps, turns, rate, gap, articles, customers, seed, alone, responders)
    with TemporaryDirectory(prefix="modiste-swap-") as scratch:
        report = bench_swap(Path(scratch), plan, kafka)
    if as_json:
        click.echo(json.dumps(report))
    else:
        for name, value in report.items():
            click.echo(f"{name:30} {value}")
    if report["failed"] or report["mixed"]:
        raise SystemExit(1)
