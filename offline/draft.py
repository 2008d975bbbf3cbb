"""A bundle between its files and its name: opened before anything vouches for it, then given what does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.bundle import open_bundle, write_manifest
from offline.shop import Shop
from serving.golden import make_golden
from serving.runtime import Runtime, load_runtime
from streams.bundle_contract import feature_hash
from streams.events import SCHEMA_VERSION, from_micros
from streams.state import MAX_EVENTS
from streams.state_format import STATE_FORMAT

GOLDEN_CASES = 8


@dataclass(frozen=True, eq=False)
class Draft:
    """A directory with the files of `offline.stage`, made from `shop`.

    config: what the manifest says of how it was made · created_at: when.
    """

    directory: Path
    shop: Shop
    config: Mapping[str, Any]
    created_at: datetime
    code_revision: str | None

    def open(self) -> Runtime:
        """What it will answer with; nothing has vouched for it yet."""
        (self.directory / "golden.jsonl").write_bytes(b"")
        (self.directory / "report.json").write_text("{}")
        self.seal({})
        return load_runtime(open_bundle(self.directory))

    def vouch(self, runtime: Runtime) -> None:
        """Write the golden cases: what a few customers, and one of whom nothing is known, get at the cut."""
        histories, cut = self.shop.histories, self.shop.cut
        some = histories.customers[:: max(1, len(histories.customers) // GOLDEN_CASES)][:GOLDEN_CASES]
        states = [histories.state(customer, cut) for customer in some]
        cases = make_golden(runtime, [*states, None], from_micros(cut))
        (self.directory / "golden.jsonl").write_bytes(cases)

    def seal(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Write the manifest over all that lies in the directory, which makes it a bundle."""
        ranker = json.loads((self.directory / "features.json").read_text())["ranker"]
        histories = self.shop.histories
        (self.directory / "manifest.json").unlink(missing_ok=True)
        write_manifest(
            self.directory,
            created_at=self.created_at,
            trained_through=from_micros(self.shop.cut),
            config={**self.config, "ranker": ranker},
            contracts={
                "events": str(SCHEMA_VERSION),
                "state": f"{STATE_FORMAT}:{MAX_EVENTS}",
                "features": feature_hash(),
                "metric": "inner_product",
            },
            counts={"items": len(self.shop.items), "customers": len(histories.customers), "events": len(histories)},
            metrics=metrics,
            code_revision=self.code_revision,
        )
