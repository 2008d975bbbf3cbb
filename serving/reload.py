"""What the process that answers holds of a bundle, and how it is made ready; `infra.follow` swaps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from infra.bundle import Bundle
from infra.clock import Clock
from infra.follow import BundleFollower
from serving.golden import open_runtime
from serving.pipeline import Pipeline
from serving.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that one bundle gives, as one reference: whoever reads it once sees one bundle throughout."""

    bundle_id: str
    runtime: Runtime
    pipeline: Pipeline


def loader(clock: Clock) -> Callable[[Bundle], Loaded]:
    """How a verified bundle becomes something that answers: loaded, its golden cases answered as recorded, which also
    is its first inference.

    Raises (from the returned function):
        BundleError: a file is missing, corrupt, or made for other code.
    """

    def load(bundle: Bundle) -> Loaded:
        runtime = open_runtime(bundle)
        return Loaded(bundle.bundle_id, runtime, Pipeline(runtime, clock))

    return load


RuntimeHolder = BundleFollower[Loaded]
"""Holds the `Loaded` of the bundle that the channel points at."""
