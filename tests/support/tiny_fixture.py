"""The bundle of the tiny shop, trained once in a test run whoever asks first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.bundle import Bundle
from infra.registry import Registry
from offline.event_log import EventLog
from serving.golden import open_runtime
from serving.runtime import Runtime
from tests.support.tiny import build_tiny_bundle


@dataclass(frozen=True)
class Tiny:
    """directory holds registry/, log/ and runs/<key>/ with the checkpoints of the training."""

    directory: Path
    bundle_id: str
    runtime: Runtime

    @property
    def registry_url(self) -> str:
        return f"file://{self.directory / 'registry'}"

    @property
    def bundle(self) -> Bundle:
        return Registry(self.registry_url).open(self.bundle_id)

    @property
    def log(self) -> EventLog:
        return EventLog(self.directory / "log")

    def checkpoint(self, name: str) -> Path:
        (found,) = (self.directory / "runs").glob(f"*/{name}")
        return found


@dataclass
class _Shared:
    """Two packages of tests import the fixture, which makes it two fixtures; the training stays one."""

    tiny: Tiny | None = field(default=None)


_shared = _Shared()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    if _shared.tiny is None:
        directory = tmp_path_factory.mktemp("tiny")
        bundle_id = build_tiny_bundle(directory)
        bundle = Registry(f"file://{directory / 'registry'}").open(bundle_id)
        _shared.tiny = Tiny(directory, bundle_id, open_runtime(bundle))
    return _shared.tiny
