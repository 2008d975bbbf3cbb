"""Who is compared, and what each of them shows: rows of the catalogue for every customer, through the real pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from infra.clock import ManualClock
from infra.errors import GateError
from infra.threads import answering
from offline.progress import Step
from offline.shared_catalog import SharedCatalog
from serving.messages import STRATEGIES, RecommendationRequest
from serving.pipeline import Pipeline, retrieval_order
from serving.prepared import Trace
from serving.ranking import Ranker
from serving.retrieval.candidates import CandidateSet, Floats
from serving.retrieval.query import Query
from serving.runtime import Runtime
from streams.events import from_micros
from streams.histories import Histories
from streams.store import StoredCustomer

Ints = npt.NDArray[np.int64]

K = 100
CHUNK = 128
WITHOUT_RANKER = "full, ranker off"


@dataclass(frozen=True, eq=False)
class Asked:
    """Customers and what is known of them at one moment.

    `first`: int64[m], one of each lot of customers that must be answered alike; `lot`: int64[n] each customer's lot.
    Of two customers without a state the pipeline knows nothing but the segment, and in fashion most buyers are such.
    """

    customers: Sequence[str]
    stored: Sequence[StoredCustomer | None]
    first: Ints
    lot: Ints

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether anything is known of each customer, bool[n]."""
        return np.array([state is not None for state in self.stored], np.bool_)

    def chunks(self) -> Iterator[Chunk]:
        """One customer a lot, CHUNK lots at a time."""
        for start in range(0, len(self.first), CHUNK):
            rows = self.first[start : start + CHUNK].tolist()
            yield Chunk(
                slice(start, start + len(rows)),
                [self.customers[row] for row in rows],
                [self.stored[row] for row in rows],
            )


@dataclass(frozen=True, eq=False)
class Chunk:
    """A few of the lots, each by one of its customers."""

    lots: slice
    customers: Sequence[str]
    stored: Sequence[StoredCustomer | None]

    def __len__(self) -> int:
        return len(self.customers)

    def requests(self, strategy: str) -> list[RecommendationRequest]:
        return [RecommendationRequest(request_id=c, customer_id=c, k=K, strategy=strategy) for c in self.customers]


@dataclass(frozen=True, eq=False)
class Contender:
    """A pipeline and the strategy it is asked for. Only a `baseline` can be the best baseline."""

    name: str
    pipeline: Pipeline
    strategy: str
    baseline: bool = False


class RankerOff(Pipeline):
    """`full` without its ranker: the candidates stand in the order of retrieval."""

    def _scores(
        self, query: Query, candidates: CandidateSet, degraded: list[str], trace: Trace, *, explain: bool
    ) -> tuple[Floats, None]:
        del degraded, trace, explain
        return retrieval_order(candidates, prefer="repurchase" if len(query.history) else "popular"), None


def ask(runtime: Runtime, histories: Histories, customers: Sequence[str], moment: int) -> Asked:
    """What is known of the customers strictly before `moment` (microseconds), encoded once for all contenders, as the
    live worker stores it."""
    states = [histories.state(customer, moment) for customer in customers]
    known = [row for row, state in enumerate(states) if state is not None]
    stored: list[StoredCustomer | None] = [None] * len(states)
    for start in range(0, len(known), CHUNK):
        rows = known[start : start + CHUNK]
        part = [state for row in rows if (state := states[row]) is not None]
        for row, state, vector in zip(rows, part, runtime.encoder.encode(part), strict=True):
            stored[row] = StoredCustomer(state, space=runtime.encoder.space, embedding=vector)
    lots: dict[str | int | None, int] = {}
    lot = np.empty(len(customers), np.int64)
    first: list[int] = []
    for row, customer in enumerate(customers):
        key = row if stored[row] is not None else runtime.catalog.segments.get(customer)
        if key not in lots:
            lots[key] = len(first)
            first.append(row)
        lot[row] = lots[key]
    return Asked(customers, stored, np.array(first, np.int64), lot)


def contenders(runtime: Runtime, cut: int, peers: Mapping[str, Ranker], *, ablations: bool = True) -> list[Contender]:
    """`full`; every other strategy; `full` by each peer ranker, without a ranker, and without each of its sources. They
    share a catalogue that remembers, so whoever asks them should ask all of them about the same customers.

    Args:
        peers: rankers trained beside the one that serves, by name.
        ablations: whether the sources are taken away one by one, which costs as much as all the rest.
    """
    clock = ManualClock(from_micros(cut))
    runtime = replace(runtime, catalog=SharedCatalog.of(runtime.catalog))
    pipeline = Pipeline(runtime, clock)
    found = [Contender("full", pipeline, "full")]
    found += [Contender(name, pipeline, name, baseline=True) for name in STRATEGIES if name != "full"]
    found += [
        Contender(peer_name(name), Pipeline(replace(runtime, ranker=ranker), clock), "full")
        for name, ranker in peers.items()
    ]
    found.append(Contender(WITHOUT_RANKER, RankerOff(runtime, clock), "full"))
    if ablations:
        found += [
            Contender(ablation_name(source.name), Pipeline(runtime, clock, without=(source.name,)), "full")
            for source in runtime.catalog.sources
        ]
    return found


def peer_name(ranker: str) -> str:
    return f"full, {ranker} ranking"


def ablation_name(source: str) -> str:
    return f"full without {source}"


def shown(
    everyone: Sequence[Contender], asked: Asked, progress: Step, then: Callable[[Chunk], None] | None = None
) -> dict[str, Ints]:
    """By contender int64[n, K] rows, best first, -1 where a list has ended.

    Args:
        then: called with every chunk of customers, once all contenders have answered them.

    Raises:
        GateError: the pipeline refuses some of the requests, or answers with less than it has.
    """
    lists = {contender.name: np.full((len(asked.first), K), -1, np.int64) for contender in everyone}
    with answering():
        for chunk in asked.chunks():
            for contender in everyone:
                _show(contender, chunk, lists[contender.name][chunk.lots])
                progress.advance(len(chunk), contender.name)
            if then is not None:
                then(chunk)
                progress.advance(len(chunk), "candidates")
    return {name: rows[asked.lot] for name, rows in lists.items()}


def _show(contender: Contender, chunk: Chunk, rows: Ints) -> None:
    """Write a contender's answers into rows int64[m, K]."""
    index = contender.pipeline.runtime.items.index
    answers = contender.pipeline.recommend(chunk.requests(contender.strategy), chunk.stored)
    for row, answer in zip(rows, answers, strict=True):
        if answer.error is not None:
            raise GateError(f"{contender.name} did not answer for {answer.customer_id}: {answer.error.message}")
        if answer.degraded:
            raise GateError(f"{contender.name} is not itself for {answer.customer_id}: {', '.join(answer.degraded)}")
        row[: len(answer.items)] = [index[item.article_id] for item in answer.items]
