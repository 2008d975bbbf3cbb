"""`modiste bench events` and `modiste bench freshness`, on servers that they start themselves."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

BROKERS = ("tansu", "apache")


@click.command()
@click.option("--kafka", type=click.Choice(BROKERS), default="tansu", show_default=True, help="Broker to start.")
@click.option("--events", "count", type=click.IntRange(min=1_000), default=60_000, show_default=True)
@click.option("--customers", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--articles", type=click.IntRange(min=100), default=20_000, show_default=True, help="Random articles.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Medians are over these.")
@click.option("--batch-size", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option("--only", help="Contenders, comma-separated; default: all.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def events(
    kafka: str,
    count: int,
    customers: int,
    articles: int,
    rounds: int,
    batch_size: int,
    only: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Events a second of one worker, beside other consumers that do the same work: decode, fold, encode, Redis.

    Starts a broker and a Redis server of its own and makes a random bundle; needs no data.
    """
    from infra.errors import ConfigurationError
    from offline.bench_events import CONTENDERS, measure
    from offline.run import limit_threads

    chosen = tuple(only.split(",")) if only else CONTENDERS
    if unknown := sorted(set(chosen) - set(CONTENDERS)):
        raise ConfigurationError(f"--only {', '.join(unknown)}: there are {', '.join(CONTENDERS)}")
    limit_threads(1)
    with TemporaryDirectory(prefix="modiste-bench-") as scratch:
        report = measure(
            Path(scratch),
            kafka=kafka,
            events=count,
            customers=customers,
            articles=articles,
            rounds=rounds,
            batch_size=batch_size,
            seed=seed,
            contenders=chosen,
        )
    click.echo(json.dumps(report) if as_json else _events_table(report, chosen))


def _events_table(report: dict[str, Any], names: tuple[str, ...]) -> str:
    lines = ["contender     events/s   lowest  highest  modiste is"]
    for name in names:
        if report[name] is None:
            lines.append(f"{name:12}  {report['absent'][name]}")
        else:
            low, high = report["spread"][name]
            ratio = f"{report['ratio'][name]:.2f} of it" if name in report["ratio"] else ""
            lines.append(f"{name:12}  {report[name]:>8}  {low:>7}  {high:>7}  {ratio}")
    return "\n".join(lines)


@click.command()
@click.option("--kafka", type=click.Choice(BROKERS), default="tansu", show_default=True, help="Broker to start.")
@click.option("--events", "count", type=click.IntRange(min=1_000), default=60_000, show_default=True)
@click.option("--customers", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--articles", type=click.IntRange(min=100), default=20_000, show_default=True, help="Random articles.")
@click.option("--seconds", type=click.FloatRange(min=1, max=120), default=40.0, show_default=True, help="At each load.")
@click.option("--batch-size", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option(
    "--of",
    type=click.Choice(["ready", "throughput"]),
    default="ready",
    show_default=True,
    help="Which of the two throughputs the shares are of.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def freshness(
    kafka: str,
    count: int,
    customers: int,
    articles: int,
    seconds: float,
    batch_size: int,
    of: str,
    seed: int,
    as_json: bool,
) -> None:
    """Milliseconds from a purchase to the first answer that includes it, at 10, 50 and 80% of a throughput.

    Of `ready`: what is folded of --events events that lie ready, as `bench events` has it. Of `throughput`: what is
    folded while events are produced and requests asked as they are later, which is less. Starts its own servers and
    makes a random bundle.
    """
    from offline.bench_freshness import measure
    from offline.run import limit_threads

    limit_threads(1)
    with TemporaryDirectory(prefix="modiste-bench-") as scratch:
        report = measure(
            Path(scratch),
            kafka=kafka,
            events=count,
            customers=customers,
            articles=articles,
            seconds=seconds,
            batch_size=batch_size,
            seed=seed,
            of=of,
        )
    click.echo(json.dumps(report) if as_json else _freshness_table(report))


def _freshness_table(report: dict[str, Any]) -> str:
    lines = [
        f"throughput {report['throughput']} events/s under this load, {report['ready']} of events that lie ready; "
        f"shares are of {report['setup']['shares_of']}",
        "load   events/s   p50 ms   p95 ms   p99 ms  probes  unseen",
    ]
    for share, row in report["detail"].items():
        p50, p95, p99 = (row["freshness_ms"][name] for name in ("p50", "p95", "p99"))
        lines.append(
            f"{share:>3}%  {row['rate']:>9}  {p50:>7}  {p95:>7}  {p99:>7}  {row['probes']:>6}  {row['unseen']:>6}"
        )
    return "\n".join(lines)
