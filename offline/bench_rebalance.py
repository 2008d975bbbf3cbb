"""`modiste bench rebalance`: how long messages wait while members of a consumer group come, go and die.

Two members read a topic; a third joins and leaves, several times; then, as often as asked for, a third is killed in the
moment in which a fourth joins, so that the broker has to wait for the dead one's session before any join can end. All
members are processes of their own, all contenders have the same session timeout and heartbeat, and each its own broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.apache_kafka import apache_kafka
from infra.embedded import tansu
from infra.errors import Unavailable
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.settings import KafkaSettings
from infra.supervisor import Supervisor, dying_with_us
from offline.bench_events import missing
from offline.bench_stack import markers
from offline.peers.members import SESSION_MS
from offline.progress import Step, step
from offline.rebalance_judge import Change, Reading, judge, readings

CONTENDERS = ("modiste", "aiokafka", "confluent")
TOPIC = "rebalance"
PARTITIONS = 12
READY_S = 30.0
STOP_S = 15.0


@dataclass(frozen=True)
class Plan:
    """rounds: of a join and a leave. deaths: of a member as another joins. rate: messages a second. gap_s: seconds
    after each change."""

    rounds: int = 5
    deaths: int = 3
    rate: float = 200.0
    gap_s: float = 3.0

    @property
    def changes(self) -> int:
        return 1 + 2 * self.rounds + 3 * self.deaths


class _Members:
    """The processes of one group, by name; each notes what it reads in a file of its own."""

    def __init__(self, kind: str, settings: KafkaSettings, topic: str, directory: Path) -> None:
        self._command = [sys.executable, "-m", "offline.peers.members", kind, settings.url, topic, topic]
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._names: list[str] = []

    def start(self) -> str:
        """One more; returns its name."""
        name = f"member-{len(self._names)}"
        self._names.append(name)
        self._file(name).touch()
        with (self._directory / "log.txt").open("a") as log:
            self._running[name] = subprocess.Popen(
                dying_with_us([*self._command, str(self._file(name))]), stdout=log, stderr=log, start_new_session=True
            )
        return name

    async def reads(self, name: str) -> None:
        """Until it has read something.

        Raises:
            Unavailable: it ended, or reads nothing.
        """
        end = time.monotonic() + READY_S
        while not self._file(name).stat().st_size:
            if time.monotonic() > end or self._running[name].poll() is not None:
                raise Unavailable(f"{name} of {' '.join(self._command[2:4])} read nothing; see the log")
            await asyncio.sleep(0.02)

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        self._running[name].send_signal(how)

    def stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def noted(self) -> list[Reading]:
        return [
            one
            for name in self._names
            for one in readings(name, self._file(name).read_text().splitlines(keepends=True))
        ]

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.txt"


def measure(directory: Path, plan: Plan, *, kafka: str, contenders: tuple[str, ...] = CONTENDERS) -> dict[str, Any]:
    """The longest waits of each contender (`offline.rebalance_judge.judge`); None with a reason in `absent` where one
    could not run."""
    absent = {name: reason for name in contenders if (reason := missing(name))}
    found: dict[str, Any] = {}
    with step("changes", plan.changes * (len(contenders) - len(absent))) as progress:
        for name in contenders:
            if name not in absent:
                (directory / name).mkdir()
                try:
                    with _broker(directory / name, kafka) as settings:
                        found[name] = asyncio.run(_one(directory / name, settings, name, plan, progress))
                except Unavailable as error:
                    absent[name] = str(error)
    return {
        **{name: found.get(name) for name in contenders},
        "absent": absent,
        "setup": {"kafka": kafka, **asdict(plan), "partitions": PARTITIONS, "session_ms": SESSION_MS},
    }


@contextlib.contextmanager
def _broker(directory: Path, kafka: str) -> Iterator[KafkaSettings]:
    server = apache_kafka(directory / "kafka") if kafka == "apache" else tansu()
    with (directory / "log.txt").open("a") as out, Supervisor([server.spec], out=out, max_deaths=1) as servers:
        servers.start()
        yield KafkaSettings(url=server.url, session_timeout_ms=SESSION_MS)


async def _one(directory: Path, settings: KafkaSettings, name: str, plan: Plan, progress: Step) -> dict[str, Any]:
    await ensure_topics(settings, [TopicSpec(TOPIC, PARTITIONS)])
    members = _Members(name, settings, TOPIC, directory)
    began: list[tuple[str, float]] = []
    killed: set[str] = set()

    async def now(kind: str, seconds: float = plan.gap_s) -> None:
        progress.advance()
        began.append((kind, time.monotonic()))
        await asyncio.sleep(seconds)

    async def joined() -> str:
        member = members.start()
        await members.reads(member)
        return member

    async with Producer(settings) as producer:
        sending = asyncio.create_task(_send(producer, plan.rate))
        try:
            for _ in range(2):
                await joined()
            await asyncio.sleep(plan.gap_s)
            await now("quiet")
            for _ in range(plan.rounds):
                await now("join", 0.0)
                third = await joined()
                await asyncio.sleep(plan.gap_s)
                members.end(third)
                await now("leave")
            for _ in range(plan.deaths):
                await now("join", 0.0)
                third = await joined()
                await asyncio.sleep(plan.gap_s)
                members.end(third, signal.SIGKILL)
                killed.add(third)
                fourth = members.start()
                await now("death", 2 * SESSION_MS / 1_000)
                await members.reads(fourth)
                members.end(fourth)
                await now("leave")
            began.append(("end", time.monotonic()))
            sending.cancel()
            sent = await sending
            await asyncio.sleep(plan.gap_s)
        finally:
            sending.cancel()
            members.stop()
    changes = [Change(kind, start, end) for (kind, start), (_, end) in itertools.pairwise(began)]
    return judge(members.noted(), changes, sent, killed)


async def _send(producer: Producer, rate: float) -> int:
    """Messages to all partitions in turn, each with its number and when it was due to be sent, until cancelled; returns
    how many the broker has. A broker that holds the sender up makes them late, not fewer."""
    keys = [key.encode() for key in markers("m", PARTITIONS)]
    start, sent = time.monotonic(), 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            due = start + sent / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            value = b"%d %d" % (sent, int(due * 1e9))
            sent += 1
            await asyncio.shield(producer.send(TOPIC, keys[sent % PARTITIONS], value))
    return sent
