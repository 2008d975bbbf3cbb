"""Why an article is shown, in a sentence for the customer. Each says what can be looked up in the customer's own
history and in the catalogue, so that it is true; what is not known for sure is not said.

A sentence speaks of this customer's own acts or of what many buy, and never of another customer: articles that few
have bought are called neither popular nor fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from serving.prepared import Prepared
from serving.retrieval.candidates import Ints
from serving.rhythm import NEVER
from serving.rules import BAND
from serving.runtime import Catalog
from serving.wording import DID, ago, every, name_of
from streams.encoder import MICROS_A_DAY
from streams.events import CART, PURCHASE, VIEW, from_micros

PIN = "pin"
MANY = 10  # buyers in 91 days, below whom an article is nobody's business but theirs
ALIKE = 0.6  # cosine of content from which an article is said to be like another
NEW_DAYS = 14.0  # since an article was first sold, within which it is called new
LONG_DAYS = 60.0  # of sales that a bundle must know: at the beginning of a log everything is sold for the first time
FIRST = 60  # places of the list of what sells that are called popular
FRESH_DAYS = 1.0  # age of a bundle whose last seven days are still this week
LATELY_DAYS = 35.0  # age of a bundle, or of an act, that is still lately

TASTE = frozenset({"two_tower", "collab", "content", "hybrid"})


class Reasons:
    """Tells reasons over one catalogue. cut: what it learned from ended here, microseconds."""

    def __init__(self, catalog: Catalog, cut: int) -> None:
        self._catalog = catalog
        self._cut = cut
        first = catalog.statistics.first_sold
        self._long = bool((first[first < NEVER] >= LONG_DAYS).any())

    def of(self, prepared: Prepared, rows: Sequence[int], sources: Sequence[str]) -> list[str | None]:
        """A reason for each of `rows`, which were found by `sources` (best first, joined by '+'); None where there is
        none to tell."""
        teller = _Teller(self._catalog, prepared, rows, self._cut, self._long)
        return [teller.tell(row, source.split("+")) for row, source in zip(rows, sources, strict=True)]


class _Teller:
    """Of one answer. What several articles ask for is looked up once, when the first one does."""

    def __init__(self, catalog: Catalog, prepared: Prepared, rows: Sequence[int], cut: int, long: bool) -> None:
        self._catalog = catalog
        self._items = catalog.items
        self._statistics = catalog.statistics
        self._query = prepared.query
        self._history = prepared.query.history
        self._segment = prepared.segment
        self._now = from_micros(self._history.as_of)
        self._stale_days = max(0.0, (self._history.as_of - cut) / MICROS_A_DAY)
        self._long = long
        self._rows = np.array(rows, np.int64)
        self._place = {row: n for n, row in enumerate(rows)}
        self._by: dict[str, Callable[[int], str | None]] = {
            "covisitation": self._companion,
            "content": self._like,
            "collab": self._credited,
            "hybrid": self._credited,
            "popular": self._popular,
        }

    def tell(self, row: int, sources: Sequence[str]) -> str | None:
        if PIN in sources:
            return "Picked by the shop"
        told = None
        if not self._query.cold:
            told = self._bought(row) or self._seen(row) or self._version(row)
        for source in sources:
            if told is None and source in self._by:
                told = self._by[source](row)
        if told is None and TASTE & set(sources):
            told = self._like(row) or self._taste()
        return told

    def _bought(self, row: int) -> str | None:
        """Of the article itself, which may have been bought more often than is remembered."""
        times = [time for kind, time in self._acts.get(row, ()) if kind == PURCHASE]
        if not times:
            return None
        days = sorted({int(time // MICROS_A_DAY) for time in times})
        if len(days) > 1:
            gaps = sorted(later - earlier for earlier, later in pairwise(days))
            usual, half = sum(gaps) / len(gaps), len(gaps) // 2
            median = (gaps[half] + gaps[-half - 1]) / 2
            lasting = self._history.as_of // MICROS_A_DAY - days[-1] <= 2 * usual
            if len(gaps) > 1 and usual / 2 <= median <= usual * 2 and lasting:
                return f"You buy this {every(usual)}"
        last = ago(from_micros(max(times)), self._now)
        return f"You bought this again {last}" if len(days) > 1 else f"You bought this {last}"

    def _seen(self, row: int) -> str | None:
        acts = self._acts.get(row)
        if not acts:
            return None
        kind = next(kind for kind in (CART, VIEW) if any(done == kind for done, _ in acts))
        when = ago(from_micros(max(time for done, time in acts if done == kind)), self._now)
        return f"You {DID[kind].format('this')} {when}"

    def _version(self, row: int) -> str | None:
        product = self._items.products[row]
        if product < 0:
            return None
        acts = self._history.acts
        others = acts[self._items.products[acts] == product]
        did = self._did(int(others[-1])) if len(others) else None
        if did is None:
            return None
        colours = {self._items.label("colour", r) for r in (row, int(others[-1]))}
        other = "colour" if len(colours) == 2 and None not in colours else "version"
        return f"Another {other} of {did}"

    def _companion(self, row: int) -> str | None:
        """Bought together by so many that it says nothing of one of them."""
        other = int(self._companions[self._place[row]])
        buyers = self._statistics.buyers_91d
        if other < 0 or min(buyers[row], buyers[other]) < MANY:
            return None
        did = self._did(other)
        return did and f"Goes with {did}"

    def _credited(self, row: int) -> str | None:
        """The act that the collaborative score owes most to."""
        other = int(self._credit[self._place[row]])
        if other < 0:
            return None
        kind, name = self._kind(other), name_of(self._items, other)
        return name and f"Because you {DID[kind].format(name)} {self._when(kind, other)}"

    def _like(self, row: int) -> str | None:
        other = int(self._nearest[self._place[row]])
        did = self._did(other) if other >= 0 else None
        if self._is_new(row):
            return f"New, and like {did}" if did else "New in the shop"
        return did and f"Like {did}"

    def _popular(self, row: int) -> str | None:
        s, segment = self._statistics, self._query.segment
        if s.buyers_91d[row] < MANY or not (s.top[segment, :FIRST] == row).any():
            return None
        when = ""
        if self._stale_days <= FRESH_DAYS and s.sold_7d[row] >= MANY:
            when = " this week"
        elif self._stale_days <= LATELY_DAYS:
            when = " lately"
        peers = segment > 0 and bool(BAND.fullmatch(s.segments[segment])) and s.segment_buyers[segment, row] >= MANY
        if peers and s.segment_share[segment, row] > s.segment_share[0, row]:
            return f"Popular with customers your age{when}"
        return f"Popular{when}"

    def _taste(self) -> str | None:
        """What the embedding and the factors read: the newest of the acts."""
        history = self._history
        if not len(history.acts):
            return None
        verb = "bought" if (history.act_types == PURCHASE).any() else "looked at"
        lately = float(history.act_ages[-1]) <= LATELY_DAYS
        return f"Chosen from what you {verb} lately" if lately else f"Chosen from what you {verb} before"

    def _is_new(self, row: int) -> bool:
        """To the shop: the bundle does not know it, or knows it as sold for the first time just before its end."""
        if row >= self._catalog.bundled_items:
            return True
        return self._long and float(self._statistics.first_sold[row]) + self._stale_days <= NEW_DAYS

    def _did(self, row: int) -> str | None:
        """`Strap top, which you bought yesterday`; None for an article that has no name."""
        name, kind = name_of(self._items, row), self._kind(row)
        did = " ".join(DID[kind].format("").split())
        return name and f"{name}, which you {did} {self._when(kind, row)}"

    def _kind(self, row: int) -> int:
        """What says most of an article that was acted on."""
        kinds = set(self._history.act_types[self._history.acts == row].tolist())
        return next(kind for kind in (PURCHASE, CART, VIEW) if kind in kinds)

    def _when(self, kind: int, row: int) -> str:
        """When the customer did this to the article for the last time."""
        history = self._history
        age = history.act_ages[(history.acts == row) & (history.act_types == kind)].min()
        return ago(from_micros(int(_moments(history.as_of, age))), self._now)

    @cached_property
    def _acts(self) -> dict[int, list[tuple[int, int]]]:
        """What was done to the articles shown and when: row -> type and microseconds."""
        history = self._history
        mine = np.isin(history.acts, self._rows)
        found: dict[int, list[tuple[int, int]]] = {}
        times = _moments(history.as_of, history.act_ages[mine])
        for row, kind, time in zip(
            history.acts[mine].tolist(), history.act_types[mine].tolist(), times.tolist(), strict=True
        ):
            found.setdefault(row, []).append((kind, time))
        return found

    @cached_property
    def _companions(self) -> Ints:
        """For each article the one acted on that it goes with most, int64[R], -1 where there is none."""
        return self._catalog.neighbours.strongest(self._history, self._rows)

    @cached_property
    def _credit(self) -> Ints:
        """For each article the one acted on that its collaborative score owes most to, int64[R], -1 for none."""
        return self._catalog.factors.credit(self._history, self._rows)

    @cached_property
    def _nearest(self) -> Ints:
        """For each article the one acted on whose content is most like its own, int64[R], -1 where none is alike."""
        acted, _ = self._history.acted
        if not len(acted):
            return np.full(len(self._rows), -1)
        content = self._catalog.content
        cosine = content[self._rows] @ content[acted].T
        best = np.argmax(cosine, axis=1)
        return np.where(cosine[np.arange(len(best)), best] >= ALIKE, acted[best], -1)


def _moments(as_of: int, ages: npt.NDArray[np.float64]) -> Ints:
    """Microseconds of what happened so many days before, to the millisecond: such an age has no more digits."""
    return np.asarray(np.rint((as_of - ages * MICROS_A_DAY) / 1_000) * 1_000, np.int64)
