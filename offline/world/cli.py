"""`modiste offline data synthesize` and `score`: a fashion world with a known best answer, and how near others come."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from infra.settings import load_settings
from infra.telemetry import configure_logging
from offline.world.files import ORACLE_CUSTOMERS, write_world
from offline.world.score import score_answers
from offline.world.settings import WorldSize

_DEFAULT = WorldSize()


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory to write; an older world is replaced."
)
@click.option("--customers", type=int, default=_DEFAULT.customers, show_default=True)
@click.option("--articles", type=int, default=_DEFAULT.articles, show_default=True)
@click.option("--days", type=int, default=_DEFAULT.days, show_default=True)
@click.option(
    "--seed", type=int, default=_DEFAULT.seed, show_default=True, help="Equal sizes and seeds give equal bytes."
)
@click.option("--pictures", is_flag=True, help="Draw every article (some 100 a second).")
@click.option("--csv", is_flag=True, help="Write H&M's three tables as CSV.")
@click.option(
    "--oracle-customers",
    type=click.IntRange(min=1),
    default=ORACLE_CUSTOMERS,
    show_default=True,
    help="Customers whose best answer is written.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def synthesize(
    out: Path,
    customers: int,
    articles: int,
    days: int,
    seed: int,
    pictures: bool,
    csv: bool,
    oracle_customers: int,
    as_json: bool,
) -> None:
    """Write a synthetic fashion world in H&M's layout, with views, impressions and the best answer."""
    configure_logging(load_settings().log.level)
    size = WorldSize(customers, articles, days, seed)
    started = time.perf_counter()
    manifest = write_world(size, out, pictures=pictures, csv=csv, oracle_customers=oracle_customers)
    elapsed = time.perf_counter() - started
    if as_json:
        summary = {"world": str(out), **asdict(manifest), "elapsed_s": round(elapsed, 3)}
        click.echo(msgspec.json.encode(summary).decode())
        return
    click.echo(f"{out}: " + ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items()))
    click.echo("a piece of the next visit is among 12 articles with probability")
    for name, chance in manifest.chance_in_12.items():
        click.echo(f"  {chance:.4f}  {name}")
    click.echo(f"written in {elapsed:.1f} s; try `modiste offline run --data synthetic --path {out}`")


@click.command()
@click.option("--world", type=click.Path(path_type=Path), required=True, help="Directory that synthesize wrote.")
@click.option(
    "--answers",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Parquet with customer_id, rank, article_id, as `modiste recommend --all --out` writes it.",
)
@click.option("--k", type=click.IntRange(min=1), default=12, show_default=True, help="How many of each list count.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def score(world: Path, answers: Path, k: int, as_json: bool) -> None:
    """Score answers for the last week of a synthetic world against the best that was possible.

    They may know everything before the week, and nothing of it.
    """
    configure_logging(load_settings().log.level)
    found = score_answers(world, answers, k)
    if as_json:
        click.echo(msgspec.json.encode(asdict(found)).decode())
        return
    click.echo(f"a piece of the first visit from {found.as_of} is among {k} articles with probability")
    for name in ("answers", "best", "bestsellers", "random"):
        click.echo(f"  {getattr(found, name):.4f}  {name}")
    click.echo(
        f"the answers find {found.found:.1%} of what was possible, 95% interval [{found.low:.1%}, {found.high:.1%}], "
        f"{found.customers:,} customers"
    )
