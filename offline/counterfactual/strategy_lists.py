"""A strategy of a bundle as the target policy: the lists it would have shown, each with what was known right then."""

from __future__ import annotations

import numpy as np

from infra.clock import ManualClock
from infra.errors import BundleError, GateError
from offline.counterfactual.shown import Names, Shown
from offline.progress import step
from serving.messages import MAX_K, RecommendationRequest
from serving.pipeline import Pipeline
from serving.runtime import Runtime
from streams.events import from_micros, to_micros
from streams.histories import Histories
from streams.store import StoredCustomer


def after_training(shown: Shown, runtime: Runtime) -> Shown:
    """The impressions that the bundle has not learned from.

    Raises:
        BundleError: it has learned from all of them.
    """
    learned = runtime.manifest.trained_through
    later = shown.take(shown.shown_at >= to_micros(learned))
    if len(shown) and not len(later):
        raise BundleError(
            f"bundle {runtime.bundle_id} was trained on events up to {learned.isoformat()}, later than every "
            f"impression: its lists would know what came of them. Name an older one by --bundle, or run `modiste "
            f"offline run --until {from_micros(int(np.min(shown.shown_at))).date()}` first"
        )
    return later


def strategy_lists(runtime: Runtime, strategy: str, histories: Histories, shown: Shown) -> Names:
    """What the strategy shows in each row's place: article ids object[n], "" where its list has ended.

    Each request is answered through the real pipeline at its own moment, from the customer's events strictly before.

    Raises:
        GateError: the pipeline refuses a request or answers with less than it has.
    """
    clock = ManualClock(from_micros(0))
    pipeline = Pipeline(runtime, clock)
    listed = np.full(len(shown), "", np.object_)
    starts = np.flatnonzero(np.r_[True, shown.request[1:] != shown.request[:-1]]) if len(shown) else np.empty(0, int)
    ends = np.r_[starts[1:], len(shown)].astype(int)
    with step(f"lists of {strategy}", len(starts)) as progress:
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            places = shown.position[start:end]
            moment, customer = int(shown.shown_at[start]), str(shown.customer[start])
            clock.set(from_micros(moment))
            request = RecommendationRequest(
                request_id=str(shown.request[start]),
                customer_id=customer,
                k=min(int(np.max(places)) + 1, MAX_K),
                strategy=strategy,
            )
            state = histories.state(customer, moment)
            (answer,) = pipeline.recommend([request], [None if state is None else StoredCustomer(state)])
            if answer.error is not None:
                raise GateError(f"{strategy} did not answer for {customer}: {answer.error.message}")
            if answer.degraded:
                raise GateError(f"{strategy} is not itself for {customer}: {', '.join(answer.degraded)}")
            ids = [item.article_id for item in answer.items]
            for row, place in enumerate(places.tolist(), start):
                if place < len(ids):
                    listed[row] = ids[place]
            progress.advance()
    return listed
