"""Quality gates: what a bundle must show before its channel moves to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIN_INDEX_RECALL = 0.95


@dataclass(frozen=True)
class Gate:
    name: str
    passed: bool
    given: str
    wanted: str


def gates(metrics: Mapping[str, Mapping[str, float]], recall_of_index: float) -> list[Gate]:
    """What a bundle must show before its channel moves."""
    full, repurchase = metrics["full"]["map@12"], metrics["repurchase"]["map@12"]
    return [
        Gate("ranking beats repurchase on MAP@12", full > repurchase, f"{full:.5f}", f"above {repurchase:.5f}"),
        Gate(
            "index finds what exact search finds",
            recall_of_index >= MIN_INDEX_RECALL,
            f"{recall_of_index:.4f}",
            f"at least {MIN_INDEX_RECALL}",
        ),
    ]
