"""`modiste bench recommend`: what a request costs in process, over HTTP and through Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from infra.bundle import Bundle
    from offline.bench_serving import LoadPlan
    from streams.histories import Histories

WAYS = ("in_process", "http", "kafka")
RANDOM = "random"  # as config.source of a bundle that offline/bench_shop.py wrote


@click.command()
@click.option("--bundle", "given", help="A channel, a bundle's id or its directory; default: random articles.")
@click.option("--articles", type=click.IntRange(min=100), default=105_542, show_default=True, help="Random articles.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the random bundle here, for --bundle later.")
@click.option("--customers", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Requests a customer.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Of a micro-batch.")
@click.option(
    "--through",
    multiple=True,
    type=click.Choice(WAYS),
    default=WAYS,
    show_default=True,
    help="Measured so; several may be given.",
)
@click.option("--rate", type=click.FloatRange(min=1), default=100.0, show_default=True, help="Requests a second.")
@click.option("--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="At that rate.")
@click.option("--rps/--no-rps", "greatest", default=True, help="Look for the greatest rate that is sustained, too.")
@click.option("--kafka", type=click.Choice(["tansu", "apache"]), default="tansu", show_default=True)
@click.option("--gateways", type=click.IntRange(min=1), default=2, show_default=True, help="They share the HTTP port.")
@click.option("--responders", type=click.IntRange(min=1), default=2, show_default=True, help="They share the topic.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def recommend(
    given: str | None,
    articles: int,
    keep: Path | None,
    customers: int,
    rounds: int,
    batch: int,
    through: tuple[str, ...],
    rate: float,
    seconds: float,
    greatest: bool,
    kafka: str,
    gateways: int,
    responders: int,
    seed: int,
    as_json: bool,
) -> None:
    """Milliseconds a request: in process by stage and strategy; over HTTP and through Kafka under load.

    Needs no data: by default articles and purchases are random, as many as H&M's, and answers mean nothing. HTTP and
    Kafka are measured with real processes and the load generator beside them; a rate is sustained where every request
    is answered and 99 of 100 within 150 ms.
    """
    from offline.run import limit_threads

    limit_threads(1)
    with TemporaryDirectory(prefix="modiste-bench-") as scratch:
        bundle, histories = (
            _random(keep or Path(scratch) / "bundle", articles, seed) if given is None else open_with_histories(given)
        )
        measured = Measured(bundle, histories, customers, seed)
        report: dict[str, Any] = measured.in_process(rounds, batch) if "in_process" in through else {}
        lines = [name for name in WAYS[1:] if name in through]
        if lines:
            from offline.bench_serving import LoadPlan

            place = Path(scratch) / "serving"
            place.mkdir()
            plan = LoadPlan(rate, seconds, greatest, kafka, gateways, responders)
            report |= measured.outside(place, lines, plan)
        report |= measured.about
    click.echo(json.dumps(report) if as_json else _table(report))


class Measured:
    """A bundle and the customers who ask it."""

    def __init__(self, bundle: Bundle, histories: Histories, customers: int, seed: int) -> None:
        from offline.bench_recommend import stored_customers
        from serving.runtime import load_runtime

        self._bundle = bundle
        self._runtime = load_runtime(bundle)
        self._now = bundle.manifest.trained_through
        self._asking = stored_customers(self._runtime, histories, self._now, customers, seed)

    @property
    def about(self) -> dict[str, Any]:
        return {
            "articles": len(self._runtime.items),
            "customers": len(self._asking),
            "bundle_id": self._runtime.bundle_id,
            "random": self._bundle.manifest.config["source"] == RANDOM,
        }

    def in_process(self, rounds: int, batch: int) -> dict[str, Any]:
        from offline.bench_recommend import measure

        return measure(self._runtime, self._now, self._asking, rounds=rounds, batch=batch)

    def outside(self, directory: Path, lines: list[str], plan: LoadPlan) -> dict[str, Any]:
        """Each line, and `rps`: the greatest rate sustained through any of them."""
        from offline.bench_serving import bench_serving

        found = bench_serving(directory, self._bundle, self._asking, lines, plan)
        best = {"rps": max(found[name]["rps"] for name in lines)} if plan.greatest else {}
        return {**found, **best, "broker": plan.kafka, "gateways": plan.gateways, "responders": plan.responders}


def _random(directory: Path, articles: int, seed: int) -> tuple[Bundle, Histories]:
    from infra.errors import ConfigurationError
    from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle

    if directory.exists():
        raise ConfigurationError(f"--keep {directory} exists already: give it as --bundle, or another place")
    size = BenchSize(articles=articles)
    shop = bench_shop(size, seed)
    return write_bench_bundle(directory, shop, size, seed), shop.histories


def open_with_histories(given: str) -> tuple[Bundle, Histories]:
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
    head = f"{report['articles']:,} {'random ' if report['random'] else ''}articles"
    rows: dict[str, dict[str, Any]] = {}
    if "in_process" in report:
        head += f", {report['candidates']} candidates, {report['events']['mean']} events a customer"
        rows |= {
            "full": report["in_process"],
            f"full, {report['batched']['requests']} at once": report["batched"],
            **report["strategies"],
            **{f"  {name}": row for name, row in report["stages"].items()},
        }
    lines = [name for name in WAYS[1:] if name in report]
    rows |= {f"{name}, {report[name]['rate']:g}/s": report[name] for name in lines}
    told = [
        head,
        f"{'milliseconds a request':<24}{'p50':>10}{'p99':>10}",
        *(f"{name:<24}{row['p50_ms']:>10.3f}{row['p99_ms']:>10.3f}" for name, row in rows.items()),
    ]
    told += [f"{name}: {report[name]['rps']:g} requests/s sustained" for name in lines if "rps" in report[name]]
    told += [f"{name}: failed {report[name]['failures']}" for name in lines if report[name]["failed"]]
    return "\n".join(told)
