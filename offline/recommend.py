"""`modiste recommend`: answers in process for one customer or all, from the live store or replayed history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from infra.clock import Clock, ManualClock
from infra.errors import BundleError, ConfigurationError
from infra.registry import Registry
from infra.settings import Settings, load_settings, make_clock
from offline.event_log import import_data, log_directory
from offline.histories import load_histories
from offline.progress import step
from offline.window import parse_day
from serving.golden import open_runtime
from serving.messages import MAX_K, STRATEGIES, RecommendationRequest, Recommendations
from serving.pipeline import Pipeline
from serving.rules import shop_rules
from serving.runtime import Runtime
from streams.events import to_micros
from streams.redis_store import open_store
from streams.store import StoredCustomer

CHUNK = 256
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("article_id", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("source", pa.string()),
    ]
)
ALL_CUSTOMERS = 10_000_000  # of a store; beyond that a batch job reads the event log


@dataclass(frozen=True)
class Customers:
    """Who is asked for: their ids, how to look them up, and the present."""

    ids: list[str]
    load: Callable[[Sequence[str]], list[StoredCustomer | None]]
    clock: Clock


@click.command()
@click.option("--customer", help="One customer's id.")
@click.option("--all", "everybody", is_flag=True, help="Every known customer; needs --out.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Parquet file to write.")
@click.option("--data", "source", help="Replay this data set instead of reading the live store; default: the bundle's.")
@click.option("--path", type=click.Path(path_type=Path), help="Directory of the data set's files.")
@click.option("--until", help="Replay events before this date (exclusive); default: where the bundle's training ended.")
@click.option("--k", type=click.IntRange(1, MAX_K), default=12, show_default=True, help="Articles a customer.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default="full", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def recommend(
    customer: str | None,
    everybody: bool,
    out: Path | None,
    source: str | None,
    path: Path | None,
    until: str | None,
    k: int,
    strategy: str,
    as_json: bool,
) -> None:
    """Recommend in process, by the bundle of the channel and under the rules of the settings.

    Reads the live store if MODISTE_REDIS__URL names one and no --data is given; otherwise replays history.
    """
    if (customer is None) == (not everybody):
        raise ConfigurationError("give either --customer ID or --all")
    if everybody and out is None:
        raise ConfigurationError("--all writes a file: give --out FILE.parquet")
    if out is not None:
        check_directory(out)
    settings = load_settings()
    runtime = open_runtime(Registry(settings.registry.url).resolve(settings.registry.channel))
    live = source is None and until is None and path is None and not settings.redis.url.startswith("embedded:")
    if live:
        customers = _from_store(settings, customer)
    else:
        customers = _from_history(settings, runtime, source or str(runtime.manifest.config["source"]), path, until)
    pipeline = Pipeline(runtime, customers.clock, shop=shop_rules(settings.rules))
    if customer is not None:
        (answer,) = answers(pipeline, customers, [customer], k, strategy)
        _show(answer, runtime, as_json)
        if out is not None:
            write_answers(iter([answer]), out)
        return
    if out is not None:
        rows = write_answers(_with_progress(pipeline, customers, k, strategy), out)
        summary = {
            "customers": len(customers.ids),
            "rows": rows,
            "bundle_id": runtime.bundle_id,
            "until": customers.clock.now().isoformat(),
            "out": str(out),
        }
        click.echo(
            msgspec.json.encode(summary).decode()
            if as_json
            else f"{rows:,} rows for {len(customers.ids):,} customers in {out}"
        )


def _from_history(settings: Settings, runtime: Runtime, source: str, path: Path | None, until: str | None) -> Customers:
    trained_on = runtime.manifest.config["source"]
    if trained_on != source:
        raise ConfigurationError(
            f"--data {source}: bundle {runtime.bundle_id} was trained on {trained_on} and knows no article of it; run "
            f"`modiste offline run --data {source}` first"
        )
    log = import_data(source, path, log_directory(settings.data_dir, source))
    trained_through = runtime.manifest.trained_through
    moment = parse_day(until) if until else trained_through
    if moment < trained_through:
        raise BundleError(
            f"bundle {runtime.bundle_id} was trained on events up to {trained_through.isoformat()}, later than --until "
            f"{moment.isoformat()}: its answers would know the future. Run `modiste offline run --until "
            f"{moment.date()}` first"
        )
    histories = load_histories(log, moment)
    end = to_micros(moment)

    def load(ids: Sequence[str]) -> list[StoredCustomer | None]:
        states = [histories.state(customer, end) for customer in ids]
        return [None if state is None else StoredCustomer(state) for state in states]

    everyone = sorted({*histories.customers, *log.customers()["customer_id"].to_pylist()})
    return Customers(everyone, load, ManualClock(moment))


def _from_store(settings: Settings, customer: str | None) -> Customers:
    """One event loop a call: the store's connection belongs to the loop that made it."""

    async def ids() -> list[str]:
        store = await open_store(settings.redis)
        try:
            return await store.customer_ids(ALL_CUSTOMERS)
        finally:
            await store.close()

    async def fetch(wanted: Sequence[str]) -> list[StoredCustomer | None]:
        store = await open_store(settings.redis)
        try:
            return await store.load(wanted)
        finally:
            await store.close()

    known = [customer] if customer is not None else asyncio.run(ids())
    return Customers(known, lambda wanted: asyncio.run(fetch(wanted)), make_clock(settings.clock))


def answers(
    pipeline: Pipeline, customers: Customers, ids: Sequence[str], k: int, strategy: str
) -> list[Recommendations]:
    """Answers in the order of `ids`; batch or single, each customer gets the same."""
    requests = [RecommendationRequest(request_id=i, customer_id=i, k=k, strategy=strategy) for i in ids]
    return pipeline.recommend(requests, customers.load(ids))


def _with_progress(pipeline: Pipeline, customers: Customers, k: int, strategy: str) -> Iterator[Recommendations]:
    with step("recommend", len(customers.ids)) as progress:
        for first in range(0, len(customers.ids), CHUNK):
            ids = customers.ids[first : first + CHUNK]
            yield from answers(pipeline, customers, ids, k, strategy)
            progress.advance(len(ids))


def check_directory(out: Path) -> None:
    """Before anything is computed or printed.

    Raises:
        ConfigurationError: the directory of `out` does not exist.
    """
    if not out.parent.is_dir():
        raise ConfigurationError(f"--out {out}: there is no directory {out.parent}")


def write_answers(stream: Iterator[Recommendations], out: Path) -> int:
    """Write SCHEMA rows to a parquet file, aside and renamed; returns how many.

    Raises:
        ConfigurationError: the directory does not exist.
    """
    check_directory(out)
    aside = out.with_name(out.name + ".part")
    rows = 0
    try:
        with pq.ParquetWriter(aside, SCHEMA) as writer:
            block: list[Recommendations] = []
            for answer in stream:
                block.append(answer)
                if len(block) == CHUNK:
                    rows += _write_block(writer, block)
                    block = []
            rows += _write_block(writer, block)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    return rows


def _write_block(writer: pq.ParquetWriter, block: Sequence[Recommendations]) -> int:
    pairs = [(answer.customer_id, item) for answer in block for item in answer.items]
    columns = [
        [customer for customer, _ in pairs],
        [item.article_id for _, item in pairs],
        [item.rank for _, item in pairs],
        [item.score for _, item in pairs],
        [item.source for _, item in pairs],
    ]
    writer.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA))
    return len(pairs)


def _show(answer: Recommendations, runtime: Runtime, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(answer).decode())
        return
    known = "unknown customer: what is popular" if answer.cold_start else f"knows events up to {_day(answer.as_of)}"
    click.echo(f"{answer.customer_id}  bundle {answer.bundle_id}  {known}")
    for item in answer.items:
        about = runtime.items.describe(item.article_id)
        click.echo(f"{item.rank:>3}  {item.article_id:<12} {item.score:8.4f}  {about['title'] or ''}  [{item.source}]")


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else moment.isoformat(sep=" ", timespec="seconds")
