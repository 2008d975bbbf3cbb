"""The bundles of a backtest: networks learned now and then, and around them, anew at every rebuild, what is counted.

Whatever goes into a bundle comes from events strictly before its cut, and what is learned from labels from events
strictly before the plan's label delay ahead of it. A rebuild costs no training, no evaluation and no second reading of
the log: the histories grow by what happened since the last one.
"""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from infra.bundle import Bundle, open_bundle
from infra.clock import ManualClock
from infra.errors import BundleError, ConfigurationError
from offline.backtest.plan import BacktestPlan, Step
from offline.content.images import ImageStore
from offline.content.vectors import Content
from offline.draft import Draft
from offline.evaluate import DAY
from offline.event_log import EventLog
from offline.histories import extended
from offline.learn import Learner
from offline.run import OfflineRun, bundle_config, code_revision, say
from offline.shop import Shop, customer_segments, make_shop, shop_content
from offline.stage import NETWORK_FILES, stage_catalog, stage_networks
from offline.warm_start import Networks, networks_in
from offline.window import Window, choose_window
from streams.events import to_micros
from streams.histories import Histories, build_histories

KEPT = 2
_EXPORTED = "exported"


class BundleBuilder:
    """Builds the bundles of a plan in order of time.

    Networks are kept in `<data_dir>/backtest-networks`, for any plan that learns the same at the same time; of the
    bundles in `directory` only the newest, by which a backtest that was stopped goes on, and the one before it, which
    may still answer.
    """

    def __init__(
        self, log: EventLog, plan: BacktestPlan, directory: Path, data_dir: Path, images: ImageStore | None = None
    ) -> None:
        self._log = log
        self._plan = plan
        self._directory = directory
        self._data_dir = data_dir
        self._images = images
        self._learned: dict[int, tuple[Window, Networks]] = {}
        self._histories: Histories = build_histories([])
        self._through: datetime | None = None
        self._articles: pa.Table | None = None
        self._made: Shop | None = None
        earliest = min(step.cut for step in plan.steps) - plan.label_delay
        if earliest <= log.span[0]:
            raise ConfigurationError(
                f"--from {plan.start.isoformat()} less a label delay of {plan.label_delay}: the log begins on "
                f"{log.span[0].isoformat()}, so there is nothing to learn from; begin later"
            )

    def bundle(self, step: Step) -> Bundle:
        """What answers at the step; built now unless it is there."""
        path = self._directory / f"bundle-{step.built:04d}"
        if (path / "manifest.json").is_file():
            try:
                return open_bundle(path)
            except BundleError as error:
                say(f"built again: {error}")
        built = self._plan.steps[step.built]
        window, networks = self._networks(built.learned)
        say(f"step {step.number}: what is known on {built.cut.date()} around networks of {window.cut.date()}")
        self._build(path.with_name(f".{path.name}"), built.cut, window, networks)
        shutil.rmtree(path, ignore_errors=True)
        path.with_name(f".{path.name}").rename(path)
        for other in sorted(self._directory.glob("bundle-*"))[:-KEPT]:
            shutil.rmtree(other)
        return open_bundle(path)

    def _build(self, staged: Path, cut: datetime, window: Window, networks: Networks) -> None:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        shop = self._shop(cut)
        learn, seed = self._plan.config.learn, self._plan.seed
        learner = Learner(shop, learn, window.horizon * DAY, networks.directory, seed, networks)
        stage_catalog(staged, shop, learner.catalog())
        for name in NETWORK_FILES:
            shutil.copyfile(networks.directory / _EXPORTED / name, staged / name)
        config = bundle_config(self._plan.config, self._log, window) | {"learned_through": window.cut.isoformat()}
        # Of history's time: the same bundle, to its id, whenever it is built.
        draft = Draft(staged, shop, config, cut, code_revision())
        draft.vouch(draft.open())
        draft.seal({})

    def _shop(self, cut: datetime) -> Shop:
        """As `offline.shop.load_shop` gives it."""
        later = build_histories(list(self._log.scan(self._through, cut)))
        self._histories, self._through = extended(self._histories, later), cut
        articles = self._log.articles(cut)
        before = self._made
        if before is not None and articles.drop_columns("price").equals(before.articles.drop_columns("price")):
            known = Content(before.content, before.space, before.photos)
        else:
            config, cache = self._plan.config.content, self._data_dir / "content-cache"
            known = shop_content(articles, self._images, config, cache)
        segments = before.segments if before is not None else customer_segments(self._log)
        self._made = make_shop(to_micros(cut), self._histories, articles, segments, known)
        return self._made

    def _networks(self, learned: int) -> tuple[Window, Networks]:
        """Networks of the step `learned`, which are learned unless they are there."""
        if learned in self._learned:
            return self._learned[learned]
        cut = self._plan.steps[learned].cut - self._plan.label_delay
        horizon = choose_window((self._log.span[0], cut - timedelta(microseconds=1)), None).horizon
        window = Window(cut, horizon)
        runs = self._data_dir / "backtest-networks"
        job = OfflineRun(self._log, window, self._plan.config, runs, ManualClock(cut), self._images)
        exported = job.directory / _EXPORTED
        if not exported.is_dir():
            say(f"networks learn from what was known on {cut.date()}")
            aside = exported.with_name(f".{_EXPORTED}")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            stage_networks(aside, job.directory, job.shop, job.learner().learn())
            aside.rename(exported)
            for path in job.directory.glob("examples-*.npz"):
                path.unlink()  # hundreds of megabytes that nobody reads again
        networks = networks_in(job.directory)
        if networks is None:
            raise BundleError(f"networks in {job.directory} are damaged or of other code; remove it and start again")
        self._learned = {learned: (window, networks)}
        return window, networks
