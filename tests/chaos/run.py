"""One run: start the world, let traffic flow, do the faults at random points, let it settle, judge."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.registry import Registry
from streams.archive import TopicArchive
from streams.encoder import load_query_encoder
from streams.processor import MAX_AHEAD
from streams.topics import DEAD_LETTERS, RECOMMENDATIONS, REQUESTS, TRANSACTIONS
from tests.chaos.evidence import Evidence, archived_through, drained, read_archive, read_topic, read_values
from tests.chaos.faults import BURST, FAULTS, NEEDS_DISK, ON_TOP
from tests.chaos.oracle import Verdict, judge
from tests.chaos.probe import Probe
from tests.chaos.traffic import QUIET, Load, Traffic
from tests.chaos.world import ORIGIN, World

log = logging.getLogger(__name__)

RECOVERY_LIMIT_S = 90.0
SETTLE_LIMIT_S = 60.0
START_LIMIT_S = 120.0
# What is lost in a fault was produced a little before it.
REACHES_BACK_MS = 2_000
PAUSE_S = 4.0


@dataclass(frozen=True)
class Plan:
    """faults: names of FAULTS; all of them are done in random order, `rounds` times or until `minutes` have passed.

    pause_s: at most between two. on_top: share of them that have another one while they are recovered from.
    """

    seed: int
    kafka: str
    minutes: float
    rounds: int = 1_000
    faults: Sequence[str] = tuple(FAULTS)
    workers: int = 2
    events_s: float = 150.0
    requests_s: float = 20.0
    pause_s: float = PAUSE_S
    on_top: float = 0.25
    worker_argv: Sequence[str] | None = None


@dataclass
class Done:
    """A fault as it happened. lasted_s: until its cause was over; recovery_s: from then on, None where it did not."""

    name: str
    began_ms: int
    lasted_s: float = 0.0
    recovery_s: float | None = None


@dataclass
class Outcome:
    plan: Plan
    done: list[Done]
    verdict: Verdict
    sent: dict[str, int]
    # What kept the run itself from being a good one; a run with troubles has failed.
    troubles: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.troubles and not self.verdict.findings


async def run(plan: Plan, directory: Path, registry_url: str) -> Outcome:
    """A whole run with its files in `directory`. Ends what it has started, whatever happens.

    Raises:
        TimeoutError: the world did not come up. KafkaError: the traffic could not be produced.
    """
    world = World(directory, kafka=plan.kafka, registry_url=registry_url, worker_argv=plan.worker_argv)
    with _without_complaints():
        evidence, done, sent, troubles = await _through(plan, world)
    registry = Registry(registry_url)
    encoder = load_query_encoder(registry.open(registry.pointer("production").bundle_id))
    verdict = judge(evidence, encoder, ORIGIN + MAX_AHEAD, unchanging=_unchanging)
    return Outcome(plan, done, verdict, sent, troubles)


@contextlib.contextmanager
def _without_complaints() -> Iterator[None]:
    """The clients of this process say ten times a second that a broker is away which was taken away."""
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


async def _through(plan: Plan, world: World) -> tuple[Evidence, list[Done], dict[str, int], list[str]]:
    async with world:
        async with asyncio.timeout(START_LIMIT_S):
            await world.start(plan.workers)
        load = Load(plan.events_s, plan.requests_s, _events(plan))
        traffic = Traffic(world.settings.kafka, load, plan.seed, ORIGIN)
        await traffic.start()
        try:
            done, troubles = await _disturb(plan, world, traffic)
        finally:
            await traffic.stop()
        troubles += await _settle(world, traffic)
        troubles += world.failures
        await asyncio.gather(*(unit.stop() for unit in [*world.workers, world.responder, world.archiver]))
        return await _gather(world, traffic), done, dict(traffic.sent), troubles


def _events(plan: Plan) -> int:
    """About how many there will be, rather too many."""
    bursts = plan.minutes * 60 / (plan.pause_s / 2 + 2) * BURST
    return int(plan.minutes * 60 * plan.events_s * 1.5 + bursts)


def _unchanging(customer: str) -> bool:
    return customer in QUIET or customer.startswith("nobody-")


async def _disturb(plan: Plan, world: World, traffic: Traffic) -> tuple[list[Done], list[str]]:
    dice = random.Random(f"{plan.seed}-faults")
    done: list[Done] = []
    troubles: list[str] = []
    async with Probe(world, traffic) as probe:
        await traffic.quiet_customers()
        up = await probe.recovered(START_LIMIT_S)
        if up is None:
            raise TimeoutError(f"the world did not answer within {START_LIMIT_S:g} s; see {world.directory}")
        log.info("up after %.1f s", up)
        traffic.run()
        end = time.monotonic() + plan.minutes * 60
        for name in _deck(plan, dice):
            await asyncio.sleep(dice.uniform(0.2, plan.pause_s))
            if time.monotonic() > end:
                break
            one = await _do(name, world, traffic, dice)
            done.append(one)
            recovering = asyncio.create_task(probe.recovered(RECOVERY_LIMIT_S))
            if dice.random() < plan.on_top:
                await asyncio.sleep(dice.uniform(0.0, 1.0))
                on_top = await _do(dice.choice(ON_TOP), world, traffic, dice)
                done.append(on_top)
                on_top.recovery_s = await probe.recovered(RECOVERY_LIMIT_S)
            one.recovery_s = await recovering
            log.info("%s: recovered after %s s", name, "-" if one.recovery_s is None else f"{one.recovery_s:.1f}")
            troubles += [
                f"{it.name} was not recovered from within {RECOVERY_LIMIT_S:g} s"
                for it in done
                if it.recovery_s is None
            ]
            if troubles:
                break
    return done, troubles


async def _do(name: str, world: World, traffic: Traffic, dice: random.Random) -> Done:
    log.info("%s", name)
    began = time.time()
    await FAULTS[name](world, traffic, dice)
    return Done(name, int(began * 1_000), time.time() - began)


def _deck(plan: Plan, dice: random.Random) -> Iterable[str]:
    """Every fault once in random order, again and again."""
    names = [name for name in plan.faults if plan.kafka == "apache" or name not in NEEDS_DISK]
    for _ in range(plan.rounds):
        yield from dice.sample(names, len(names))


async def _settle(world: World, traffic: Traffic) -> list[str]:
    """Wait until all that was acknowledged has been taken; what was not is the oracle's to find."""
    settings = world.settings
    troubles = []
    groups = ((settings.worker.group, TRANSACTIONS), (settings.responder.group, REQUESTS))
    for group, topic in groups:
        if not await drained(settings.kafka, group, topic, traffic.acknowledged, SETTLE_LIMIT_S):
            troubles.append(f"group {group} has not committed all of {topic} within {SETTLE_LIMIT_S:g} s")
    archive = TopicArchive(world.directory / "archive", TRANSACTIONS)
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while not await asyncio.to_thread(archived_through, archive, traffic.acknowledged):
        if time.monotonic() > deadline:
            troubles.append(f"the archiver has not come to the end within {SETTLE_LIMIT_S:g} s")
            break
        await asyncio.sleep(0.5)
    return troubles


async def _gather(world: World, traffic: Traffic) -> Evidence:
    kafka = world.settings.kafka
    names = (TRANSACTIONS, REQUESTS, RECOMMENDATIONS, DEAD_LETTERS)
    read = await asyncio.gather(*(read_topic(kafka, name, traffic.acknowledged) for name in names))
    topics = dict(zip(names, read, strict=True))
    values = await read_values(world.settings.redis)
    archived = await asyncio.to_thread(read_archive, TopicArchive(world.directory / "archive", TRANSACTIONS))
    return Evidence(topics, values, traffic.acknowledged, archived)
