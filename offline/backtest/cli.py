"""`modiste backtest`: what would have been recommended then, and would it have sold?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.errors import ConfigurationError
from infra.settings import Settings, load_settings
from offline.sources.registry import HELP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from infra.bundle import Bundle
    from offline.backtest.plan import BacktestPlan, Step
    from offline.backtest.runner import Runner

STRATEGIES = "full,popular,repurchase,collab,two_tower,hybrid"
NEVER = "never"


@click.command()
@click.option("--data", "source", default="complete-journey", show_default=True, help=f"Data set: {HELP}.")
@click.option("--path", type=click.Path(path_type=Path), help="The data set's directory, or its TOML.")
@click.option("--from", "start", help="The first cut, a date or time; default: eight steps before the end.")
@click.option("--to", "end", help="Where the last step ends; default: behind the log's last whole day.")
@click.option("--step", "step", default="7d", show_default=True, help="From cut to cut, and what each is judged by.")
@click.option("--short-last", is_flag=True, help="The last step may be shorter than the others.")
@click.option("--retrain", default="28d", show_default=True, help="How old networks become at most, or never.")
@click.option("--rebuild", default="7d", show_default=True, help="The same for index, counts and prices, or never.")
@click.option(
    "--label-delay", default="1d", show_default=True, help="How much later than an event training hears of it."
)
@click.option("--strategy", default=STRATEGIES, show_default=True, help="Who is compared, the first one with the rest.")
@click.option("--baseline", help="Whom the others are measured by; default: the best of those after the first.")
@click.option("--bundle", "bundles", multiple=True, help="Compare this bundle of the registry too; repeatable.")
@click.option("--k", type=int, default=100, show_default=True, help="Articles a list.")
@click.option("--everyone", is_flag=True, help="Ask every customer known at the cut, not only those who then buy.")
@click.option(
    "--freshness/--no-freshness",
    "fresh",
    default=True,
    show_default=True,
    help="Measure what fresher states are worth.",
)
@click.option("--preset", type=click.Choice(["standard", "quick"]), default="standard", show_default=True)
@click.option("--seed", type=int, help="Another seed than the preset's.")
@click.option("--images", type=click.Path(path_type=Path), help="Photos of the articles, as for `offline run`.")
@click.option(
    "--report", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here as HTML."
)
@click.option("--through", type=click.Choice(["memory", "kafka"]), default="memory", show_default=True)
@click.option("--kafka", type=click.Choice(["tansu", "apache"]), default="tansu", show_default=True, help="Its broker.")
@click.option("--speed", help="With --through kafka: how much faster than it was, such as 3600x; default: as it goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def backtest(
    source: str,
    path: Path | None,
    start: str | None,
    end: str | None,
    step: str,
    short_last: bool,
    retrain: str,
    rebuild: str,
    label_delay: str,
    strategy: str,
    baseline: str | None,
    bundles: tuple[str, ...],
    k: int,
    everyone: bool,
    fresh: bool,
    preset: str,
    seed: int | None,
    images: Path | None,
    page: Path | None,
    through: str,
    kafka: str,
    speed: str | None,
    as_json: bool,
) -> None:
    """Replay history through the real fold and the real pipeline, and compare what would have been shown.

    At each step only what was known then answers; what was bought is looked at afterwards. Killed and started again,
    it goes on where it was.
    """
    import asyncio
    from dataclasses import replace
    from datetime import timedelta

    from offline.backtest.builder_process import BuilderProcess
    from offline.backtest.engine import Backtest
    from offline.backtest.freshness import Freshness, freshness
    from offline.backtest.judge import judge
    from offline.backtest.ledger import Ledger
    from offline.backtest.plan import BacktestPlan, contenders_of
    from offline.backtest.report import write_backtest_report
    from offline.content.images import open_images
    from offline.event_log import import_data, log_directory
    from offline.report import check_page, run_facts
    from offline.run import PRESETS, code_revision, limit_threads
    from offline.window import parse_day
    from serving.golden import open_runtime

    if page is not None:
        check_page(page)
    if speed is not None and through != "kafka":
        raise ConfigurationError("--speed is for --through kafka; in memory, history goes as fast as it can")
    settings = load_settings()
    limit_threads(2)
    length = _duration("--step", step)
    log = import_data(source, path, log_directory(settings.data_dir, source))
    last = parse_day(end) if end else log.span[1].replace(hour=0, minute=0, second=0, microsecond=0)
    config = PRESETS[preset] if seed is None else replace(PRESETS[preset], seed=seed)
    plan = BacktestPlan(
        start=parse_day(start) if start else last - 8 * length,
        end=last,
        step=length,
        contenders=contenders_of([name.strip() for name in strategy.split(",") if name.strip()], bundles),
        config=config,
        retrain=_duration_or_never("--retrain", retrain),
        rebuild=_duration_or_never("--rebuild", rebuild),
        label_delay=timedelta(0) if label_delay in ("0", "0d") else _duration("--label-delay", label_delay),
        k=k,
        short_last=short_last,
        everyone=everyone,
        through=through,
    )
    _check(plan, baseline, log.span[1])
    photos = open_images(images) if images else None
    ledger = Ledger.of(settings.data_dir, plan, log)
    measured = Freshness(ledger, log, plan) if fresh else None

    def afterwards(done: Step, by: Mapping[str, Bundle]) -> None:
        if measured is not None:
            measured.measure(done, open_runtime(by[measured.contender.name]))

    with BuilderProcess(log, plan, ledger.directory, settings.data_dir, images) as builder:
        test = Backtest(log, plan, ledger, builder, _given(settings, plan))
        asyncio.run(test.run(lambda: _open_runner(settings, plan, speed, kafka), afterwards))
    report = judge(ledger, log, plan, baseline) | run_facts() | {"code_revision": code_revision()}
    if fresh:
        report["freshness"] = freshness(ledger, plan)
    if page is not None:
        write_backtest_report(page, report, photos)
    if as_json:
        click.echo(json.dumps(report))
    else:
        show(report)


def _check(plan: BacktestPlan, baseline: str | None, last: datetime) -> None:
    """What would otherwise be found out hours later."""
    from datetime import timedelta

    names = [contender.name for contender in plan.contenders]
    if baseline is not None and baseline not in names:
        raise ConfigurationError(f"--baseline {baseline}: not among those who are compared, {', '.join(names)}")
    if plan.end > last + timedelta(days=1):
        raise ConfigurationError(f"--to {plan.end.isoformat()}: the log ends on {last.isoformat()}")


def _given(settings: Settings, plan: BacktestPlan) -> dict[str, Bundle]:
    """The bundles of the registry that stand in the plan, by id."""
    from infra.registry import Registry
    from offline.backtest.plan import BUILT

    registry = Registry(settings.registry.url)
    return {c.bundle: registry.open(c.bundle) for c in plan.contenders if c.bundle != BUILT}


async def _open_runner(settings: Settings, plan: BacktestPlan, speed: str | None, kafka: str) -> Runner:
    if plan.through == "kafka":
        from offline.backtest.through_kafka import open_through_kafka

        return await open_through_kafka(settings, plan, speed, kafka=kafka)
    from offline.backtest.inprocess import InProcess

    return InProcess()


def _duration(option: str, text: str) -> timedelta:
    from datetime import timedelta

    from offline.rebuild import parse_duration

    try:
        return timedelta(seconds=parse_duration(text))
    except ConfigurationError as error:
        raise ConfigurationError(f"{option}: {error}") from error


def _duration_or_never(option: str, text: str) -> timedelta | None:
    return None if text == NEVER else _duration(option, text)


def show(report: dict[str, Any]) -> None:
    """What all steps say together, and the verdicts."""
    from rich.console import Console
    from rich.table import Table

    pooled = report["pooled"]
    table = Table(title=f"{len(report['steps'])} steps, {pooled['customers']} customers")
    metrics = list(next(iter(pooled["metrics"].values())))
    for column in ("contender", *metrics):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for name, values in pooled["metrics"].items():
        cells = (f"{v['mean']:.4f} [{v['low']:.4f}, {v['high']:.4f}]" for v in (values[m] for m in metrics))
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    for row in pooled["comparisons"]:
        console.print(row["sentence"], highlight=False)
