"""`modiste offline run --every`: rebuild, judge against what serves, publish, announce; again and again.

A light round builds counts, factors, index and catalogue anew around the networks that were trained last; a training
round trains them too, from where they were. Either is judged on the freshest days, which neither it nor, as long as it
came from here, the live bundle has learned from; a bundle that is worse than the live one is not published. A round
that fails is told and the next one begins as if it had not been.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from infra.announce import announce
from infra.clock import Clock
from infra.errors import BundleError, ConfigurationError, DataError
from infra.registry import Registry
from infra.settings import Settings
from offline.content.images import ImageStore
from offline.event_log import EventLog
from offline.run import Before, OfflineRun, RunConfig, RunResult, say
from offline.warm_start import Networks, newest_networks
from offline.window import Window, choose_window
from serving.golden import open_runtime
from serving.runtime import Runtime

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Stop(BaseException):
    """SIGTERM or SIGINT came; wherever the run is, it ends there, and its checkpoints stay."""


@dataclass(frozen=True)
class Rhythm:
    """Seconds. every: from the beginning of a round to that of the next · retrain: how old networks become before a
    round trains them · rounds: how many, None until stopped. held_out: freshest days that the rounds are judged on."""

    every: float
    retrain: float
    rounds: int | None = None
    held_out: int = 1


def parse_duration(text: str) -> float:
    """Seconds of 90s, 15m, 1h or 2d.

    Raises:
        ConfigurationError: something else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ConfigurationError(f"{text!r} is no duration; write a number above 0 and s, m, h or d, such as 90s or 1h")
    return float(match[1]) * _UNITS[match[2]]


class Rebuilder:
    """Rounds over a log that grows. `read_log` brings it up to date; `told` is given one row a round."""

    def __init__(
        self,
        settings: Settings,
        config: RunConfig,
        clock: Clock,
        read_log: Callable[[], EventLog],
        rhythm: Rhythm,
        told: Callable[[dict[str, Any]], None],
        images: ImageStore | None = None,
    ) -> None:
        self._settings = settings
        self._config = config
        self._clock = clock
        self._read_log = read_log
        self._rhythm = rhythm
        self._told = told
        self._images = images
        self._runs = settings.data_dir / "runs"
        self._judged: str | None = None
        self._trained: Path | None = None

    def run(self) -> None:
        """Rounds until there were enough, or a signal stops them, which is no error."""
        done = 0
        with _stoppable():
            try:
                while self._rhythm.rounds is None or done < self._rhythm.rounds:
                    began = time.monotonic()
                    self._told(self._tried() | {"round": done, "seconds": round(time.monotonic() - began, 1)})
                    done += 1
                    if self._rhythm.rounds is None or done < self._rhythm.rounds:
                        time.sleep(max(0.0, self._rhythm.every - (time.monotonic() - began)))
            except Stop:
                say(f"stopped after {done} rounds")

    def _tried(self) -> dict[str, Any]:
        try:
            return self._round()
        except Exception as error:  # whatever one round meets, the next one may not
            say(f"this round failed: {type(error).__name__}: {error}")
            return {"outcome": "failed", "error": f"{type(error).__name__}: {error}"}

    def _round(self) -> dict[str, Any]:
        log = self._read_log()
        if log.content_hash == self._judged:
            return {"outcome": "unchanged"}
        networks = newest_networks(self._runs)
        light = networks is not None and time.time() - networks.note.learned_at < self._rhythm.retrain
        try:
            result = self._build(log, networks, light=light)
        except DataError as error:
            if not light:
                raise
            say(f"trained instead of light: {error}")
            light = False
            result = self._build(log, networks, light=False)
        self._judged = log.content_hash
        row = {
            "outcome": "activated" if result.activated else "published" if result.published else "refused",
            "kind": "light" if light else "trained",
            "bundle_id": result.bundle_id,
            "cut": result.report["cut"],
            "map@12": result.evaluation.metrics["full"]["map@12"],
            "gates": result.report["gates"],
        }
        if result.activated:
            registry = Registry(self._settings.registry.url)
            pointer = registry.pointer(self._settings.registry.channel)
            row["announced"] = asyncio.run(announce(self._settings, pointer))
        return row

    def _build(self, log: EventLog, networks: Networks | None, *, light: bool) -> RunResult:
        held_out = self._rhythm.held_out
        window = Window(log.span[1] + timedelta(microseconds=1) - timedelta(days=held_out), held_out)
        if window.cut <= log.span[0]:
            raise ConfigurationError(
                f"the log runs from {log.span[0].isoformat()} to {log.span[1].isoformat()}: nothing lies before the "
                f"{held_out} days that are held out"
            )
        live = self._live()
        if live is not None and live.manifest.trained_through > window.cut:
            say(f"the live bundle {live.bundle_id} has seen some of the days that it is judged on")
        before = Before(networks, light, live, choose_window(log.span, None).horizon)
        job = OfflineRun(log, window, self._config, self._runs, self._clock, self._images, before)
        result = job.execute(Registry(self._settings.registry.url), self._settings.registry.channel)
        # Of what this process left behind, the networks that were trained last are needed.
        outlived = job.directory if light else self._trained
        if outlived is not None and outlived != (self._trained if light else job.directory):
            shutil.rmtree(outlived, ignore_errors=True)
        if not light:
            self._trained = job.directory
        return result

    def _live(self) -> Runtime | None:
        """The bundle that serves; None where there is none, or one that this code does not open."""
        try:
            return open_runtime(Registry(self._settings.registry.url).resolve(self._settings.registry.channel))
        except BundleError as error:
            say(f"judged without a live bundle: {error}")
            return None


@contextmanager
def _stoppable() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise Stop

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
