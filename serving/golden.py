"""Golden cases: a bundle carries a few customers and the answers it gave when it was built. Whoever opens it replays
them first, so a bundle that ranks differently here (another library version, a swapped file) is refused by name.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime

import msgspec

from infra.bundle import Bundle
from infra.clock import ManualClock
from infra.errors import BundleError
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.runtime import Runtime, load_runtime
from streams.state import CustomerState, decode_state, encode_state
from streams.store import StoredCustomer

K = 12
# Two builds of one runtime may swap articles whose scores agree to the last bits; more than that is another ranking.
MIN_OVERLAP = 0.9


class GoldenCase(msgspec.Struct, frozen=True):
    """`state` is base64 of the encoded state, None for an unknown customer."""

    customer_id: str
    now: datetime
    state: str | None
    article_ids: list[str]


def open_runtime(bundle: Bundle) -> Runtime:
    """Open a verified bundle and replay its golden cases: the one way in for everything that answers.

    Raises:
        BundleError: it cannot be trusted; says why.
    """
    runtime = load_runtime(bundle)
    check_golden(runtime, bundle.file("golden.jsonl").read_bytes())
    return runtime


def make_golden(runtime: Runtime, states: Sequence[CustomerState | None], now: datetime) -> bytes:
    """One JSON line a case."""
    lines = []
    for n, state in enumerate(states):
        customer = state.customer_id if state else f"golden-unknown-{n}"
        raw = base64.b64encode(encode_state(state)).decode() if state else None
        lines.append(msgspec.json.encode(GoldenCase(customer, now, raw, _answer(runtime, customer, state, now))))
    return b"\n".join(lines) + b"\n"


def check_golden(runtime: Runtime, raw: bytes) -> int:
    """Replay the cases; returns how many there were.

    Raises:
        BundleError: an answer differs from what the bundle recorded.
    """
    lines = raw.splitlines()
    for line in lines:
        case = msgspec.json.decode(line, type=GoldenCase)
        state = decode_state(base64.b64decode(case.state)) if case.state else None
        given = _answer(runtime, case.customer_id, state, case.now)
        same = len(set(given) & set(case.article_ids))
        if same < MIN_OVERLAP * len(case.article_ids):
            raise BundleError(
                f"bundle {runtime.bundle_id}: golden customer {case.customer_id} got {same} of the "
                f"{len(case.article_ids)} recorded articles; it would rank differently here"
            )
    return len(lines)


def _answer(runtime: Runtime, customer_id: str, state: CustomerState | None, now: datetime) -> list[str]:
    request = RecommendationRequest(request_id="golden", customer_id=customer_id, k=K)
    stored = None if state is None else StoredCustomer(state, 0, None, None)
    (answer,) = Pipeline(runtime, ManualClock(now)).recommend([request], [stored])
    return [item.article_id for item in answer.items]
