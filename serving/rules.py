"""What no answer may break: the shop's own rules and those of the request, decided in one place for every path.

Both are the same kinds of rule and both are applied, so a request can only tighten what the shop has set: where both
limit, the narrower limit is left. Rules move or drop articles and never change what the ranker says of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from infra.errors import ConfigurationError
from infra.rule_settings import RulesSettings
from serving.filters import Mask, NamedMasks, blocked_masks, filter_masks
from serving.history import History
from serving.items import ATTRIBUTES, FIELDS, ItemTable
from serving.messages import Boost, Filters, RecommendationRequest, Rules
from serving.reranking import Cap
from serving.shelf import Shelf
from streams.distinct import among_ascending

Ints = npt.NDArray[np.int64]

BAND = re.compile(r"(\d{1,3})(?:-\d{1,3}|\+)")  # of ages, as segments are named
_YEARS = re.compile(r"\d{1,3}")


@dataclass(frozen=True, slots=True)
class AgeLimit:
    """Articles of which `field` is one of `values` are shown to customers known to be of at least `years`."""

    field: str
    values: tuple[str, ...]
    years: int


@dataclass(frozen=True, slots=True)
class ShopRules:
    """What holds for every answer, whatever is asked (settings, section `rules`)."""

    filters: Filters = field(default_factory=Filters)
    rules: Rules = field(default_factory=Rules)
    ages: tuple[AgeLimit, ...] = ()

    def named(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Every field and its values that some rule names."""
        yield from ((name, tuple(values)) for name, values in self.filters.attributes.items())
        yield from ((name, tuple(values)) for name, values in self.rules.blocked.items())
        yield from ((boost.field, tuple(boost.values)) for boost in self.rules.boosts)
        yield from ((limit.field, limit.values) for limit in self.ages)
        yield "article_id", tuple(self.rules.pins)

    def unknown(self, items: ItemTable) -> list[str]:
        """What the rules name and no article has, as `field 'value'`: likely misspelt, and without effect."""
        found = []
        for name, values in self.named():
            if name == "article_id":
                known = set(items.index)
            else:
                known = set(items.product_codes if name == "product_code" else items.labels[name])
            found += [f"{name} {value!r}" for value in values if value not in known]
        return list(dict.fromkeys(found))


NO_RULES = ShopRules()


def shop_rules(given: RulesSettings) -> ShopRules:
    """The shop's rules as the settings tell them.

    Raises:
        ConfigurationError: a rule names a field that articles do not have.
    """
    filters = Filters(
        exclude_bought=given.exclude_bought,
        attributes=given.only,
        min_price=given.min_price,
        max_price=given.max_price,
    )
    rules = Rules(
        max_per_brand=given.max_per_brand,
        max_per_product=given.max_per_product,
        blocked=given.blocked,
        boosts=[Boost(field=boost.field, values=boost.values, factor=boost.factor) for boost in given.boosts],
        pins=given.pins,
    )
    for name, fields, known in (
        ("only", given.only, ATTRIBUTES),
        ("blocked", given.blocked, FIELDS),
        ("minimum_age", [limit.field for limit in given.minimum_age], FIELDS),
        ("boosts", [boost.field for boost in given.boosts], FIELDS),
    ):
        unknown = [field for field in fields if field not in known]
        if unknown:
            raise ConfigurationError(
                f"rules.{name} names {', '.join(map(repr, unknown))}; it can name {', '.join(known)}"
            )
    ages = tuple(AgeLimit(limit.field, tuple(limit.values), limit.years) for limit in given.minimum_age)
    return ShopRules(filters, rules, ages)


def age_of(request: RecommendationRequest, segment: str | None) -> int | None:
    """The customer's age in years, as little as it may be: of what the request says and the least of an age band
    (`25-34`, `65+`) that the customer belongs to, the smaller, so that a request makes nobody older; None where neither
    tells."""
    said, band = _YEARS.fullmatch(request.context.get("age", "")), BAND.fullmatch(segment or "")
    ages = [*([int(said[0])] if said else []), *([int(band[1])] if band else [])]
    return min(ages, default=None)


class RuleBook:
    """The rules over one catalogue at one moment. What does not depend on who asks is worked out when it is made.

    Args:
        shelf: what can be had now, and for how much.
    """

    def __init__(self, items: ItemTable, shelf: Shelf, shop: ShopRules = NO_RULES) -> None:
        rows = np.arange(len(items))
        self._items = items
        self._shelf = shelf
        self._shop = shop
        self._always: list[tuple[str, Mask]] = [
            ("out_of_stock", shelf.available),
            *((f"shop.{name}", mask) for name, mask in filter_masks(shop.filters, items, shelf, rows)),
            *((f"shop.{name}", mask) for name, mask in blocked_masks(shop.rules, items, rows)),
        ]
        self._boosts = _factors(shop.rules.boosts, items, rows) if shop.rules.boosts else None
        self._years = _years(shop.ages, items, rows) if shop.ages else None

    def masks(self, request: RecommendationRequest, history: History, segment: str | None, rows: Ints) -> NamedMasks:
        """Every rule in force by name, with bool[len(rows)]: True where it lets a row pass. A rule of the shop that
        does not look at who asks is named `shop.` and as it would be in a request."""
        for name, mask in self._always:
            yield name, mask[rows]
        if self._years is not None:
            yield "minimum_age", self._years[rows] <= (age_of(request, segment) or 0)
        if self.excludes_bought(request):
            yield "bought", ~self._bought(history, rows)
        if request.exclude:
            yield "exclude", ~self._items.having("article_id", request.exclude, rows)
        yield from filter_masks(request.filters, self._items, self._shelf, rows)
        yield from blocked_masks(request.rules, self._items, rows)

    def allowed(self, request: RecommendationRequest, history: History, segment: str | None, rows: Ints) -> Mask:
        """bool[len(rows)]: True where every rule lets a row pass."""
        keep = np.ones(len(rows), np.bool_)
        for _, mask in self.masks(request, history, segment, rows):
            keep &= mask
        return keep

    def _bought(self, history: History, rows: Ints) -> Mask:
        found = among_ascending(rows, history.items)
        if len(history.earlier):
            found |= among_ascending(self._items.keys[rows], history.earlier)
        return found

    def excludes_bought(self, request: RecommendationRequest) -> bool:
        return self._shop.filters.exclude_bought or request.filters.exclude_bought

    def pins(self, request: RecommendationRequest) -> Ints:
        """Rows of pinned articles that the catalogue knows, the shop's before the request's; allowed or not."""
        named = dict.fromkeys([*self._shop.rules.pins, *request.rules.pins])
        return np.array([self._items.index[name] for name in named if name in self._items.index], np.int64)

    def boosts(self, request: RecommendationRequest, rows: Ints) -> npt.NDArray[np.float64] | None:
        """float64[len(rows)]: what scores are multiplied by; None where no boost is in force."""
        if self._boosts is None and not request.rules.boosts:
            return None
        factors = np.ones(len(rows)) if self._boosts is None else self._boosts[rows]
        return factors * _factors(request.rules.boosts, self._items, rows)

    def caps(self, request: RecommendationRequest) -> list[Cap]:
        """How many of one group a list may hold; of two caps the smaller."""
        found = []
        for name, groups in (("max_per_brand", self._items.codes["brand"]), ("max_per_product", self._items.products)):
            limits = [n for rules in (self._shop.rules, request.rules) if (n := getattr(rules, name)) is not None]
            if limits:
                found.append(Cap(name, groups, min(limits)))
        return found


def _years(ages: Sequence[AgeLimit], items: ItemTable, rows: Ints) -> Ints:
    """Age from which each article may be shown, int64[len(rows)]."""
    years = np.zeros(len(rows), np.int64)
    for limit in ages:
        limited = items.having(limit.field, limit.values, rows)
        years[limited] = np.maximum(years[limited], limit.years)
    return years


def _factors(boosts: Sequence[Boost], items: ItemTable, rows: Ints) -> npt.NDArray[np.float64]:
    factors = np.ones(len(rows))
    for boost in boosts:
        factors[items.having(boost.field, boost.values, rows)] *= boost.factor
    return factors
