"""A bundle of two small text files, for tests of the container and the registry."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.bundle import Manifest, write_manifest

CREATED = datetime(2026, 11, 5, 3, 12, 0, tzinfo=UTC)
TRAINED_THROUGH = datetime(2026, 11, 4, tzinfo=UTC)


def write_files(directory: Path, words: str = "red green") -> Path:
    """`words.txt` and `tables/more.txt` below `directory`, without a manifest."""
    (directory / "tables").mkdir(parents=True)
    (directory / "words.txt").write_text(words)
    (directory / "tables" / "more.txt").write_text("blue")
    return directory


def toy_manifest(directory: Path, **changes: Any) -> Manifest:
    given: dict[str, Any] = {
        "created_at": CREATED,
        "trained_through": TRAINED_THROUGH,
        "config": {"seed": 7, "sizes": [1, 2.5], "note": None},
        "contracts": {"events": "1"},
        "counts": {"words": 2},
        "metrics": {"ours": {"map@12": 0.25}, "baseline": {"map@12": 0.125}},
    }
    return write_manifest(directory, **{**given, **changes})


def toy_bundle(directory: Path, words: str = "red green", **changes: Any) -> str:
    """Write a whole bundle at `directory`; its id."""
    return toy_manifest(write_files(directory, words), **changes).bundle_id
