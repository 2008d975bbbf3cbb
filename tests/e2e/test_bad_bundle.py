"""A bundle that cannot be trusted: no command points at it, and where a channel does, all processes refuse it by name
and serve on with the one they have.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.registry import Registry
from infra.settings import load_settings
from serving.up import Stack, start_stack
from tests.conftest import GIVEN
from tests.e2e.conftest import PRESENT
from tests.e2e.in_use import command, everywhere, until
from tests.support.remade import remade
from tests.support.servers import choose_broker, running_broker
from tests.support.tiny_fixture import Tiny

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PROCESSES = ("worker", "responder", "api")


@dataclass(frozen=True)
class Shop:
    stack: Stack
    registry: Registry
    good: str
    output: Path

    def point_by_hand(self, bundle_id: str) -> None:
        """As no command does: behind all checks."""
        path = Path(self.registry.place) / "channels" / "production.json"
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(json.loads(path.read_text()) | {"bundle_id": bundle_id}))
        aside.replace(path)

    async def refused(self, bundle_id: str) -> bool:
        """By every process, each on its own line."""
        lines = self.output.read_text().splitlines()
        told = [line for line in lines if f"bundle {bundle_id} refused, {self.good} stays in use: " in line]
        return all(any(line.startswith(name) for line in told) for name in PROCESSES)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny, redis_url: str) -> Iterator[Shop]:
    """The tiny shop with a broker, a registry and an output of its own: nobody else answers, or is answered, here."""
    directory = tmp_path_factory.mktemp("bad-bundle")
    registry = Registry(f"file://{directory / 'registry'}")
    good = registry.publish(tiny.bundle.path)
    registry.activate("production", good)
    (directory / "broker").mkdir()
    with running_broker(choose_broker(GIVEN), directory / "broker") as kafka_url:
        env = {
            "MODISTE_KAFKA__URL": kafka_url,
            "MODISTE_REDIS__URL": redis_url,
            "MODISTE_REDIS__PREFIX": f"bad-bundle-{uuid.uuid4().hex[:8]}",
            "MODISTE_REGISTRY__URL": f"file://{directory / 'registry'}",
            "MODISTE_DATA_DIR": str(directory / "data"),
            "MODISTE_HTTP__PORT": "0",
            "MODISTE_CLOCK__ORIGIN": PRESENT.isoformat(),
            "MODISTE_CLOCK__STARTED_AT": str(time.time()),
        }
        output = directory / "output"
        with output.open("w") as out, start_stack(load_settings(env), processes=PROCESSES, out=out) as stack:
            yield Shop(stack, registry, good, output)


def of_other_features(copy: Path) -> None:
    path = copy / "features.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hash": "0123"}))


def without_a_ranker(copy: Path) -> None:
    (copy / "ranker.onnx").unlink()


def with_a_network_cut_short(copy: Path) -> None:
    path = copy / "query_encoder.onnx"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("change", [of_other_features, without_a_ranker, with_a_network_cut_short])
def test_a_mismatched_bundle_is_refused_by_all(
    shop: Shop, tiny: Tiny, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    bad = shop.registry.publish(remade(tiny.bundle, tmp_path, change).path)
    done = command(shop.stack, "bundles", "activate", bad)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: bundle {bad} ")
    assert "Channel production is not moved" in done.stderr
    assert shop.registry.pointer("production").bundle_id == shop.good
    refused_while_the_good_one_serves(shop, bad)


def test_a_damaged_bundle_is_refused_by_all(shop: Shop, tiny: Tiny, tmp_path: Path) -> None:
    """Sound when it was published, cut short afterwards."""
    sound = remade(tiny.bundle, tmp_path, lambda copy: (copy / "report.json").write_text("{}"))
    bad = shop.registry.publish(sound.path)
    path = Path(shop.registry.place) / "bundles" / bad / "index.faiss"
    path.write_bytes(path.read_bytes()[:-1])
    done = command(shop.stack, "bundles", "activate", bad)
    assert done.returncode == 2
    assert f"bundle {bad}" in done.stderr and "index.faiss has" in done.stderr
    refused_while_the_good_one_serves(shop, bad)
    shutil.rmtree(path.parent)


def refused_while_the_good_one_serves(shop: Shop, bad: str) -> None:
    shop.point_by_hand(bad)
    try:
        asyncio.run(until(lambda: shop.refused(bad), f"all refuse {bad}", 15.0))
        asyncio.run(everywhere(shop.stack, shop.good))
    finally:
        shop.registry.activate("production", shop.good)
