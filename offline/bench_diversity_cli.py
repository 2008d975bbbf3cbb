"""`modiste bench diversity`: what mixed lists cost in hits."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

WANTED = (0.0, 0.1, 0.3, 0.5)


@click.command()
@click.option("--bundle", "given", help="A channel, a bundle's id or its directory; default: the channel served.")
@click.option(
    "--diversity",
    "wanted",
    multiple=True,
    type=click.FloatRange(0, 1),
    help="May be given several times; 0, which the others are compared with, always counts. Default: 0.1, 0.3, 0.5.",
)
@click.option("--days", type=click.IntRange(1, 28), default=7, show_default=True, help="Judged after the bundle's cut.")
@click.option(
    "--customers", type=click.IntRange(min=1), help="Judge so many, drawn at random; default: all who bought."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def diversity(
    given: str | None, wanted: tuple[float, ...], days: int, customers: int | None, seed: int, as_json: bool
) -> None:
    """MAP@12 and how mixed the lists are, by the `diversity` that requests ask for, in the days after a bundle's cut.

    Needs the event log that the bundle was trained on, with the days after it.
    """
    from offline.run import limit_threads

    limit_threads(1)
    report = _measured(given, sorted({0.0, *(wanted or WANTED)}), days, customers, seed)
    click.echo(json.dumps(report) if as_json else _table(report))


def _measured(given: str | None, wanted: list[float], days: int, customers: int | None, seed: int) -> dict[str, Any]:
    import numpy as np

    from infra.bundle import BUNDLE_ID, open_bundle
    from infra.errors import DataError
    from infra.registry import Registry
    from infra.settings import load_settings
    from offline.bench_diversity import measure_diversity
    from offline.event_log import EventLog, log_directory
    from offline.examples import purchases_between
    from offline.histories import load_histories
    from offline.progress import step
    from serving.runtime import load_runtime
    from streams.events import to_micros

    settings = load_settings()
    registry = Registry(settings.registry.url)
    named = given or settings.registry.channel
    if Path(named, "manifest.json").is_file():
        bundle = open_bundle(Path(named))
    else:
        bundle = registry.open(named) if BUNDLE_ID.fullmatch(named) else registry.resolve(named)
    runtime = load_runtime(bundle)
    cut = bundle.manifest.trained_through
    until = cut + timedelta(days=days)
    source = str(bundle.manifest.config["source"])
    histories = load_histories(EventLog(log_directory(settings.data_dir, source)), until)
    bought = purchases_between(histories, runtime.items, to_micros(cut), to_micros(until))
    if not bought:
        raise DataError(
            f"{source} has no purchase from {cut.date()} until {until.date()}, the days after bundle "
            f"{bundle.bundle_id}'s cut; give a bundle that was trained with an earlier --until"
        )
    if customers is not None:
        drawn = np.random.default_rng(seed).permutation(sorted(bought))[:customers].tolist()
        bought = {name: bought[name] for name in drawn}
    with step("diversity", len(bought)) as progress:
        rows = measure_diversity(runtime, histories, bought, to_micros(cut), wanted, progress, seed=seed)
    return {
        "bundle_id": bundle.bundle_id,
        "source": source,
        "from": cut.isoformat(),
        "days": days,
        "customers": len(bought),
        "by_diversity": rows,
    }


def _table(report: dict[str, Any]) -> str:
    head = f"{'diversity':>9}{'MAP@12':>10}{'change':>9}{'95% interval of it':>24}{'recall@12':>11}"
    lines = [
        f"{report['source']}, {report['days']} days from {report['from'][:10]}, {report['customers']:,} customers",
        f"{head}{'distance':>10}{'two subcategories':>19}",
    ]
    for row in report["by_diversity"]:
        change = row.get("map@12_change")
        low, high = change["ratio_interval"] if change else (None, None)
        said = f"{change['ratio'] - 1:>+9.1%}" if change and change["ratio"] else " " * 9
        interval = "" if low is None or high is None else f"{low - 1:+.1%} to {high - 1:+.1%}"
        lines.append(
            f"{row['diversity']:>9.2f}{row['map@12']:>10.5f}{said}{interval:>24}{row['recall@12']:>11.5f}"
            f"{row['content_distance']:>10.3f}{row['subcategory_diversity']:>19.3f}"
        )
    lines.append(
        "distance: mean of 1 - cosine of content over the pairs of a list; two subcategories: share of pairs of two"
    )
    return "\n".join(lines)
