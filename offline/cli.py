"""`modiste offline`: data in, models out."""

from __future__ import annotations

import json
from pathlib import Path

import click

from infra.errors import ConfigurationError
from infra.settings import load_settings, make_clock
from infra.telemetry import configure_logging
from offline.counterfactual.cli import counterfactual
from offline.data_cli import data
from offline.rolling_cli import rolling
from offline.sources.registry import HELP

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


@click.group()
def offline() -> None:
    """Import data, train, evaluate, publish bundles."""


offline.add_command(data)
offline.add_command(rolling)
offline.add_command(counterfactual)


@offline.command()
@click.option(
    "--data",
    "source",
    default="complete-journey",
    show_default=True,
    help=f"Data set: {HELP}.",
)
@click.option("--path", type=click.Path(path_type=Path), help="The data set's directory, or its TOML.")
@click.option(
    "--base",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --data archive: an event log of what came before it, or a folder with articles.csv or .parquet.",
)
@click.option("--until", help="Learn only from events before this date (exclusive); the days after it are the test.")
@click.option("--preset", type=click.Choice(["standard", "quick"]), default="standard", show_default=True)
@click.option("--seed", type=int, help="Another seed than the preset's.")
@click.option(
    "--report", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as HTML here."
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Photos of the articles, a directory laid out as H&M's or a Parquet of article_id and jpeg: shown in the "
    "report, and looked at where --image-encoder says by what.",
)
@click.option(
    "--image-encoder",
    help="What looks at the photos: efficientnet (a package, nothing to download), clip:MODEL@TAG, "
    "clip:MODEL@FILE.safetensors or clip:DIRECTORY. The bundle carries it, and customers can search by a photo.",
)
@click.option("--activate-anyway", is_flag=True, help="Move the channel even where a gate says no.")
@click.option("--every", help="Build again and again, such as 1h: counts and index each time; until stopped.")
@click.option("--retrain-every", default="1d", show_default=True, help="With --every: train the networks this often.")
@click.option("--rounds", type=click.IntRange(min=1), help="With --every: end after so many rounds.")
@click.option("--cold-start", is_flag=True, help="With --every: train from the beginning, not from the last networks.")
@JSON
def run(
    source: str,
    path: Path | None,
    base: Path | None,
    until: str | None,
    preset: str,
    seed: int | None,
    page: Path | None,
    images: Path | None,
    image_encoder: str | None,
    activate_anyway: bool,
    every: str | None,
    retrain_every: str,
    rounds: int | None,
    cold_start: bool,
    as_json: bool,
) -> None:
    """Import, train, evaluate, gate and publish one bundle; with --every one after another."""
    import asyncio
    from dataclasses import replace
    from functools import partial

    from infra.announce import announce
    from infra.registry import Registry
    from offline.content.images import open_images
    from offline.event_log import import_data, log_directory
    from offline.rebuild import Rebuilder, Rhythm, parse_duration
    from offline.report import check_page, run_facts, write_report
    from offline.run import PRESETS, OfflineRun, limit_threads, say
    from offline.window import choose_window, parse_day

    if page is not None:
        check_page(page)
    settings = load_settings()
    limit_threads(2)
    read_log = partial(import_data, source, path, log_directory(settings.data_dir, source), base=base)
    config = PRESETS[preset] if seed is None else replace(PRESETS[preset], seed=seed)
    if image_encoder and images is None:
        raise ConfigurationError("--image-encoder looks at photos: say where they are with --images")
    if image_encoder:
        config = replace(config, content=replace(config.content, image=image_encoder))
    photos = open_images(images) if images else None
    if every is not None:
        for name, given in (("--until", until), ("--report", page), ("--activate-anyway", activate_anyway)):
            if given:
                raise ConfigurationError(f"{name} is for a single run; --every judges each round on the newest day")
        configure_logging(settings.log.level)
        config = replace(config, learn=replace(config.learn, warm_start=not cold_start))
        rhythm = Rhythm(parse_duration(every), parse_duration(retrain_every), rounds)
        Rebuilder(
            settings, config, make_clock(settings.clock), read_log, rhythm, partial(show_round, as_json), photos
        ).run()
        return
    log = read_log()
    window = choose_window(log.span, parse_day(until) if until else None)
    if until and parse_day(until) > log.span[1]:
        say(f"the log ends on {log.span[1].date()}, before --until: its last {window.horizon} days are the test")
    job = OfflineRun(log, window, config, settings.data_dir / "runs", make_clock(settings.clock), photos)
    registry = Registry(settings.registry.url)
    result = job.execute(registry, settings.registry.channel, activate_anyway=activate_anyway)
    if result.activated:
        asyncio.run(announce(settings, registry.pointer(settings.registry.channel)))
    if page is not None:
        write_report(page, result.report | run_facts() | {"bundle_id": result.bundle_id}, photos)
    if as_json:
        summary = {
            "bundle_id": result.bundle_id,
            "activated": result.activated,
            "channel": settings.registry.channel,
            **result.report,
        }
        click.echo(json.dumps(summary))
    else:
        show(result.bundle_id, result.report, result.activated, settings.registry.channel)
    if not result.activated:
        raise SystemExit(1)


@offline.command("encode-articles")
@click.option("--once", is_flag=True, help="Encode what is there now and end.")
@JSON
def encode_articles(once: bool, as_json: bool) -> None:
    """Give articles that are newer than the bundle their content vectors, until stopped.

    Only bundles whose texts were encoded by a network need it; `modiste up` runs it where torch is installed.
    """
    import asyncio

    from infra.telemetry import configure_logging
    from offline.encode_articles import ArticleEncoding

    settings = load_settings()
    configure_logging(settings.log.level)
    published = asyncio.run(ArticleEncoding(settings).run(once=once))
    click.echo(json.dumps({"vectors": published}) if as_json else f"{published} vectors published")


def show_round(as_json: bool, row: dict[str, object]) -> None:
    """One line a round."""
    if as_json:
        click.echo(json.dumps(row))
    else:
        shown = {name: value for name, value in row.items() if name not in ("gates", "round")}
        click.echo(f"round {row['round']}: " + ", ".join(f"{name} {value}" for name, value in shown.items()))


def show(bundle_id: str, report: dict[str, object], activated: bool, channel: str) -> None:
    """The report as a table."""
    from rich.console import Console
    from rich.table import Table

    metrics = report["metrics"]
    gates = report["gates"]
    if not isinstance(metrics, dict) or not isinstance(gates, list):
        return
    table = Table(
        title=f"{report['customers']} customers, {report['horizon_days']} days from {str(report['cut'])[:10]}"
    )
    names = list(next(iter(metrics.values())))
    for column in ("strategy", *names):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for strategy, values in metrics.items():
        table.add_row(strategy, *(f"{values[name]:.4f}" for name in names))
    console = Console()
    console.print(table)
    for gate in gates:
        console.print(f"{'PASS' if gate['passed'] else 'FAIL'}  {gate['name']}: {gate['given']} ({gate['wanted']})")
    state = f"channel {channel} moved to it" if activated else f"channel {channel} stays where it was"
    console.print(f"bundle {bundle_id} published; {state}")
