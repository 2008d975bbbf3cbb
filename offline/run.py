"""`modiste offline run`: event log -> towers, catalogue, ranker -> bundle -> evaluation -> gates -> channel.

Everything that is learned or counted comes from events strictly before the cut. What follows the cut is read once, by
the evaluation. Each stage leaves a checkpoint keyed by data, content vectors (so by photos too), configuration, seed
and code, so a run that was stopped goes on where it was; the same run twice gives the same metrics.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

import offline
import serving
import streams
from infra.bundle import open_bundle
from infra.clock import Clock
from infra.registry import Registry
from offline.content.images import ImageStore
from offline.content.vectors import ContentConfig
from offline.draft import Draft
from offline.evaluate import DAY, Evaluation, evaluate
from offline.event_log import EventLog
from offline.examples import purchases_between, unknown_purchases
from offline.gates import Gate, gates
from offline.histories import load_histories
from offline.learn import LearnConfig, Learned, Learner
from offline.live_gate import compare_with_live, live_gate
from offline.progress import step
from offline.rankers import Rankers
from offline.report import write_report
from offline.search_files import write_search_files
from offline.shop import Shop, load_shop
from offline.stage import peer_path, stage
from offline.train_ranking import RankingConfig
from offline.train_retrieval import TowerConfig
from offline.warm_start import Networks
from offline.window import Window
from serving.golden import open_runtime
from serving.ranking import Ranker
from serving.runtime import Runtime
from streams.events import to_micros


@dataclass(frozen=True)
class RunConfig:
    """Whatever changes the meaning of a score; the manifest carries all of it."""

    content: ContentConfig = field(default_factory=ContentConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    ablations: bool = True
    seed: int = 20_170_101


PRESETS = {
    # For a first look: words instead of a sentence encoder, and no source taken away to see what it is worth.
    "quick": RunConfig(
        content=ContentConfig(text="words"),
        ablations=False,
        learn=LearnConfig(
            TowerConfig(examples=100_000, epochs=2),
            refresh_examples=30_000,
            ranking=RankingConfig(weeks=3, steps=800),
        ),
    ),
    "standard": RunConfig(),
}


@dataclass(frozen=True, eq=False)
class Before:
    """What an earlier run has left for this one.

    networks: to train on from, or to be taken as they are · light: whether they are · live: the bundle that serves,
    which this one must not be worse than · horizon: days that the ranker's examples look ahead, where the window is
    too short for that.
    """

    networks: Networks | None = None
    light: bool = False
    live: Runtime | None = None
    horizon: int | None = None


@dataclass(frozen=True, eq=False)
class RunResult:
    """published is False only where the live bundle is better; bundle_id then names what was not kept."""

    bundle_id: str
    published: bool
    activated: bool
    gates: list[Gate]
    evaluation: Evaluation
    report: dict[str, Any]


class OfflineRun:
    """One run over one log."""

    def __init__(
        self,
        log: EventLog,
        window: Window,
        config: RunConfig,
        workdir: Path,
        clock: Clock,
        images: ImageStore | None = None,
        before: Before | None = None,
    ) -> None:
        self.before = before or Before()
        self.log = log
        self.window = window
        self.config = config
        self.content_cache = workdir.parent / "content-cache"
        self.clock = clock
        self.images = images
        self.cut = to_micros(window.cut)
        self.horizon = to_micros(window.cut + timedelta(days=window.horizon)) - self.cut
        self._workdir = workdir

    @cached_property
    def shop(self) -> Shop:
        """What the log knows before the cut; read, and its contents encoded, when it is first asked for."""
        return load_shop(self.log, self.window, self.config.content, self.images, self.content_cache)

    @cached_property
    def directory(self) -> Path:
        """Where the checkpoints of this very run lie."""
        facts = [
            self.log.content_hash,
            self.window.cut.isoformat(),
            self.window.horizon,
            asdict(self.config),
            code_hash(),
            # Other photos, or another encoder under the same name, make other vectors.
            hashlib.sha256(np.ascontiguousarray(self.shop.content).tobytes()).hexdigest(),
            self.before.horizon,
            self.before.light,
            None if self.before.networks is None else self.before.networks.directory.name,
        ]
        return self._workdir / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def execute(self, registry: Registry, channel: str, *, activate_anyway: bool = False) -> RunResult:
        """Train, judge, publish; move the channel if the gates agree.

        Raises:
            GateError: the exported networks differ from the trained ones, or nothing can be learned or evaluated.
        """
        started = time.monotonic()
        say(f"cut {self.window.cut.date()}, {self.window.horizon} days to predict")
        learner = self.learner()
        learned = learner.light() if self.before.light else learner.learn()
        draft, facts = self._stage(learned)
        staged = draft.directory
        evaluation, against = learner.timed("evaluate", lambda: self._evaluate(draft, learned.rankers))
        decisions = [*gates(evaluation.metrics, facts["index_recall"]), *against]
        report = (
            {"cut": self.window.cut.isoformat(), "horizon_days": self.window.horizon}
            | facts
            | evaluation.report()
            | {"gates": [asdict(gate) for gate in decisions]}
            | {"source": self.log.manifest.source, "data": self.log.content_hash, "code_revision": code_revision()}
        )
        (staged / "report.json").write_text(json.dumps(report, indent=2))
        write_report(staged / "report.html", report, self.images)
        draft.seal(evaluation.metrics)
        open_runtime(open_bundle(staged))
        passed = activate_anyway or all(gate.passed for gate in decisions)
        published = activate_anyway or all(gate.passed for gate in against)
        bundle_id = registry.publish(staged) if published else open_bundle(staged).bundle_id
        shutil.rmtree(staged)
        if passed:
            registry.activate(channel, bundle_id, by="offline run")
        seconds = learner.timings | {"total": round(time.monotonic() - started, 2)}
        return RunResult(bundle_id, published, passed, decisions, evaluation, report | {"seconds": seconds})

    def learner(self) -> Learner:
        """What learns this run's networks; it learns when it is told to."""
        ahead = self.horizon if self.before.horizon is None else self.before.horizon * DAY
        return Learner(self.shop, self.config.learn, ahead, self.directory, self.config.seed, self.before.networks)

    def _stage(self, learned: Learned) -> tuple[Draft, dict[str, Any]]:
        staged = self.directory / "bundle"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        facts = stage(staged, self.directory, self.shop, learned)
        facts["search"] = write_search_files(staged, self.shop, self.config.content, self.content_cache)
        config = bundle_config(self.config, self.log, self.window)
        return Draft(staged, self.shop, config, self.clock.now(), code_revision()), facts

    def _evaluate(self, draft: Draft, rankers: Rankers) -> tuple[Evaluation, list[Gate]]:
        shop, runtime = self.shop, draft.open()
        later = load_histories(self.log, self.window.cut + timedelta(days=self.window.horizon))
        window = (self.cut, self.cut + self.horizon)
        truth = purchases_between(later, shop.items, *window)
        # No contender could have named these: nobody had heard of them at the cut.
        unknown = unknown_purchases(later, shop.items, *window)
        histories = shop.histories
        peers = {name: Ranker(peer_path(self.directory, name), rankers.tasks(name)) for name in rankers.peers}
        with step("evaluate", len(truth)) as progress:
            evaluation = evaluate(
                runtime,
                histories,
                truth,
                self.cut,
                progress,
                seed=self.config.seed,
                ranker=rankers.serving,
                peers=peers,
                ablations=self.config.ablations,
            )
        against = []
        live = self.before.live
        if live is not None:
            with step("live bundle", len(truth)) as progress:
                board = compare_with_live(runtime, live, histories, truth, self.cut, progress, seed=self.config.seed)
            against = [live_gate(board, live.bundle_id)]
        draft.vouch(runtime)
        return replace(evaluation, details=evaluation.details | {"purchases_of_unknown_articles": unknown}), against


def bundle_config(config: RunConfig, log: EventLog, window: Window) -> dict[str, Any]:
    """What a manifest says of how a bundle was made."""
    return asdict(config) | {"horizon_days": window.horizon, "source": log.manifest.source, "data": log.content_hash}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def code_hash() -> str:
    """Of the source that learns and serves: a checkpoint made by other code is not taken up."""
    digest = hashlib.sha256()
    for package in (streams, serving, offline):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def code_revision() -> str | None:
    """The commit this code stands at, None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def limit_threads(n: int) -> None:
    """Same number of threads, same sums: the number is part of what makes two runs equal."""
    torch.set_num_threads(n)
