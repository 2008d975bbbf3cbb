"""`modiste bench rebalance`: members of a group come and go under traffic."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from offline.bench_stream_cli import BROKERS

KINDS = ("quiet", "join", "leave", "death")


@click.command()
@click.option("--kafka", type=click.Choice(BROKERS), default="tansu", show_default=True, help="Broker to start.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Joins and leaves.")
@click.option("--deaths", type=click.IntRange(min=0), default=3, show_default=True, help="As another joins.")
@click.option("--rate", type=click.FloatRange(min=10), default=200.0, show_default=True, help="Messages a second.")
@click.option("--gap", type=click.FloatRange(min=2), default=3.0, show_default=True, help="Seconds after each change.")
@click.option("--only", help="Contenders, comma-separated; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def rebalance(kafka: str, rounds: int, deaths: int, rate: float, gap: float, only: str | None, as_json: bool) -> None:
    """Longest wait of a message while a member joins, leaves, or dies as another joins; in milliseconds.

    `kept` are the partitions whose reader stays, `moved` those that go to another. Beside aiokafka's eager protocol and
    librdkafka's cooperative one, with the same session timeout and heartbeat.
    """
    from infra.errors import ConfigurationError
    from offline.bench_rebalance import CONTENDERS, Plan, measure

    chosen = tuple(only.split(",")) if only else CONTENDERS
    if unknown := sorted(set(chosen) - set(CONTENDERS)):
        raise ConfigurationError(f"--only {', '.join(unknown)}: there are {', '.join(CONTENDERS)}")
    with TemporaryDirectory(prefix="modiste-bench-") as scratch:
        plan = Plan(rounds, deaths, rate, gap)
        report = measure(Path(scratch), plan, kafka=kafka, contenders=chosen)
    click.echo(json.dumps(report) if as_json else _table(report, chosen))


def _table(report: dict[str, Any], names: tuple[str, ...]) -> str:
    lines = ["longest wait, ms: median (worst)", f"{'':12}" + "".join(f"{kind:>30}" for kind in KINDS)]
    for name in names:
        found = report[name]
        if found is None:
            lines.append(f"{name:12}  {report['absent'][name]}")
            continue
        for fate in ("kept", "moved"):
            cells = "".join(f"{_cell(found.get(kind, {}).get(fate)):>30}" for kind in KINDS)
            lines.append(f"{name if fate == 'kept' else '':12}{cells}   {fate}")
        lines.append(f"{'':12}  lost {found['lost']}, read twice {found['doubled']}")
    return "\n".join(lines)


def _cell(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['median']:.1f} ({found['worst']:.1f})"
