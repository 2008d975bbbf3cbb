"""What is done to the running world. Each returns when its cause is over; what is left to do is to recover."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from tests.chaos.traffic import Traffic
from tests.chaos.world import ORIGIN, Unit, World

BURST = 400
AWAY_S = 10.0
STORM_STEPS = 4
MOST_WORKERS = 4
# A worker whose clock is this far behind still admits the farthest event of the traffic, and one that is this far
# ahead still refuses the poison of the future: what is admitted must not depend on who was asked.
CLOCK_JUMP = timedelta(hours=6)

Fault = Callable[[World, Traffic, random.Random], Awaitable[None]]


async def _kill_under_load(unit: Unit, traffic: Traffic, dice: random.Random) -> None:
    burst = asyncio.create_task(traffic.burst(BURST))
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    unit.kill()
    await burst


async def kill_worker(world: World, traffic: Traffic, dice: random.Random) -> None:
    await _kill_under_load(dice.choice(world.workers), traffic, dice)


async def kill_responder(world: World, traffic: Traffic, dice: random.Random) -> None:
    await _kill_under_load(world.responder, traffic, dice)


async def kill_archiver(world: World, traffic: Traffic, dice: random.Random) -> None:
    await _kill_under_load(world.archiver, traffic, dice)


async def restart_broker(world: World, traffic: Traffic, dice: random.Random) -> None:
    """Half of the times by SIGKILL, else in good order."""
    burst = asyncio.create_task(traffic.burst(BURST))
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    if dice.random() < 0.5:
        world.broker.kill()
    else:
        await world.broker.restart()
    await burst


async def kill_redis(world: World, traffic: Traffic, dice: random.Random) -> None:
    await _kill_under_load(world.redis, traffic, dice)


async def take_redis_away(world: World, traffic: Traffic, dice: random.Random) -> None:
    burst = asyncio.create_task(traffic.burst(BURST))
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    await world.redis.stop()
    await asyncio.sleep(AWAY_S)
    await world.redis.start()
    await burst


async def storm(world: World, traffic: Traffic, dice: random.Random) -> None:
    """Workers come and go, one to four, faster than the group settles; some go without a word."""
    before = len(world.workers)
    for _ in range(STORM_STEPS):
        if len(world.workers) > 1 and dice.random() < 0.3:
            world.workers[0].kill()
        others = [n for n in range(1, MOST_WORKERS + 1) if n != len(world.workers)]
        await asyncio.gather(world.set_workers(dice.choice(others)), traffic.burst(BURST // 4))
        await asyncio.sleep(dice.uniform(0.2, 2.0))
    await world.set_workers(before)


async def jump_clock(world: World, traffic: Traffic, dice: random.Random) -> None:
    """A worker goes on with its clock set forward or back."""
    jump = dice.uniform(-1.0, 1.0) * CLOCK_JUMP
    unit = dice.choice(world.workers)
    burst = asyncio.create_task(traffic.burst(BURST))
    await unit.restart({"MODISTE_CLOCK__ORIGIN": (ORIGIN + jump).isoformat()})
    await burst


FAULTS: dict[str, Fault] = {
    "worker kill -9": kill_worker,
    "responder kill -9": kill_responder,
    "archiver kill -9": kill_archiver,
    "broker restart": restart_broker,
    "redis kill -9": kill_redis,
    "redis away 10 s": take_redis_away,
    "rebalance storm": storm,
    "clock jump": jump_clock,
}
# These may come while another fault is being recovered from.
ON_TOP = ("worker kill -9", "responder kill -9")
# The embedded broker keeps the topics in memory: restarted, it has none, and nobody could say what was lost.
NEEDS_DISK = ("broker restart",)
