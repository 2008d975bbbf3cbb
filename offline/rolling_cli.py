"""`modiste offline rolling`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from infra.settings import load_settings, make_clock


@click.command()
@click.option("--data", "source", default="complete-journey", show_default=True, help="Data set, as for `run`.")
@click.option("--path", type=click.Path(path_type=Path), help="Directory of the data set's files.")
@click.option("--until", help="The last of the cuts; default: as for `run`.")
@click.option("--weeks", type=click.IntRange(1, 52), default=4, show_default=True, help="How many cuts, a week apart.")
@click.option("--preset", type=click.Choice(["standard", "quick"]), default="standard", show_default=True)
@click.option("--seed", type=int, help="Another seed than the preset's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def rolling(
    source: str, path: Path | None, until: str | None, weeks: int, preset: str, seed: int | None, as_json: bool
) -> None:
    """Repeat the run at weekly cuts and judge each week and all of them; no channel moves."""
    from dataclasses import replace

    from offline.event_log import import_data, log_directory
    from offline.rolling import rolling_windows, run_rolling
    from offline.run import PRESETS, OfflineRun, limit_threads
    from offline.window import choose_window, parse_day

    settings = load_settings()
    limit_threads(2)
    log = import_data(source, path, log_directory(settings.data_dir, source))
    config = PRESETS[preset] if seed is None else replace(PRESETS[preset], seed=seed)
    windows = rolling_windows(log, choose_window(log.span, parse_day(until) if until else None), weeks)
    runs, clock = settings.data_dir / "runs", make_clock(settings.clock)
    found = run_rolling(windows, lambda window: OfflineRun(log, window, config, runs, clock), runs, config.seed)
    if as_json:
        click.echo(json.dumps({"source": source, "preset": preset, **found}))
    else:
        show(found)


def show(found: dict[str, Any]) -> None:
    """A row a week, then all weeks."""
    from rich.console import Console
    from rich.table import Table

    from offline.report import COLUMNS, verdict

    table = Table(title="full, and what it is better or worse than")
    table.add_column("week from")
    table.add_column("customers", justify="right")
    for label in (COLUMNS[row["metric"]] for row in found["pooled"]["headline"]):
        table.add_column(label, justify="right")
        table.add_column("over the best baseline")
    for name, part in [*((week["cut"][:10], week) for week in found["weeks"]), ("all weeks", found["pooled"])]:
        cells = [cell for row in part["headline"] for cell in (f"{row['value']:.4f}", verdict(row))]
        table.add_row(name, str(part["customers"]), *cells)
    Console().print(table)
