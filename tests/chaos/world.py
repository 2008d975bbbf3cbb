"""Servers and processes of one run, each under a supervisor of its own, so that each can be taken away alone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Self, TextIO

from infra.apache_kafka import apache_kafka
from infra.embedded import tansu, valkey
from infra.kafka import ensure_topics
from infra.settings import Settings, load_settings
from infra.supervisor import ProcessSpec, Supervisor
from serving.up import PROCESSES, TANSU_SESSION_TIMEOUT_MS, modiste_argv, settings_env
from streams.topics import topic_specs
from tests.support.tiny import START, WEEKS

# The present of the tiny shop, in which all of a run happens.
ORIGIN = START + timedelta(weeks=WEEKS)
# Of the responder, whose clock stands: later than any traffic without a jump, so that an answer depends on the
# customer's state and on nothing else.
ANSWERED_AT = ORIGIN + timedelta(hours=2)
PARTITIONS = 4
_STANDING = 1e-9


class Unit:
    """One process that is started again in a moment when it dies; `stop` and `start` take it away and bring it back."""

    def __init__(self, spec: ProcessSpec, directory: Path) -> None:
        self.spec = spec
        self.log = directory / f"{spec.name}.log"
        self._supervisor: Supervisor | None = None
        self._out: TextIO | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        self._out = self.log.open("a")
        # Killing is what is done here: it must never be too often.
        self._supervisor = Supervisor([self.spec], out=self._out, max_deaths=10_000, backoff_limit_s=1.0)
        self._supervisor.start()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after ten seconds. Safe to call again."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            await asyncio.to_thread(supervisor.stop)
        if self._out is not None:
            self._out.close()

    async def restart(self, env: Mapping[str, str] | None = None) -> None:
        """Stop and start, with other variables laid over its environment."""
        await self.stop()
        self.spec = replace(self.spec, env={**self.spec.env, **(env or {})})
        await self.start()

    def kill(self) -> bool:
        """SIGKILL; False when there was nothing to kill at this moment."""
        pids = {} if self._supervisor is None else self._supervisor.pids()
        for pid in pids.values():
            try:
                os.kill(pid, signal.SIGKILL)
                return True
            except ProcessLookupError:
                break
        return False

    @property
    def failure(self) -> str | None:
        return None if self._supervisor is None else self._supervisor.failure


class World:
    """A broker, a store that keeps its data, and the processes of `modiste up` without HTTP.

    Args:
        kafka: `apache` or `tansu`.
        registry_url: with the tiny shop's bundle on the channel `production`.
        worker_argv: what to run as a worker instead of `modiste streams worker`.
    """

    def __init__(
        self, directory: Path, *, kafka: str, registry_url: str, worker_argv: Iterable[str] | None = None
    ) -> None:
        self.directory = directory
        self.kafka = kafka
        self.started_at = time.time()
        self._worker_argv = list(worker_argv or modiste_argv(*PROCESSES["worker"]))
        self._born = 0
        broker = apache_kafka(directory / "kafka", heap_mb=256) if kafka == "apache" else tansu()
        store = valkey()
        (directory / "redis").mkdir(exist_ok=True)
        # What was acknowledged is on the disk: with `everysec`, up to two seconds of it may be gone after a kill.
        kept = ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(directory / "redis")]
        self.settings: Settings = load_settings(
            {
                "MODISTE_KAFKA__URL": broker.url,
                "MODISTE_KAFKA__SESSION_TIMEOUT_MS": str(TANSU_SESSION_TIMEOUT_MS),
                "MODISTE_KAFKA__REQUEST_TIMEOUT_MS": "8000",
                "MODISTE_KAFKA__STALL_TIMEOUT_MS": "8000",
                "MODISTE_KAFKA__PARTITIONS": str(PARTITIONS),
                "MODISTE_REDIS__URL": store.url,
                "MODISTE_REDIS__TIMEOUT_MS": "500",
                "MODISTE_REGISTRY__URL": registry_url,
                "MODISTE_WORKER__BATCH_SIZE": "50",
                "MODISTE_RESPONDER__BATCH_SIZE": "16",
                "MODISTE_ARCHIVER__FLUSH_MS": "300",
                "MODISTE_ARCHIVER__SEGMENT_ROWS": "500",
                "MODISTE_ARCHIVER__COMPACT_SEGMENTS": "12",
                "MODISTE_DATA_DIR": str(directory),
                "MODISTE_CLOCK__ORIGIN": ORIGIN.isoformat(),
                "MODISTE_CLOCK__STARTED_AT": repr(self.started_at),
            }
        )
        self._env = settings_env(self.settings)
        self.broker = Unit(broker.spec, directory)
        self.redis = Unit(replace(store.spec, argv=[*store.spec.argv, *kept]), directory)
        standing = {"MODISTE_CLOCK__ORIGIN": ANSWERED_AT.isoformat(), "MODISTE_CLOCK__SPEED": repr(_STANDING)}
        self.responder = self._process("responder", modiste_argv(*PROCESSES["responder"]), standing)
        self.archiver = self._process("archiver", modiste_argv(*PROCESSES["archiver"]), {})
        self.workers: list[Unit] = []

    def _process(self, name: str, argv: list[str], env: Mapping[str, str]) -> Unit:
        return Unit(ProcessSpec(name, argv, {**self._env, **env}), self.directory)

    @property
    def units(self) -> list[Unit]:
        return [self.broker, self.redis, *self.workers, self.responder, self.archiver]

    @property
    def failures(self) -> list[str]:
        """Why supervisors gave up, if one did."""
        return [unit.failure for unit in self.units if unit.failure]

    async def start(self, workers: int) -> None:
        await asyncio.gather(self.broker.start(), self.redis.start())
        await ensure_topics(self.settings.kafka, topic_specs(self.settings.kafka))
        await asyncio.gather(self.responder.start(), self.archiver.start(), self.set_workers(workers))

    async def set_workers(self, count: int) -> None:
        """Start or stop workers until there are so many; the oldest stop first."""
        while len(self.workers) > count:
            await self.workers.pop(0).stop()
        while len(self.workers) < count:
            self._born += 1
            unit = self._process(f"worker-{self._born}", self._worker_argv, {})
            self.workers.append(unit)
            await unit.start()

    async def stop(self) -> None:
        """End every process, those that read and write before what they need."""
        await asyncio.gather(*(unit.stop() for unit in [*self.workers, self.responder, self.archiver]))
        await asyncio.gather(self.broker.stop(), self.redis.stop())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
