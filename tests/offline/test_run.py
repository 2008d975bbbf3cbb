"""A whole run on the tiny shop: deaf to the future, repeatable, resumable, and honest about its gates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import offline.run as offline_run
from infra.bundle import Bundle
from infra.cli import cli
from infra.clock import ManualClock
from infra.registry import Registry
from offline.content.words import WordEncoder
from offline.evaluate import Evaluation
from offline.event_log import EventLog, import_data
from offline.learn import Learner
from offline.run import OfflineRun, RunResult
from offline.shop import load_shop
from offline.window import Window, choose_window
from serving.messages import STRATEGIES
from streams.bundle_contract import FEATURES, SOURCES
from streams.encoder import onnx_session
from tests.offline.content_toys import CountingEncoder, Photos
from tests.support.tiny import START, TINY, article_number, customer_id, plant, write_tiny_shop
from tests.support.tiny_fixture import Tiny

# A tower and examples for each of three past weeks, the rankers, and the tower of the cut.
PAST = [name for n in range(TINY.learn.ranking.weeks) for name in (f"tower-{n}.npz", f"examples-{n}.npz")]
CHECKPOINTS = (*PAST, "ranker.npz", "ranker.cbm", "rankers.json", "tower-3.npz")
CUT = datetime(2020, 7, 20, tzinfo=UTC)  # the tiny shop's own window: its eighth and last week
WINDOW = Window(CUT, 7)
LATER_DATE = ManualClock(datetime(2021, 1, 1, tzinfo=UTC))


@dataclass
class Runner:
    """Executes runs in one directory; `learned` lists the checkpoints that were not taken up but made."""

    directory: Path

    def job(self, log: EventLog, window: Window = WINDOW) -> OfflineRun:
        return OfflineRun(log, window, TINY, self.directory / "runs", LATER_DATE)

    @property
    def registry(self) -> Registry:
        return Registry(f"file://{self.directory / 'registry'}")

    def execute(self, job: OfflineRun) -> tuple[RunResult, Bundle, set[str]]:
        before = times(job.directory)
        result = job.execute(self.registry, "production", activate_anyway=True)
        learned = {name for name, time in times(job.directory).items() if before.get(name) != time}
        return result, self.registry.open(result.bundle_id), learned


def times(directory: Path) -> dict[str, int]:
    """When each checkpoint that is there was written."""
    return {name: (directory / name).stat().st_mtime_ns for name in CHECKPOINTS if (directory / name).exists()}


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def resume(tiny: Tiny, job: OfflineRun, *names: str) -> None:
    """Give a job these checkpoints of the shared run, as if it had been stopped after writing them."""
    job.directory.mkdir(parents=True)
    for name in names:
        shutil.copy2(tiny.checkpoint(name), job.directory / name)


def same_answers(one: Bundle, other: Bundle) -> bool:
    """Whether both rankers give the same bits on the same rows."""
    rows = np.random.default_rng(5).normal(size=(64, len(FEATURES))).astype(np.float32)
    scores = [onnx_session(str(b.file("ranker.onnx"))).run(None, {"features": rows})[0] for b in (one, other)]
    return np.array_equal(*scores)


LEARNED = (
    "items.parquet",
    "item_vectors.npy",
    "index.faiss",
    "content_vectors.npy",
    "covisitation.npz",
    "collaborative.npz",
    "statistics.npz",
    "segments.parquet",
    "golden.jsonl",
)


def test_the_future_changes_nothing_that_is_published(tiny: Tiny, runner: Runner) -> None:
    shop = write_tiny_shop(runner.directory / "shop")
    future = [(CUT + timedelta(days=n % 9), customer_id(n), article_number("hat", 0), 999.0) for n in range(24)]
    future += [(CUT, customer_id(n), article_number("top", 3), 777.0) for n in range(24)]
    plant(shop, future)
    log = import_data("hm", shop, runner.directory / "log")
    assert log.content_hash != tiny.log.content_hash
    assert log.span[1] > tiny.log.span[1]

    _, bundle, learned = runner.execute(runner.job(log))
    assert learned == set(CHECKPOINTS)
    for name in LEARNED:
        assert bundle.file(name).read_bytes() == tiny.bundle.file(name).read_bytes(), name
    assert same_answers(bundle, tiny.bundle)
    planted, plain = (b.manifest.metrics["full"]["map@12"] for b in (bundle, tiny.bundle))
    assert planted != plain  # what was planted does stand in the test window


def test_a_run_stopped_on_its_way_goes_on_to_the_same_end(tiny: Tiny, runner: Runner) -> None:
    """Stopped in the second of three weeks, after its tower and before its examples."""
    done = ("tower-0.npz", "examples-0.npz", "tower-1.npz")
    job = runner.job(tiny.log)
    resume(tiny, job, *done)
    before = {name: (job.directory / name).read_bytes() for name in done}

    _, bundle, learned = runner.execute(job)
    assert learned == set(CHECKPOINTS) - set(done)
    assert {name: (job.directory / name).read_bytes() for name in done} == before
    assert bundle.manifest.metrics == tiny.bundle.manifest.metrics
    assert same_answers(bundle, tiny.bundle)
    for name in LEARNED:
        assert bundle.file(name).read_bytes() == tiny.bundle.file(name).read_bytes(), name


def test_truncated_checkpoints_are_redone_and_the_others_are_kept(tiny: Tiny, runner: Runner) -> None:
    job = runner.job(tiny.log)
    resume(tiny, job, *CHECKPOINTS)
    broken = ("examples-1.npz", "tower-3.npz")
    for name in broken:
        path = job.directory / name
        path.write_bytes(path.read_bytes()[:-2_000])
    _, bundle, learned = runner.execute(job)
    assert learned == set(broken)
    assert bundle.manifest.metrics == tiny.bundle.manifest.metrics
    assert bundle.file("item_vectors.npy").read_bytes() == tiny.bundle.file("item_vectors.npy").read_bytes()
    for name in broken:
        assert (job.directory / name).read_bytes() == tiny.checkpoint(name).read_bytes(), name


def test_checkpoints_of_other_data_time_configuration_or_code_are_not_taken(
    tiny: Tiny, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(window: Window = WINDOW, config: offline_run.RunConfig = TINY) -> Path:
        return OfflineRun(tiny.log, window, config, runner.directory, LATER_DATE).directory

    monkeypatch.setattr(offline_run, "code_hash", lambda: "abc1234")
    here = place()
    assert here == place()
    others = {
        place(window=Window(CUT - timedelta(days=1), 7)),
        place(window=Window(CUT, 6)),
        place(config=replace(TINY, seed=4)),
        place(config=replace(TINY, content=replace(TINY.content, dim=9))),
        place(config=replace(TINY, learn=replace(TINY.learn, refresh_examples=501))),
        place(config=replace(TINY, learn=replace(TINY.learn, ranking=replace(TINY.learn.ranking, steps=121)))),
    }
    monkeypatch.setattr(offline_run, "code_hash", lambda: "def5678")
    others.add(place())
    assert len(others - {here}) == 7


def test_other_photos_under_the_same_configuration_start_anew(
    tiny: Tiny, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = {"words": WordEncoder(), "photos": CountingEncoder()}
    monkeypatch.setattr("offline.content.vectors.open_encoder", lambda spec, max_tokens: encoder[spec])
    seeing = replace(TINY, content=replace(TINY.content, image="photos"))

    def place(photos: Photos | None, config: offline_run.RunConfig = seeing) -> Path:
        return OfflineRun(tiny.log, WINDOW, config, runner.directory / "runs", LATER_DATE, photos).directory

    shoe = {article_number("shoe", 0): b"\x00"}
    dark, light = (Photos(shoe | {article_number("hat", 0): bytes([shade])}) for shade in (10, 200))
    assert place(dark) == place(Photos(dark))
    assert len({place(dark), place(light), place(None)}) == 3
    assert place(dark, TINY) == place(light, TINY) == place(None, TINY)  # a run that looks at no photos


def test_the_hash_of_the_code_changes_with_any_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "deep" / "features.py"
    source.parent.mkdir()
    source.write_text("DAYS = 7\n")
    monkeypatch.setattr(offline_run.streams, "__path__", [str(tmp_path)])
    before = offline_run.code_hash()
    assert offline_run.code_hash() == before
    source.write_text("DAYS = 8\n")
    assert offline_run.code_hash() != before


def test_an_example_knows_the_prices_of_its_own_cut_only(tmp_path: Path) -> None:
    """hat-0 is first sold in the week whose purchases are the labels; its price must not give that away."""
    shop = write_tiny_shop(tmp_path / "shop")
    plant(shop, [(CUT - timedelta(days=3), customer_id(0), article_number("hat", 0), 50.0)])
    job = Runner(tmp_path).job(import_data("hm", shop, tmp_path / "log"))
    little = replace(
        TINY.learn,
        tower=replace(TINY.learn.tower, examples=50, epochs=1),
        refresh_examples=50,
        ranking=replace(TINY.learn.ranking, steps=1),
    )
    learner = Learner(
        load_shop(job.log, WINDOW, TINY.content, None, tmp_path), little, job.horizon, tmp_path / "learn", seed=3
    )
    examples = learner.learn().examples
    never_sold = examples.features[:, FEATURES.index("sold_91d")] == 0
    hat_bought = never_sold & (examples.label("purchase") > 0)
    assert hat_bought.any()
    for name in ("price", "price_trend"):
        assert (examples.features[never_sold, FEATURES.index(name)] == 0).all()


@pytest.fixture
def command(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`modiste offline run` on the tiny shop, which goes on from the shared run's checkpoints."""
    shop = write_tiny_shop(tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODISTE_REGISTRY__URL", f"file://{tmp_path}/registry")
    monkeypatch.setenv("MODISTE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setitem(offline_run.PRESETS, "quick", TINY)
    job = OfflineRun(tiny.log, choose_window(tiny.log.span, None), TINY, tmp_path / "data" / "runs", LATER_DATE)
    resume(tiny, job, *CHECKPOINTS)

    def run(*more: str) -> Result:
        args = ["offline", "run", "--data", "hm", "--path", str(shop), "--preset", "quick", *more]
        return CliRunner().invoke(cli, args, prog_name="modiste")

    return run


def poor(*args: Any, **kwargs: Any) -> Evaluation:
    """An evaluation in which the ranking is worse than repurchase."""
    names = ("map@12", "recall@100", "ndcg@12", "hr@12", "coverage@12")
    metrics = {s: dict.fromkeys(names, 0.5) for s in ("full", "popular", "repurchase", "two_tower")}
    metrics["full"]["map@12"] = 0.25
    return Evaluation(24, 0, metrics, "repurchase", (-0.3, -0.2))


def test_a_bundle_below_repurchase_is_published_but_does_not_serve(
    tiny: Tiny, tmp_path: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(f"file://{tmp_path}/registry")
    registry.publish(tiny.bundle.path)
    registry.activate("production", tiny.bundle_id)
    monkeypatch.setattr(offline_run, "evaluate", poor)

    refused = command("--json")
    assert refused.exit_code == 1, refused.stderr
    said = json.loads(refused.stdout)
    assert said["activated"] is False
    assert [gate["passed"] for gate in said["gates"]] == [False, True]
    assert (said["gates"][0]["given"], said["gates"][0]["wanted"]) == ("0.25000", "above 0.50000")
    assert registry.pointer("production").bundle_id == tiny.bundle_id
    assert registry.resolve("production").bundle_id == tiny.bundle_id
    assert said["bundle_id"] in registry.bundle_ids()  # there to be looked at

    forced = command("--activate-anyway")
    assert forced.exit_code == 0, forced.stderr
    assert registry.pointer("production").previous == tiny.bundle_id
    assert "FAIL  ranking beats repurchase" in forced.stdout


def test_the_command_prints_one_json_object_with_metrics_gates_and_seconds(
    tiny: Tiny, tmp_path: Path, command: Callable[..., Result]
) -> None:
    page = tmp_path / "page.html"
    done = command("--json", "--report", str(page))
    assert done.exit_code in (0, 1), done.stderr
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert f"{said['metrics']['full']['map@12']:.4f}" in page.read_text()
    assert said["bundle_id"] in page.read_text()
    assert said["metrics"] == tiny.bundle.manifest.metrics
    assert set(said["metrics"]) > {*STRATEGIES, *(f"full without {name}" for name in SOURCES)}
    assert said["activated"] == all(gate["passed"] for gate in said["gates"]) == (done.exit_code == 0)
    assert said["seconds"]["total"] > 0
    assert said["channel"] == "production"
    assert (said["cut"], said["horizon_days"], said["customers"]) == ("2020-07-20T00:00:00+00:00", 7, 24)
    assert "cut 2020-07-20" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "page.html", "registry", "shop"]


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (("--until", "2020-06-01"), 2, "leaves no history"),
        (("--until", "soon"), 2, "'soon' is not a date"),
        (("--report", "nowhere/page.html"), 2, "--report nowhere/page.html: there is no directory nowhere"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_trained(
    command: Callable[..., Result], tmp_path: Path, more: tuple[str, ...], code: int, text: str
) -> None:
    refused = command(*more)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert text in refused.stderr
    assert not (tmp_path / "registry").exists()


def test_the_tiny_shops_window_is_its_last_week(tiny: Tiny) -> None:
    assert choose_window(tiny.log.span, None) == WINDOW
    assert tiny.log.span[0] == START
