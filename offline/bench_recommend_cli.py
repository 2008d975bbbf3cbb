"""`modiste bench recommend`: what a request costs in process."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from infra.bundle import Bundle
    from streams.histories import Histories

RANDOM = "random"  # as config.source of a bundle that offline/bench_shop.py wrote


@click.command()
@click.option("--bundle", "given", help="A channel, a bundle's id or its directory; default: random articles.")
@click.option("--articles", type=click.IntRange(min=100), default=105_542, show_default=True, help="Random articles.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the random bundle here, for --bundle later.")
@click.option("--customers", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Requests a customer.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Of a micro-batch.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def recommend(
    given: str | None,
    articles: int,
    keep: Path | None,
    customers: int,
    rounds: int,
    batch: int,
    seed: int,
    as_json: bool,
) -> None:
    """Milliseconds a request: `full` by stage, in micro-batches, and every other strategy.

    Needs no data: by default articles and purchases are random, as many as H&M's, and answers mean nothing.
    """
    from offline.run import limit_threads

    limit_threads(1)
    with TemporaryDirectory(prefix="modiste-bench-") as scratch:
        bundle, histories = _random(keep or Path(scratch) / "bundle", articles, seed) if given is None else _of(given)
        report = _measured(bundle, histories, customers, rounds, batch, seed)
    click.echo(json.dumps(report) if as_json else _table(report))


def _measured(
    bundle: Bundle, histories: Histories, customers: int, rounds: int, batch: int, seed: int
) -> dict[str, Any]:
    from offline.bench_recommend import measure, stored_customers
    from serving.runtime import load_runtime

    runtime = load_runtime(bundle)
    now = bundle.manifest.trained_through
    asking = stored_customers(runtime, histories, now, customers, seed)
    return {
        **measure(runtime, now, asking, rounds=rounds, batch=batch),
        "articles": len(runtime.items),
        "bundle_id": runtime.bundle_id,
        "random": bundle.manifest.config["source"] == RANDOM,
    }


def _random(directory: Path, articles: int, seed: int) -> tuple[Bundle, Histories]:
    from infra.errors import ConfigurationError
    from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle

    if directory.exists():
        raise ConfigurationError(f"--keep {directory} exists already: give it as --bundle, or another place")
    size = BenchSize(articles=articles)
    shop = bench_shop(size, seed)
    return write_bench_bundle(directory, shop, size, seed), shop.histories


def _of(given: str) -> tuple[Bundle, Histories]:
    """A bundle by directory, id or channel, and the events that it was trained on."""
    from infra.bundle import BUNDLE_ID, open_bundle
    from infra.registry import Registry
    from infra.settings import load_settings
    from offline.bench_shop import BenchSize, bench_histories
    from offline.event_log import EventLog, log_directory
    from offline.histories import load_histories

    settings = load_settings()
    registry = Registry(settings.registry.url)
    if Path(given, "manifest.json").is_file():
        bundle = open_bundle(Path(given))
    elif BUNDLE_ID.fullmatch(given):
        bundle = registry.open(given)
    else:
        bundle = registry.resolve(given)
    config = bundle.manifest.config
    if config["source"] == RANDOM:
        return bundle, bench_histories(BenchSize(**config["size"]), config["seed"])
    log = EventLog(log_directory(settings.data_dir, config["source"]))
    return bundle, load_histories(log, bundle.manifest.trained_through)


def _table(report: dict[str, Any]) -> str:
    about = f"{report['articles']:,} {'random ' if report['random'] else ''}articles"
    rows = {
        "full": report["in_process"],
        f"full, {report['batched']['requests']} at once": report["batched"],
        **report["strategies"],
        **{f"  {name}": row for name, row in report["stages"].items()},
    }
    lines = [
        f"{about}, {report['candidates']} candidates, {report['events']['mean']} events a customer",
        f"{'milliseconds a request':<24}{'p50':>10}{'p99':>10}",
        *(f"{name:<24}{row['p50_ms']:>10.3f}{row['p99_ms']:>10.3f}" for name, row in rows.items()),
    ]
    return "\n".join(lines)
