"""`modiste offline counterfactual`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.errors import ConfigurationError
from infra.settings import Settings, load_settings
from serving.messages import STRATEGIES

if TYPE_CHECKING:
    from rich.console import Console

    from serving.runtime import Runtime

DATA = ("open-bandit", "archive", "synthetic")
DRAWN = ("even", "demand", "taste")


@click.command()
@click.option("--data", "source", type=click.Choice(DATA), required=True, help="Whose impressions.")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="Folder of the Open Bandit logs; of an archive (default: the live one); of a synthetic world.",
)
@click.option(
    "--campaign",
    "campaigns",
    multiple=True,
    type=click.Choice(("all", "men", "women")),
    help="Of open-bandit; default: each.",
)
@click.option(
    "--target",
    type=click.Choice((*DRAWN, *STRATEGIES)),
    help="The policy to judge: a strategy; of synthetic also articles drawn evenly, by demand or by each one's taste.  "
    "[default: even for synthetic, full for archive]",
)
@click.option("--bundle", "bundle_id", help="The strategy's bundle; default: the channel's.")
@click.option(
    "--base",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Of archive: the event log of what came before it, as for `run`.",
)
@click.option("--horizon", default="7d", show_default=True, help="Of archive: how long a sale counts.")
@click.option("--days", type=click.IntRange(min=1), default=28, show_default=True, help="Of synthetic: at its end.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the resamples and folds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; the table is on stderr.")
def counterfactual(
    source: str,
    path: Path | None,
    campaigns: tuple[str, ...],
    target: str | None,
    bundle_id: str | None,
    base: Path | None,
    horizon: str,
    days: int,
    seed: int,
    as_json: bool,
) -> None:
    """Estimate what another policy would have earned, from what was shown and with what chance.

    On open-bandit each of two policies is estimated from the log of the other and held against its own.
    """
    from offline.rebuild import parse_duration

    settings = load_settings()
    if source == "open-bandit":
        if path is None:
            raise ConfigurationError("--data open-bandit: give --path, the folder of random_all.parquet and its like")
        found = _open_bandit(path, campaigns, seed)
    elif source == "synthetic":
        found = _synthetic(settings, path, target or "even", bundle_id, days, seed)
    else:
        reach = timedelta(seconds=parse_duration(horizon))
        found = _archive(settings, path, base, target or "full", bundle_id, reach, seed)
    if as_json:
        click.echo(json.dumps({"data": source, "seed": seed, **found}))


def _open_bandit(path: Path, campaigns: tuple[str, ...], seed: int) -> dict[str, Any]:
    from offline.counterfactual.open_bandit import CAMPAIGNS, cases, summary
    from offline.counterfactual.report import show_cases

    found = list(cases(path, campaigns or CAMPAIGNS, seed))
    totals = summary(found)
    show_cases(_console(), found, totals)
    return {
        "assumption": "bts draws article and place with shares that do not depend on the visitor; they are frequencies "
        "in every other row of its log, its value is the mean of the others",
        "cases": [case.report() for case in found],
        "summary": totals,
    }


def _synthetic(
    settings: Settings, path: Path | None, target: str, bundle_id: str | None, days: int, seed: int
) -> dict[str, Any]:
    from offline.counterfactual.evaluation import evaluate
    from offline.counterfactual.report import show_evaluation
    from offline.counterfactual.shown import listed_log
    from offline.counterfactual.strategy_lists import after_training, strategy_lists
    from offline.counterfactual.world import ShownWorld
    from offline.event_log import import_data, log_directory
    from offline.histories import load_histories
    from offline.sources.synthetic import Synthetic
    from offline.world.files import read_world
    from streams.events import to_micros

    Synthetic(path)  # makes the default world where it is missing, refuses what is none
    directory = path or settings.data_dir / "synthetic-world"
    size = read_world(directory).size
    world = ShownWorld(directory, to_micros(size.date(max(size.days - days, 0))))
    if target in DRAWN:
        log, wanted = world.log(), world.shares(target)
        found, truth = evaluate(log, wanted, seed), world.true_value(target)
    else:
        runtime = _runtime(settings, bundle_id, "synthetic")
        if len(after_training(world.shown, runtime)) < len(world.shown):
            world = ShownWorld(directory, to_micros(runtime.manifest.trained_through))
        events = import_data("synthetic", path, log_directory(settings.data_dir, "synthetic"))
        lists = strategy_lists(runtime, target, load_histories(events), world.shown)
        log, listed = listed_log(world.shown, world.reward, world.name, lists)
        found, truth = evaluate(log, listed, seed), world.true_value_of(lists)
    show_evaluation(_console(), f"views a place: `{target}` from the world's log, {len(log):,} places", found, truth)
    return {"target": target, "bundle_id": bundle_id, "truth": truth, **found.report()}


def _archive(
    settings: Settings,
    path: Path | None,
    base: Path | None,
    target: str,
    bundle_id: str | None,
    horizon: timedelta,
    seed: int,
) -> dict[str, Any]:
    from offline.counterfactual.evaluation import evaluate
    from offline.counterfactual.impressions import bought_within, finished, read_impressions
    from offline.counterfactual.report import show_evaluation
    from offline.counterfactual.shown import listed_log
    from offline.counterfactual.strategy_lists import after_training, strategy_lists
    from offline.event_log import import_data, log_directory
    from offline.histories import load_histories

    if target in DRAWN:
        raise ConfigurationError(f"--target {target} is for synthetic; of an archive give {', '.join(STRATEGIES)}")
    archived = read_impressions(path or settings.data_dir / "archive")
    events = import_data("archive", path, log_directory(settings.data_dir, "archive"), base=base)
    over = finished(archived.shown, events, horizon)
    runtime = _runtime(settings, bundle_id, "archive")
    shown = after_training(over, runtime)
    if not len(shown):
        raise ConfigurationError(
            f"no impression is older than {horizon} when the archive ends on {events.span[1].isoformat()}; wait, or "
            f"give a shorter --horizon"
        )
    lists = strategy_lists(runtime, target, load_histories(events), shown)
    log, listed = listed_log(shown, bought_within(shown, events, horizon), "impressions", lists)
    found = evaluate(log, listed, seed)
    title = f"sales within {horizon} a place: `{target}` of {runtime.bundle_id} from {len(log):,} places shown"
    show_evaluation(_console(), title, found, None)
    counts = {
        "unreadable": archived.unreadable,
        "repeated": archived.repeated,
        "unfinished": len(archived.shown) - len(over),
        "before_training_ended": len(over) - len(shown),
    }
    return {
        "target": target,
        "bundle_id": runtime.bundle_id,
        "horizon_s": horizon.total_seconds(),
        "drawn": archived.drawn,
        "left_out": counts,
        **found.report(),
    }


def _runtime(settings: Settings, bundle_id: str | None, source: str) -> Runtime:
    from infra.registry import Registry
    from serving.golden import open_runtime

    registry = Registry(settings.registry.url)
    runtime = open_runtime(registry.open(bundle_id) if bundle_id else registry.resolve(settings.registry.channel))
    trained_on = runtime.manifest.config["source"]
    if source not in str(trained_on):
        raise ConfigurationError(
            f"bundle {runtime.bundle_id} was trained on {trained_on} and knows no article of {source}; run `modiste "
            f"offline run --data {source}` first, or name another by --bundle"
        )
    return runtime


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, width=120)
