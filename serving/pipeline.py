"""Request -> answer: state, query vector, retrieval, filters, features, ranking, order. The only pipeline there is:
the responder, the HTTP gateway, the batch command and the evaluation all call it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence

import numpy as np

from infra.clock import Clock
from infra.errors import InvalidMessage
from serving.explanation import told_items
from serving.filters import check_filters
from serving.listing import Lister
from serving.messages import STRATEGIES, RecommendationRequest, Recommendations, RequestError
from serving.prepared import Prepared, Trace
from serving.retrieval.candidates import NOTHING, UNRANKED, CandidateSet, Floats, merge
from serving.retrieval.query import Query
from serving.rules import NO_RULES, ShopRules
from serving.runtime import Catalog, Runtime
from serving.shelf import Shelf
from streams.events import from_micros, to_micros
from streams.state import CustomerState, state_before
from streams.store import StoredCustomer

logger = logging.getLogger(__name__)

ORDER_ONLY_DEPTH = 1_000  # a strategy of one source may be asked for many, and filters may drop most of them


class Pipeline:
    """Answers requests from one bundle. Thread-safe; holds no state of its own.

    Args:
        without: names of sources that `full` does without, to measure what they are worth; their features say
            "not found".
        shelf: over the rows of the runtime's items, what can be had now and for how much; None: everything, at the
            bundle's prices.
        shop: what holds for every answer beside what its request asks for.
    """

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        *,
        without: Collection[str] = (),
        shelf: Shelf | None = None,
        shop: ShopRules = NO_RULES,
    ) -> None:
        self.runtime = runtime
        self._without = frozenset(without)
        self._catalog = runtime.catalog
        cut = to_micros(runtime.manifest.trained_through)
        self._lister = Lister(runtime.catalog, shelf or Shelf.of(runtime.items), shop, cut)
        self._clock = clock

    def recommend(
        self,
        requests: Sequence[RecommendationRequest],
        customers: Sequence[StoredCustomer | None],
        *,
        degraded: Sequence[str] = (),
    ) -> list[Recommendations]:
        """One answer a request, in order; a refused request is answered with its error.

        Args:
            customers: what the store knows of each request's customer, None if nothing.
            degraded: reasons known to the caller (the store did not answer, say).
        """
        prepared = self._prepare(requests, customers)
        found: dict[int, CandidateSet] = {}
        # One search a source for all who ask for the same, not one a customer.
        for strategy in {p.strategy for p in prepared} & set(STRATEGIES):
            asked = [p for p in prepared if p.strategy == strategy]
            sets = self._retrieve(strategy, [p.query for p in asked])
            found |= {id(p): candidates for p, candidates in zip(asked, sets, strict=True)}
        return [self._answer(p, found.get(id(p)), list(degraded)) for p in prepared]

    @property
    def lister(self) -> Lister:
        """What keeps the rules here."""
        return self._lister

    def prepared(self, request: RecommendationRequest, customer: StoredCustomer | None) -> Prepared:
        """A request with what is known of its customer: for those who find articles in another way and let the lister
        show them.

        Raises:
            InvalidMessage: a filter or rule that could never work.
        """
        check_filters(request)
        (prepared,) = self._prepare([request], [customer])
        return prepared

    def retrieved(self, prepared: Prepared) -> CandidateSet:
        """What `full` would rank for this customer, before filters."""
        (found,) = self._retrieve("full", [prepared.query])
        return found

    def candidates(
        self, requests: Sequence[RecommendationRequest], customers: Sequence[StoredCustomer | None]
    ) -> list[tuple[Query, CandidateSet]]:
        """What `full` would rank, before filters: for those who judge the sources apart from the ranker."""
        prepared = self._prepare(requests, customers)
        found = self._retrieve("full", [p.query for p in prepared])
        return [(p.query, candidates) for p, candidates in zip(prepared, found, strict=True)]

    def _prepare(
        self, requests: Sequence[RecommendationRequest], customers: Sequence[StoredCustomer | None]
    ) -> list[Prepared]:
        now = to_micros(self._clock.now())
        known = [None if customer is None else _before(customer, now) for customer in customers]
        prepared = []
        for request, customer, vector in zip(requests, known, query_vectors(self._catalog, known), strict=True):
            state = None if customer is None else customer.state
            segment = self._catalog.segments.get(request.customer_id) or request.context.get("segment")
            query = self._catalog.query(state, vector, segment, now)
            as_of = None if state is None else state.as_of
            forgetful = state is not None and state.past is not None and not state.past.whole
            prepared.append(Prepared(request, query, segment, as_of, forgetful))
        return prepared

    def _retrieve(self, strategy: str, queries: Sequence[Query]) -> list[CandidateSet]:
        if strategy == "full":
            return retrieve(self._catalog, queries, self._without)
        source = self._catalog.strategies[strategy]
        return [merge([strategy], [found]) for found in source.retrieve(queries, ORDER_ONLY_DEPTH)]

    def _answer(self, prepared: Prepared, found: CandidateSet | None, degraded: list[str]) -> Recommendations:
        request = prepared.request
        try:
            check_filters(request)
            return self._compose(prepared, found, degraded)
        except InvalidMessage as error:
            return Recommendations(
                request_id=request.request_id,
                customer_id=request.customer_id,
                bundle_id=self.runtime.bundle_id,
                strategy=request.strategy,
                error=RequestError(code="invalid_request", message=str(error)),
            )

    def _compose(self, prepared: Prepared, found: CandidateSet | None, degraded: list[str]) -> Recommendations:
        request, query = prepared.request, prepared.query
        if found is None:
            raise InvalidMessage(f"strategy {request.strategy!r}; allowed: {', '.join(STRATEGIES)}", column="strategy")
        trace: Trace = []
        candidates = self._lister.allowed(prepared, found, trace)
        gates: Floats | None = None
        if prepared.strategy == "full":
            scores, gates = self._scores(query, candidates, degraded, trace, explain=request.explain)
        else:
            scores = retrieval_order(candidates, prefer=prepared.strategy)
        items, places = self._lister.items(prepared, candidates, scores, trace)
        if request.explain:
            trace += told_items(items, candidates, places, None if gates is None else gates[places])
        return Recommendations(
            request_id=request.request_id,
            customer_id=request.customer_id,
            items=items,
            bundle_id=self.runtime.bundle_id,
            strategy=request.strategy,
            cold_start=query.cold,
            degraded=degraded + self._lister.unchecked(prepared, degraded),
            as_of=None if prepared.as_of is None else from_micros(prepared.as_of),
            trace=trace if request.explain else [],
        )

    def _scores(
        self, query: Query, candidates: CandidateSet, degraded: list[str], trace: Trace, *, explain: bool
    ) -> tuple[Floats, Floats | None]:
        """Of every candidate the score, and to explain it, where a network gave it, its gates: float32[C, E]."""
        started = time.perf_counter()
        gates: Floats | None = None
        try:
            features = self._catalog.features.build(query, candidates)
            if explain:
                tasks, gates = self.runtime.ranker.explained(features)
            else:
                tasks = self.runtime.ranker.score(features)
        except Exception:
            logger.exception("ranker failed; answering in retrieval order")
            degraded.append("ranker_failed")
            return retrieval_order(candidates, prefer="repurchase"), None
        trace.append(
            {
                "stage": "ranking",
                "scored": len(candidates),
                "ms": round((time.perf_counter() - started) * 1e3, 3),
            }
        )
        return np.asarray(tasks[:, 0], np.float32), gates


def retrieve(catalog: Catalog, queries: Sequence[Query], without: Collection[str] = ()) -> list[CandidateSet]:
    """All sources at the bundle's depths, merged by customer; those named in `without` find nothing. Ranking training
    calls this too."""
    if not queries:
        return []
    depth = catalog.retrieval.depth
    by_source = [
        [NOTHING] * len(queries) if source.name in without else source.retrieve(queries, depth[source.name])
        for source in catalog.sources
    ]
    names = [source.name for source in catalog.sources]
    return [merge(names, found) for found in zip(*by_source, strict=True)]


def query_vectors(catalog: Catalog, customers: Sequence[StoredCustomer | None]) -> Floats:
    """float32[n, d]: the stored embedding if of this bundle's space, else encoded from state; zero if unknown."""
    vectors = np.zeros((len(customers), catalog.encoder.dim), np.float32)
    missing: dict[int, CustomerState] = {}
    for row, customer in enumerate(customers):
        if customer is None:
            continue
        if customer.embedding is not None and customer.space == catalog.encoder.space:
            vectors[row] = customer.embedding
        elif len(customer.state):
            missing[row] = customer.state
    if missing:
        vectors[list(missing)] = catalog.encoder.encode(list(missing.values()))
    return vectors


def _before(customer: StoredCustomer, now: int) -> StoredCustomer:
    """Drop what lies ahead of `now`, and with it an embedding that has seen it."""
    state = state_before(customer.state, now)
    return customer if state is customer.state else StoredCustomer(state, customer.version)


def retrieval_order(candidates: CandidateSet, *, prefer: str) -> Floats:
    """Scores that keep the order of the sources: the preferred first, each by its own rank."""
    found = candidates.ranks < UNRANKED
    closeness = np.where(found, 1.0 / (1.0 + candidates.ranks), 0.0)
    preferred = np.array([name == prefer for name in candidates.sources])
    first = found[:, preferred].any(axis=1)
    others = closeness[:, ~preferred].sum(axis=1) / len(candidates.sources)  # below 1, so never among the first
    return np.asarray(np.where(first, 1.0 + closeness[:, preferred].sum(axis=1), others), np.float32)
