"""Golden states: a bundle carries a few customers and the embeddings it gave them when it was built. Whoever opens it
encodes them first, so a query encoder that computes something else here is refused by name.

They lie in golden.jsonl beside the answers, which only `serving.golden` can check.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from infra.bundle import Bundle
from infra.errors import BundleError, DataError
from infra.pauses import rest
from streams.bundle_contract import check_contract
from streams.encoder import QueryEncoder, load_query_encoder
from streams.state import CustomerState, empty_state
from streams.state_format import decode_state, encode_state

GOLDEN = "golden.jsonl"
# Largest difference of one value. Embeddings have length 1; another kind of processor gives other last bits of float16,
# another network differs by about 0.1.
TOLERANCE = 0.01


class GoldenState(msgspec.Struct, frozen=True, kw_only=True):
    """state: base64 of the encoded state, None for an unknown customer · embedding: base64 of its float16[dim], None
    for an unknown customer, and in a bundle that was built before embeddings were recorded."""

    customer_id: str
    state: str | None
    embedding: str | None = None


G = TypeVar("G", bound=GoldenState)


class Encoder(Protocol):
    """What is needed of `streams.encoder.QueryEncoder`."""

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]: ...


def open_encoder(bundle: Bundle) -> QueryEncoder:
    """Open a verified bundle's query encoder and encode its golden states: the way in for who encodes but does not
    answer. It is ready for the next batch.

    Raises:
        BundleError: it cannot be trusted, or was made for other code; says why.
    """
    check_contract(bundle)
    encoder = load_query_encoder(bundle)
    encoder.encode([empty_state("warm-up")])
    cases = parse_golden(bundle.file(GOLDEN).read_bytes(), bundle.bundle_id, GoldenState)
    check_embeddings(encoder, cases, bundle.bundle_id)
    return encoder


def golden_state(state: CustomerState, encoder: Encoder) -> tuple[str, str]:
    """What a case records of a known customer: the state, the embedding."""
    (vector,) = encoder.encode([state])
    raw = vector.astype("<f2").tobytes()
    return base64.b64encode(encode_state(state)).decode(), base64.b64encode(raw).decode()


def parse_golden(raw: bytes, bundle_id: str, kind: type[G]) -> list[tuple[G, CustomerState | None]]:
    """The cases of a golden.jsonl with their states.

    Raises:
        BundleError: they are no cases, or none is there.
    """
    try:
        cases = [msgspec.json.decode(line, type=kind) for line in raw.splitlines()]
        states = [decode_state(base64.b64decode(case.state)) if case.state else None for case in cases]
    except (msgspec.MsgspecError, ValueError, DataError) as error:
        raise BundleError(f"bundle {bundle_id}: {GOLDEN} holds something else than cases: {error}") from error
    if not cases:
        raise BundleError(f"bundle {bundle_id}: {GOLDEN} holds no case, so nothing vouches for its answers")
    return list(zip(cases, states, strict=True))


def check_embeddings(
    encoder: Encoder, cases: Sequence[tuple[GoldenState, CustomerState | None]], bundle_id: str
) -> None:
    """Encode the states that have a recorded embedding.

    Raises:
        BundleError: another embedding comes out.
    """
    for case, state in cases:
        if state is None or case.embedding is None:
            continue
        rest()
        (given,) = encoder.encode([state])
        recorded = _embedding(case.embedding, bundle_id)
        where = f"bundle {bundle_id}: the embedding of golden customer {case.customer_id}"
        if given.shape != recorded.shape:
            raise BundleError(f"{where} has {len(given)} values; recorded are {len(recorded)}")
        far = float(np.abs(given - recorded).max())
        if not far <= TOLERANCE:  # nor where it is no number
            raise BundleError(
                f"{where} differs from the recorded one by {far:.3f} in a value (at most {TOLERANCE}): it would encode "
                "differently here"
            )


def _embedding(text: str, bundle_id: str) -> npt.NDArray[np.float32]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
    except ValueError as error:
        raise BundleError(f"bundle {bundle_id}: {GOLDEN} holds an embedding that is no float16: {error}") from error
