"""A bundle with something changed under a manifest that agrees with it: what only a deeper check can refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from infra.bundle import Bundle, open_bundle, write_manifest


def remade(bundle: Bundle, directory: Path, change: Callable[[Path], object]) -> Bundle:
    """Copy the bundle into `directory`, change the copy, hash it anew and open it."""
    copy = directory / "remade"
    shutil.copytree(bundle.path, copy)
    change(copy)
    old = bundle.manifest
    (copy / "manifest.json").unlink()
    write_manifest(
        copy,
        created_at=old.created_at,
        trained_through=old.trained_through,
        config=old.config,
        contracts=old.contracts,
        counts=old.counts,
        metrics=old.metrics,
    )
    return open_bundle(copy)
