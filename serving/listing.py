"""Candidates with their scores -> the list that is shown: every path of the pipeline ends here, so that no rule is kept
by one of them and broken by another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.diversity import POOL, Likeness, Spread
from serving.filters import Mask
from serving.messages import Item
from serving.prepared import Prepared, Trace
from serving.reasons import PIN, Reasons
from serving.reranking import NONE, Cap, arrange, order
from serving.retrieval.candidates import CandidateSet, Floats, Ints
from serving.rules import RuleBook, ShopRules
from serving.runtime import Catalog
from serving.shelf import Shelf

FILL_DEPTH = 1_000  # of the popular: a filter may drop most of them
CATALOGUE = "catalogue"  # the source of what fills a list up when the popular are used up
DROPS_TOLD = 50  # candidates that a trace names with the rule that dropped them
UNREADABLE = frozenset({"store_unavailable", "state_unreadable"})


class Lister:
    """Makes lists from one catalogue under the shop's rules and those of each request. Thread-safe.

    Args:
        shelf: what can be had now, and for how much.
        cut: what the catalogue learned from ended here, microseconds.
    """

    def __init__(self, catalog: Catalog, shelf: Shelf, shop: ShopRules, cut: int) -> None:
        self._catalog = catalog
        self._shelf = shelf
        self._book = RuleBook(catalog.items, shelf, shop)
        self._likeness = Likeness(catalog.content, catalog.items.codes["category"])
        self._reasons = Reasons(catalog, cut)
        self._rests: dict[int, Ints] = {}  # by segment

    def unchecked(self, prepared: Prepared, degraded: Sequence[str]) -> list[str]:
        """Rules in force that cannot be kept for sure, since the customer's history could not be read, or not all that
        was bought is known."""
        blind = prepared.forgetful or bool(UNREADABLE & set(degraded))
        return ["bought_unknown"] if blind and self._book.excludes_bought(prepared.request) else []

    def allowed(self, prepared: Prepared, found: CandidateSet, trace: Trace) -> CandidateSet:
        """What is found and what is pinned, without what a rule forbids."""
        trace.append({"stage": "retrieval", "candidates": len(found)})
        pins = self._book.pins(prepared.request)
        if len(pins):
            found = found.with_rows(pins[~np.isin(pins, found.item_idx)])
        dropped: dict[str, Ints] = {}
        keep = np.ones(len(found), np.bool_)
        for rule, mask in self._book.masks(prepared.request, prepared.query.history, prepared.segment, found.item_idx):
            if prepared.request.explain and (forbidden := keep & ~mask).any():
                dropped[rule] = found.item_idx[forbidden]  # of an article that several forbid, the first is told
            keep &= mask
        told: dict[str, str | int | float] = {f"dropped.{rule}": len(rows) for rule, rows in dropped.items()}
        trace.append({"stage": "filters", "kept": int(keep.sum()), "dropped": int((~keep).sum()), **told})
        ids = self._catalog.items.article_ids
        named = [(rule, ids[row]) for rule, rows in dropped.items() for row in rows.tolist()]
        trace += [{"stage": "drop", "article_id": name, "rule": rule} for rule, name in named[:DROPS_TOLD]]
        return found.keep(keep)

    def items(
        self, prepared: Prepared, candidates: CandidateSet, scores: Floats, trace: Trace, *, fill: bool = True
    ) -> tuple[list[Item], Ints]:
        """The best of the candidates, all of which are allowed, and their places among them. With `fill` it is a list
        of recommendations: what is pinned stands first, and where there are not `k`, what is popular makes them up."""
        request, rows = prepared.request, candidates.item_idx
        boosts = self._book.boosts(request, rows)
        caps = self._book.caps(request)
        placed = scores if boosts is None else scores * boosts
        pins = self._book.pins(request) if fill else NONE
        pinned = _places(pins, rows) if len(pins) else pins
        ranked = order(placed, rows, len(rows))
        if len(pinned):
            ranked = np.concatenate([pinned, ranked[~np.isin(ranked, pinned)]])
        spread = None
        if request.diversity and len(rows):
            pool = ranked[: len(pinned) + POOL]
            # What is pinned or boosted must not change what the others are worth beside each other.
            scale = scores[ranked[len(pinned) :][:POOL]]
            spread = Spread(placed[pool], self._likeness.among(rows[pool]), request.diversity, scale)
        arranged = arrange(ranked, rows, request.k, pinned=len(pinned), caps=caps, spread=spread)
        best = arranged.places
        shown = [(int(rows[place]), float(scores[place]), candidates.found_by(place)) for place in best.tolist()]
        if len(pinned):
            marked = set(pinned.tolist())
            shown = [
                (row, score, _pin(source) if place in marked else source)
                for place, (row, score, source) in zip(best.tolist(), shown, strict=True)
            ]
        if arranged.capped or boosts is not None or spread is not None or len(pinned):
            trace.append(
                {
                    "stage": "reranking",
                    "pinned": len(pinned),
                    "boosted": 0 if boosts is None else int((boosts != 1).sum()),
                    "diversity": request.diversity,
                    **{f"dropped.{name}": count for name, count in arranged.capped.items()},
                }
            )
        if fill and len(shown) < request.k:
            floor = min((score for _, score, _ in shown), default=0.0)
            more = self._fill(prepared, rows[best], caps)
            shown += [(row, floor - n * 1e-6, source) for n, (row, source) in enumerate(more, start=1)]
        return self._shown(prepared, shown), best

    def _shown(self, prepared: Prepared, shown: Sequence[tuple[int, float, str]]) -> list[Item]:
        """Rows with score and source, as they are shown."""
        ids = self._catalog.items.article_ids
        reasons = self._reasons.of(prepared, [row for row, _, _ in shown], [source for _, _, source in shown])
        return [
            Item(
                article_id=ids[row],
                rank=rank,
                score=score,
                source=source,
                price=self._shelf.price(row),
                reason=reason,
            )
            for rank, ((row, score, source), reason) in enumerate(zip(shown, reasons, strict=True), start=1)
        ]

    def _fill(self, prepared: Prepared, chosen: Ints, caps: Sequence[Cap]) -> list[tuple[int, str]]:
        """Rows that every rule allows beside those chosen, to make up `k`, and where they were found."""
        query = prepared.query
        missing = prepared.request.k - len(chosen)
        (popular, _), *_ = self._catalog.strategies["popular"].retrieve([query], FILL_DEPTH)
        rows = self._capped(prepared, popular, chosen, missing, caps)
        found = [(row, "popular") for row in rows.tolist()]
        if len(rows) < missing:
            # The list of the popular is bounded; under a narrow rule the rest of the catalogue has to do.
            rest = self._rest(query.segment, popular)
            standing = np.concatenate([chosen, rows])
            rows = self._capped(prepared, rest, standing, missing - len(rows), caps)
            found += [(row, CATALOGUE) for row in rows.tolist()]
        return found

    def _rest(self, segment: int, popular: Ints) -> Ints:
        """All rows but the popular ones of a segment, in the order of its taste; sorted when first needed."""
        rest = self._rests.get(segment)
        if rest is None:
            order = np.argsort(-self._catalog.statistics.segment_share[segment], kind="stable")
            rest = self._rests[segment] = self._others(order, popular)
        return rest

    def _others(self, rows: Ints, than: Ints) -> Ints:
        """Those of `rows` that are not among `than`."""
        others = np.ones(len(self._catalog.items), np.bool_)
        others[than] = False
        return rows[others[rows]]

    def _capped(self, prepared: Prepared, rows: Ints, standing: Ints, most: int, caps: Sequence[Cap]) -> Ints:
        """The first of `rows` that every rule allows beside those that stand already."""
        rows = self._others(rows, standing)
        rows = rows[self.keeps(prepared, rows)]
        ranked = np.arange(len(rows))
        boosts = self._book.boosts(prepared.request, rows)
        if boosts is not None:
            ranked = np.argsort(-boosts / (1.0 + ranked), kind="stable")
        return rows[arrange(ranked, rows, most, caps=caps, standing=standing).places]

    def keeps(self, prepared: Prepared, rows: Ints) -> Mask:
        """bool[len(rows)]: True where every rule lets a row pass."""
        return self._book.allowed(prepared.request, prepared.query.history, prepared.segment, rows)


def _places(wanted: Ints, rows: Ints) -> Ints:
    """Where those of `wanted` that are among `rows` stand there, in the order wanted."""
    place = {row: n for n, row in enumerate(rows.tolist())}
    return np.array([place[row] for row in wanted.tolist() if row in place], np.int64)


def _pin(source: str) -> str:
    return f"{PIN}+{source}" if source else PIN
