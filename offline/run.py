"""`modiste offline run`: event log -> two-tower -> index -> examples -> MMOE -> ONNX -> evaluation -> bundle.

Everything that is learned or counted comes from events strictly before the cut. What follows the cut is read once, by
the evaluation. Each stage leaves a checkpoint keyed by data, configuration, seed and code, so a run that was stopped
goes on where it was; the same run twice gives the same metrics.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from infra.bundle import open_bundle, write_manifest
from infra.clock import Clock
from infra.errors import GateError
from infra.registry import Registry
from offline.build_statistics import build_items, prices_at
from offline.evaluate import Evaluation, evaluate, index_recall
from offline.event_log import EventLog
from offline.examples import Examples, build_examples, catalog_at, purchases_between
from offline.export import export_query_encoder
from offline.gates import Gate, gates
from offline.histories import load_histories
from offline.models.two_tower import TwoTower
from offline.progress import step
from offline.rankers import Rankers, load_rankers, save_rankers, train_rankers
from offline.report import write_report
from offline.train_ranking import RankingConfig, gate_entropy
from offline.train_retrieval import RetrievalConfig, item_inputs, item_vectors, new_two_tower, train_two_tower
from offline.weights import load_examples, load_weights, save_examples, save_weights
from offline.window import Window
from serving.features import FEATURES, SOURCES, feature_hash
from serving.golden import make_golden, open_runtime
from serving.index import VectorIndex
from serving.items import ItemTable
from serving.ranking import Ranker
from serving.runtime import Catalog, load_runtime
from streams.encoder import QueryEncoder, onnx_session
from streams.events import SCHEMA_VERSION, to_micros
from streams.histories import Histories
from streams.state import MAX_EVENTS, STATE_FORMAT

T = TypeVar("T")

GOLDEN_CASES = 8
PEER = "peer.onnx"  # the ranker that does not serve stays beside the checkpoints


@dataclass(frozen=True)
class RunConfig:
    """Whatever changes the meaning of a score; the manifest carries all of it."""

    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    refresh_examples: int = 100_000
    ranking: RankingConfig = field(default_factory=RankingConfig)
    seed: int = 20_170_101


PRESETS = {
    "quick": RunConfig(
        RetrievalConfig(examples=100_000, epochs=2),
        refresh_examples=30_000,
        ranking=RankingConfig(weeks=3, epochs=4),
    ),
    "standard": RunConfig(),
}


@dataclass(frozen=True, eq=False)
class RunResult:
    bundle_id: str
    activated: bool
    gates: list[Gate]
    evaluation: Evaluation
    report: dict[str, Any]


class OfflineRun:
    """One run over one log. `execute` does all of it; the stages are public so that each can be tried alone."""

    def __init__(self, log: EventLog, window: Window, config: RunConfig, workdir: Path, clock: Clock) -> None:
        self.log = log
        self.window = window
        self.config = config
        self.clock = clock
        self.cut = to_micros(window.cut)
        self.horizon = to_micros(window.cut + timedelta(days=window.horizon)) - self.cut
        self.directory = workdir / self._key()
        self.timings: dict[str, float] = {}

    def _key(self) -> str:
        facts = json.dumps(
            [
                self.log.content_hash,
                self.window.cut.isoformat(),
                self.window.horizon,
                asdict(self.config),
                code_revision(),
                feature_hash(),
            ],
            sort_keys=True,
        )
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def execute(self, registry: Registry, channel: str, *, activate_anyway: bool = False) -> RunResult:
        """Train, judge, publish; move the channel if the gates agree.

        Raises:
            GateError: the exported networks differ from the trained ones, or nothing can be evaluated.
        """
        started = time.monotonic()
        say(f"cut {self.window.cut.date()}, {self.window.horizon} days to predict")
        histories = self._timed("read", lambda: load_histories(self.log, self.window.cut))
        items_table = build_items(self.log.articles(), histories, self.cut)
        items = ItemTable.from_table(items_table)
        segments = self._segments()
        learned = self.learn(histories, items, segments)
        staged, facts = self._stage(histories, items_table, items, segments, learned)
        evaluation = self._timed("evaluate", lambda: self._evaluate(staged, histories, items, learned[1]))
        decisions = gates(evaluation.metrics, facts["index_recall"])
        report = facts | evaluation.report() | {"gates": [asdict(gate) for gate in decisions]}
        report |= {"source": self.log.manifest.source, "data": self.log.content_hash, "code_revision": code_revision()}
        (staged / "report.json").write_text(json.dumps(report, indent=2))
        write_report(staged / "report.html", report)
        self._manifest(staged, items, histories, evaluation)
        open_runtime(open_bundle(staged))
        bundle_id = registry.publish(staged)
        shutil.rmtree(staged)
        passed = all(gate.passed for gate in decisions)
        if passed or activate_anyway:
            registry.activate(channel, bundle_id, by="offline run")
        self.timings["total"] = round(time.monotonic() - started, 2)
        return RunResult(
            bundle_id, passed or activate_anyway, decisions, evaluation, report | {"seconds": self.timings}
        )

    def learn(
        self, histories: Histories, items: ItemTable, segments: dict[str, str]
    ) -> tuple[TwoTower, Rankers, Examples]:
        """Towers and ranker. The ranker's examples use a tower that ends before the first of their cuts, so a label is
        never inside the vectors; the tower that serves goes on from there through the data cut."""
        config = self.config
        cuts = [self.cut - n * self.horizon for n in range(config.ranking.weeks, 0, -1)]
        first = to_micros(self.log.span[0])
        cuts = [cut for cut in cuts if cut > first] or [self.cut - self.horizon]
        inputs = item_inputs(items)
        tower = new_two_tower(inputs, config.retrieval, config.seed)
        early = self.directory / "tower-early.npz"
        if not load_weights(tower, early):
            self._timed(
                "two-tower",
                lambda: train_two_tower(tower, inputs, histories, items, cuts[0], config.retrieval, seed=config.seed),
            )
            save_weights(tower, early)
        rankers, examples = self._ranker(histories, items, segments, tower, cuts)
        late = self.directory / "tower-late.npz"
        if not load_weights(tower, late):
            refresh = replace(config.retrieval, examples=config.refresh_examples, epochs=1, learning_rate=5e-4)
            self._timed(
                "two-tower refresh",
                lambda: train_two_tower(tower, inputs, histories, items, self.cut, refresh, seed=config.seed + 1),
            )
            save_weights(tower, late)
        return tower, rankers, examples

    def _ranker(
        self,
        histories: Histories,
        items: ItemTable,
        segments: dict[str, str],
        tower: TwoTower,
        cuts: list[int],
    ) -> tuple[Rankers, Examples]:
        config = self.config.ranking
        examples = load_examples(self.directory / "examples.npz")
        if examples is None:
            examples = self._timed("examples", lambda: self._examples(histories, items, segments, tower, cuts))
            save_examples(examples, self.directory / "examples.npz")
        if not examples.label("purchase").any():
            raise GateError(
                f"no customer with a history bought a candidate in the {self.window.horizon} days before "
                f"{self.window.cut.date()}: there is nothing to rank by; give more history"
            )
        rankers = load_rankers(self.directory)
        if rankers is None:
            rankers = self._timed("ranker", lambda: train_rankers(examples, config, seed=self.config.seed))
            save_rankers(rankers, self.directory)
        return rankers, examples

    def _examples(
        self,
        histories: Histories,
        items: ItemTable,
        segments: dict[str, str],
        tower: TwoTower,
        cuts: list[int],
    ) -> Examples:
        vectors = item_vectors(tower, item_inputs(items))
        encoder = self._encoder(tower, vectors, items, "early")
        index = VectorIndex.build(vectors)
        articles = self.log.articles()
        parts = []
        limit = self.config.ranking.customers
        with step("examples", limit * len(cuts)) as progress:
            for cut in cuts:
                # A price known only because the article sold in the horizon would give the label away.
                then = replace(items, prices=prices_at(articles, histories, cut))
                catalog = catalog_at(histories, then, segments, cut, vectors, encoder, index)
                parts.append(
                    build_examples(histories, catalog, cut, self.horizon, progress, limit=limit, seed=self.config.seed)
                )
        return Examples.join(parts)

    def _encoder(self, tower: TwoTower, vectors: npt.NDArray[np.float32], items: ItemTable, name: str) -> QueryEncoder:
        path = self.directory / f"query-encoder-{name}.onnx"
        export_query_encoder(tower, path)
        return QueryEncoder(onnx_session(str(path)), vectors, items.index, name)

    def _segments(self) -> dict[str, str]:
        customers = self.log.customers()
        pairs = zip(customers["customer_id"].to_pylist(), customers["age_band"].to_pylist(), strict=True)
        return {customer: band for customer, band in pairs if band}

    def _stage(
        self,
        histories: Histories,
        items_table: pa.Table,
        items: ItemTable,
        segments: dict[str, str],
        learned: tuple[TwoTower, Rankers, Examples],
    ) -> tuple[Path, dict[str, Any]]:
        """Write the bundle's files aside; returns the directory and what was found out on the way."""
        tower, rankers, examples = learned
        staged = self.directory / "bundle"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        vectors = item_vectors(tower, item_inputs(items))
        index = VectorIndex.build(vectors)
        pq.write_table(items_table, staged / "items.parquet")
        np.save(staged / "item_vectors.npy", vectors)
        index.save(staged / "index.faiss")
        difference = {
            "query_encoder": export_query_encoder(tower, staged / "query_encoder.onnx"),
            "ranker": rankers.export(rankers.serving, staged / "ranker.onnx", examples.features[:256]),
            "peer_ranker": rankers.export(rankers.peer, self.directory / PEER, examples.features[:256]),
        }
        encoder = QueryEncoder(onnx_session(str(staged / "query_encoder.onnx")), vectors, items.index, "staged")
        catalog = catalog_at(histories, items, segments, self.cut, vectors, encoder, index)
        catalog.statistics.save(staged / "statistics.npz")
        pq.write_table(
            pa.table(
                {
                    "customer_id": pa.array(list(segments), pa.string()),
                    "segment": pa.array(list(segments.values()), pa.string()),
                }
            ),
            staged / "segments.parquet",
        )
        spec = {
            "hash": feature_hash(),
            "features": FEATURES,
            "sources": SOURCES,
            "ranker": rankers.serving,
            "tasks": rankers.tasks(rankers.serving),
        }
        (staged / "features.json").write_text(json.dumps(spec, indent=2))
        facts = {
            "cut": self.window.cut.isoformat(),
            "horizon_days": self.window.horizon,
            "onnx_max_difference": difference,
            "index_recall": round(self._index_recall(catalog, histories, vectors), 5),
            "gate_entropy": gate_entropy(rankers.mmoe, examples),
            "ranker": rankers.report(),
            "ranking_examples": len(examples),
            "ranking_positives": int(examples.label("purchase").sum()),
        }
        return staged, facts

    def _index_recall(self, catalog: Catalog, histories: Histories, vectors: npt.NDArray[np.float32]) -> float:
        some = histories.customers[:: max(1, len(histories.customers) // 500)]
        states = [state for c in some if (state := histories.state(c, self.cut)) is not None]
        return index_recall(catalog.index, vectors, catalog.encoder.encode(states))

    def _evaluate(self, staged: Path, histories: Histories, items: ItemTable, rankers: Rankers) -> Evaluation:
        (staged / "golden.jsonl").write_bytes(b"")
        (staged / "report.json").write_text("{}")
        self._manifest(staged, items, histories, None)
        runtime = load_runtime(open_bundle(staged))
        later = load_histories(self.log, self.window.cut + timedelta(days=self.window.horizon))
        truth = purchases_between(later, items, self.cut, self.cut + self.horizon)
        peers = {rankers.peer: Ranker(self.directory / PEER, rankers.tasks(rankers.peer))}
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
            )
        some = histories.customers[:: max(1, len(histories.customers) // GOLDEN_CASES)][:GOLDEN_CASES]
        states = [histories.state(customer, self.cut) for customer in some]
        (staged / "golden.jsonl").write_bytes(make_golden(runtime, [*states, None], self.window.cut))
        return evaluation

    def _manifest(self, staged: Path, items: ItemTable, histories: Histories, evaluation: Evaluation | None) -> None:
        (staged / "manifest.json").unlink(missing_ok=True)
        write_manifest(
            staged,
            created_at=self.clock.now(),
            trained_through=self.window.cut,
            config=asdict(self.config)
            | {
                "horizon_days": self.window.horizon,
                "source": self.log.manifest.source,
                "data": self.log.content_hash,
                "ranker": json.loads((staged / "features.json").read_text())["ranker"],
            },
            contracts={
                "events": str(SCHEMA_VERSION),
                "state": f"{STATE_FORMAT}:{MAX_EVENTS}",
                "features": feature_hash(),
                "metric": "inner_product",
            },
            counts={"items": len(items), "customers": len(histories.customers), "events": len(histories)},
            metrics=evaluation.metrics if evaluation else {},
            code_revision=code_revision(),
        )

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        result = work()
        self.timings[name] = round(time.monotonic() - started, 2)
        return result


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
