"""Customer state -> arrays -> embedding: the query encoder's input contract and its ONNX runner.

The worker (live), serving (on a miss) and retrieval training all build their input here, so a vector can never depend
on who computed it. Gaps are measured from the customer's own newest event, not from the present: the embedding is
a pure function of the state and stays valid until the state changes.

To the bit: ONNX Runtime multiplies a single row by other code than several, and of several each gets the same bits in
any company (a parity test holds it to that), so a single row is run twice over. Another kind of processor may give
other last bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pyarrow.parquet as pq

from infra.bundle import Bundle
from infra.errors import BundleError
from infra.pauses import rest
from streams.state import CustomerState

SEQUENCE_LENGTH = 64
MICROS_A_DAY = 86_400_000_000.0
# Rows of one run: what it works on stays in the processor's cache. Measured with 64 dimensions on one core: 11.9 us a
# row for 128, 15.2 for 512, 27.3 for 2.
ROWS = 128

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class EncoderInput:
    """item_idx: int64[B, L] row numbers, newest last, 0 where masked · gaps: float32[B, L] log1p of days before the
    customer's newest event · mask: float32[B, L], 1 where there is an article."""

    item_idx: npt.NDArray[np.int64]
    gaps: Floats
    mask: Floats


def encoder_input(states: Sequence[CustomerState], index: Mapping[str, int]) -> EncoderInput:
    """The last SEQUENCE_LENGTH events whose article the bundle knows, right-aligned.

    Args:
        index: article_id -> item_idx of one bundle; unknown articles are skipped.
    """
    shape = (len(states), SEQUENCE_LENGTH)
    items: list[int] = []
    times: list[npt.NDArray[np.int64]] = []
    for state in states:
        recent = [index.get(article_id) for article_id in state.article_ids[-SEQUENCE_LENGTH:]]
        positions: slice | list[int] = slice(len(state) - len(recent), None)
        if None in recent:
            positions = _known_positions(state, index)
            recent = [index[state.article_ids[position]] for position in positions]
        items.extend(recent)  # type: ignore[arg-type]  # none is None
        times.append(state.occurred_at[positions])
    item_idx = np.zeros(shape, np.int64)
    gaps = np.zeros(shape, np.float32)
    if not items:
        return EncoderInput(item_idx, gaps, np.zeros(shape, np.float32))
    lengths = np.array([len(part) for part in times])
    moments = np.concatenate(times)
    newest = np.repeat(moments[np.cumsum(lengths) - 1], lengths)
    known = np.arange(SEQUENCE_LENGTH) >= SEQUENCE_LENGTH - lengths[:, None]
    item_idx[known] = items
    gaps[known] = np.log1p((newest - moments) / MICROS_A_DAY)
    return EncoderInput(item_idx, gaps, known.astype(np.float32))


def _known_positions(state: CustomerState, index: Mapping[str, int]) -> list[int]:
    """Where the last SEQUENCE_LENGTH known articles stand, ascending."""
    found: list[int] = []
    for position in range(len(state) - 1, -1, -1):
        if state.article_ids[position] in index:
            found.append(position)
            if len(found) == SEQUENCE_LENGTH:
                break
    return found[::-1]


class QueryEncoder:
    """Runs a bundle's query encoder. Thread-safe; one intra-op thread, since workers scale by process."""

    def __init__(
        self, session: ort.InferenceSession, item_vectors: Floats, index: Mapping[str, int], space: str
    ) -> None:
        self._session = session
        self._item_vectors = item_vectors
        self._index = index
        self.space = space
        self.dim = int(item_vectors.shape[1])

    def encode(self, states: Sequence[CustomerState]) -> Floats:
        """Unit rows float32[n, dim]; a zero row for a state without any article that the bundle knows.

        Values are rounded to float16, which is how they are stored: 1 - cosine to the unrounded below 2e-7.
        """
        if not states:
            return np.zeros((0, self.dim), np.float32)
        inputs = encoder_input(states, self._index)
        vectors = self.run(inputs)
        vectors[inputs.mask.sum(axis=1) == 0] = 0.0
        return vectors.astype(np.float16).astype(np.float32)

    def run(self, inputs: EncoderInput) -> Floats:
        """The network's own rows float32[B, dim], B > 0; each depends on its row of the input alone."""
        n = len(inputs.mask)
        parts = []
        for first in range(0, n, ROWS):
            rows = slice(first, first + ROWS) if n - first > 1 else [first, first]
            items = self._item_vectors[inputs.item_idx[rows]]
            feeds = {"items": items, "gaps": inputs.gaps[rows], "mask": inputs.mask[rows]}
            parts.append(self._session.run(None, feeds)[0][: n - first])
        return np.concatenate(parts).astype(np.float32, copy=False)


def onnx_session(path: str) -> ort.InferenceSession:
    """A session on one thread without spinning: processes share the cores with a broker and a store."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def load_query_encoder(bundle: Bundle) -> QueryEncoder:
    """The encoder of one bundle.

    Raises:
        BundleError: item rows and vectors do not agree.
    """
    table = pq.read_table(bundle.file("items.parquet"), columns=["article_id"], use_threads=False)
    article_ids = table["article_id"].to_pylist()
    rest()
    index = {article_id: row for row, article_id in enumerate(article_ids)}
    return open_query_encoder(bundle, load_vectors(bundle, "item_vectors.npy", len(index)), index)


def open_query_encoder(bundle: Bundle, item_vectors: Floats, index: Mapping[str, int]) -> QueryEncoder:
    """The encoder of one bundle whose items and vectors are read already."""
    return QueryEncoder(onnx_session(str(bundle.file("query_encoder.onnx"))), item_vectors, index, bundle.bundle_id)


def load_vectors(bundle: Bundle, name: str, n_items: int) -> Floats:
    """A bundle's file of one vector an article, float32[n, d].

    Raises:
        BundleError: rows are not as many as items.
    """
    vectors = np.load(bundle.file(name), allow_pickle=False)
    if vectors.ndim != 2 or len(vectors) != n_items:
        raise BundleError(f"bundle {bundle.bundle_id}: {name} has shape {vectors.shape}, items.parquet {n_items} rows")
    return np.asarray(vectors, np.float32)
