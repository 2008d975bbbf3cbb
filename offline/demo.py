"""`modiste demo`: train on real data, start everything, let the held-out purchases happen, open the page."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import click

from infra.bundle import Bundle
from infra.clock import ReplayClock, SystemClock
from infra.errors import BundleNotFound, ModisteError
from infra.kafka import Producer
from infra.registry import Registry
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from offline.event_log import EventLog, import_data, log_directory
from offline.held_out import fill_store, purchases, take
from offline.histories import load_histories
from offline.smoke import drive
from offline.window import Window, choose_window, parse_day
from serving.features import feature_hash
from serving.up import Stack, start_stack
from streams.encoder import load_query_encoder
from streams.events import Event
from streams.publisher import EventPublisher
from streams.redis_store import open_store

DATA = "complete-journey"
# The year's last full week: eight days before the end of the data.
CUT = "2017-12-24"
SPEED = 300.0  # a week of purchases in 34 minutes, about a dozen a second
SMOKE_BULK, SMOKE_LATER, SMOKE_PROBES, SMOKE_REQUESTS = 2_000, 3_000, 100, 200
PUBLISH_EVERY_S = 0.25


@click.command()
@click.option("--smoke", is_flag=True, help="Run the loop bounded, print what was measured, stop.")
@click.option("--kafka", type=click.Choice(["tansu", "apache"]), default="tansu", show_default=True)
@click.option("--speed", type=click.FloatRange(1, 100_000), default=SPEED, show_default=True, help="Replay speed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last on stdout.")
def demo(smoke: bool, kafka: str, speed: float, as_json: bool) -> None:
    """Watch real purchases change real recommendations: Complete Journey, up to the last week of its year."""
    started = time.monotonic()
    settings = load_settings()
    configure_logging("WARNING" if smoke else settings.log.level)
    say("1/4  real data: a year of a retailer's transactions (dunnhumby Complete Journey)")
    log = import_data(DATA, None, log_directory(settings.data_dir, DATA))
    window = choose_window(log.span, parse_day(CUT))
    say(f"2/4  a bundle trained on everything before {window.cut.date()}; the week after it is held out")
    bundle = ready_bundle(settings, log, window)
    say("3/4  broker, store, worker, responder, HTTP")
    held_out = purchases(log, window.cut, window.cut + timedelta(days=window.horizon))
    if smoke:
        result = run_smoke(settings, log, window, bundle, held_out, kafka)
        result["elapsed_s"] = round(time.monotonic() - started, 1)
        click.echo(json.dumps(result) if as_json else json.dumps(result, indent=2))
        if result["events_applied"] != result["events_sent"] or result["responses"] != result["requests"]:
            raise SystemExit(1)
        return
    run_page(settings, log, window, bundle, held_out, kafka, speed, as_json)


def ready_bundle(settings: Settings, log: EventLog, window: Window) -> Bundle:
    """The channel's bundle if it was trained on this data up to this cut by this code, else a newly trained one."""
    registry = Registry(settings.registry.url)
    try:
        bundle = registry.resolve(settings.registry.channel)
    except BundleNotFound:
        bundle = None
    if bundle is not None:
        manifest = bundle.manifest
        if (
            manifest.trained_through == window.cut
            and manifest.config.get("data") == log.content_hash
            and manifest.contracts.get("features") == feature_hash()
        ):
            say(f"     {bundle.bundle_id} is trained already")
            return bundle
    from offline.run import PRESETS, OfflineRun, limit_threads

    limit_threads(2)
    job = OfflineRun(log, window, PRESETS["quick"], settings.data_dir / "runs", SystemClock())
    result = job.execute(registry, settings.registry.channel, activate_anyway=True)
    return registry.open(result.bundle_id)


def run_smoke(
    settings: Settings, log: EventLog, window: Window, bundle: Bundle, held_out: Iterator[Event], kafka: str
) -> dict[str, object]:
    events = take(held_out, SMOKE_BULK + SMOKE_LATER)
    bulk, probes = events[:SMOKE_BULK], newest_of_each_customer(events[SMOKE_BULK:])[:SMOKE_PROBES]
    # The present begins right after the last of these purchases, so that none lies ahead of any answer.
    origin = events[-1].occurred_at + timedelta(seconds=1)
    with stack_at(settings, origin, 1.0, kafka) as stack:
        asyncio.run(warm_store(stack.settings, log, window, bundle))
        say(f"4/4  {len(bulk):,} purchases at once, {len(probes)} one by one, {SMOKE_REQUESTS} requests more")
        measured = asyncio.run(drive(stack.settings, bulk, probes, SMOKE_REQUESTS))
    metrics = {s: {m: v[m] for m in ("map@12", "recall@100")} for s, v in bundle.manifest.metrics.items()}
    return {**measured, "bundle_id": bundle.bundle_id, "metrics": {**metrics.pop("full"), **metrics}, "broker": kafka}


def newest_of_each_customer(events: Sequence[Event]) -> list[Event]:
    """One purchase a customer, so that `as_of` reaching it means that it, not a later one, has been seen."""
    return list({event.customer_id: event for event in events}.values())


def run_page(
    settings: Settings,
    log: EventLog,
    window: Window,
    bundle: Bundle,
    held_out: Iterator[Event],
    kafka: str,
    speed: float,
    as_json: bool,
) -> None:
    started_at = time.time()
    with stack_at(settings, window.cut, speed, kafka, started_at) as stack:
        asyncio.run(warm_store(stack.settings, log, window, bundle))
        stopping = threading.Event()
        clock = ReplayClock(window.cut, started_at, speed)
        live = threading.Thread(
            target=lambda: asyncio.run(publish_live(stack.settings, held_out, clock, stopping)), daemon=True
        )
        live.start()
        say(f"4/4  real purchases of {window.cut.date()} and after are happening, {speed:g} times as fast")
        say(f"\n     open {stack.api_url}   (Ctrl-C stops everything)\n")
        if as_json:
            click.echo(json.dumps({"api_url": stack.api_url, "bundle_id": bundle.bundle_id}))
            sys.stdout.flush()
        code = stack.run_forever()
        stopping.set()
        live.join(timeout=5)
    raise SystemExit(code)


def stack_at(settings: Settings, origin: datetime, speed: float, kafka: str, started_at: float | None = None) -> Stack:
    """All processes, on a clock that stood at `origin` when they were started."""
    clock = settings.clock.model_copy(
        update={"origin": origin, "started_at": started_at or time.time(), "speed": speed}
    )
    return start_stack(settings.model_copy(update={"clock": clock}), kafka=kafka)


async def warm_store(settings: Settings, log: EventLog, window: Window, bundle: Bundle) -> None:
    store = await open_store(settings.redis)
    try:
        histories = load_histories(log, window.cut)
        saved = await fill_store(store, histories, window.cut, load_query_encoder(bundle))
    finally:
        await store.close()
    say(f"     {saved:,} customers with their history up to {window.cut.date()}")


async def publish_live(
    settings: Settings, events: Iterator[Event], clock: ReplayClock, stopping: threading.Event
) -> None:
    """Publish each purchase when its time comes on the replay's clock."""
    try:
        async with Producer(settings.kafka, linger_ms=5) as producer:
            publisher = EventPublisher(producer)
            waiting: list[Event] = []
            for event in events:
                while event.occurred_at > clock.now():
                    if waiting:
                        await publisher.publish_many(waiting)
                        waiting = []
                    if stopping.is_set():
                        return
                    await asyncio.sleep(PUBLISH_EVERY_S)
                waiting.append(event)
            await publisher.publish_many(waiting)
        say("the held-out week is over; buy on the page to go on")
    except ModisteError as error:
        if not stopping.is_set():
            say(f"live purchases stopped: {error}")


def say(text: str) -> None:
    click.echo(text, err=True)
