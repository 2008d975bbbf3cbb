"""Golden cases: a bundle carries a few customers and the answers it gave when it was built. Whoever opens it replays
them first, so a bundle that ranks differently here (another library version, a swapped file) is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from infra.bundle import Bundle
from infra.clock import ManualClock
from infra.errors import BundleError
from infra.pauses import rest
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.runtime import Runtime, load_runtime
from streams.golden import GOLDEN, GoldenState, check_embeddings, golden_state, parse_golden
from streams.state import CustomerState
from streams.store import StoredCustomer

K = 12
# Another library version may swap articles whose scores agree to the last bits: exchanging the first two costs 0.08, a
# foreign article at the top 0.26. Order counts, or in a small shop any ranking would do.
MIN_AGREEMENT = 0.8


class GoldenCase(GoldenState, frozen=True, kw_only=True):
    """What this customer was answered at `now`."""

    now: datetime
    article_ids: list[str]


def open_runtime(bundle: Bundle) -> Runtime:
    """Open a verified bundle and replay its golden cases: the one way in for everything that answers.

    Raises:
        BundleError: it cannot be trusted; says why.
    """
    runtime = load_runtime(bundle)
    check_golden(runtime, bundle.file(GOLDEN).read_bytes())
    return runtime


def make_golden(runtime: Runtime, states: Sequence[CustomerState | None], now: datetime) -> bytes:
    """One JSON line a case."""
    customers = [state.customer_id if state else f"golden-unknown-{n}" for n, state in enumerate(states)]
    lines = []
    for customer, state, given in zip(customers, states, _answers(runtime, customers, states, now), strict=True):
        encoded, embedding = golden_state(state, runtime.encoder) if state else (None, None)
        case = GoldenCase(customer_id=customer, state=encoded, embedding=embedding, now=now, article_ids=given)
        lines.append(msgspec.json.encode(case))
    return b"\n".join(lines) + b"\n"


def check_golden(runtime: Runtime, raw: bytes) -> int:
    """Replay the cases; returns how many there were.

    Raises:
        BundleError: an embedding or an answer differs from what the bundle recorded, or nothing is recorded.
    """
    cases = parse_golden(raw, runtime.bundle_id, GoldenCase)
    check_embeddings(runtime.encoder, cases, runtime.bundle_id)
    for case, state in cases:
        rest()
        (given,) = _answers(runtime, [case.customer_id], [state], case.now)
        found = agreement(given, case.article_ids)
        if found < MIN_AGREEMENT:
            raise BundleError(
                f"bundle {runtime.bundle_id}: golden customer {case.customer_id} got {', '.join(given)}; recorded are "
                f"{', '.join(case.article_ids)} (agreement {found:.2f}, at least {MIN_AGREEMENT}): it would rank "
                "differently here"
            )
    return len(cases)


def agreement(given: Sequence[str], recorded: Sequence[str]) -> float:
    """Average overlap of two rankings: the mean, over all depths, of the share that their tops have in common."""
    depths = range(1, max(len(given), len(recorded)) + 1)
    if not depths:
        return 1.0
    return sum(len({*given[:d]} & {*recorded[:d]}) / d for d in depths) / len(depths)


def _answers(
    runtime: Runtime, customers: Sequence[str], states: Sequence[CustomerState | None], now: datetime
) -> list[list[str]]:
    requests = [RecommendationRequest(request_id="golden", customer_id=customer, k=K) for customer in customers]
    stored = [None if state is None else StoredCustomer(state) for state in states]
    answers = Pipeline(runtime, ManualClock(now)).recommend(requests, stored)
    return [[item.article_id for item in answer.items] for answer in answers]
