"""What the process that answers holds of a bundle; `serving.live` makes it and swaps it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from serving.pipeline import Pipeline
from serving.runtime import Runtime
from serving.search import Searcher
from serving.shelf import Shelf


@dataclass(frozen=True)
class Loaded:
    """All that one bundle gives, as one reference: whoever reads it once sees one bundle throughout."""

    bundle_id: str
    runtime: Runtime
    pipeline: Pipeline
    shelf: Shelf | None = None

    @cached_property
    def searcher(self) -> Searcher:
        """Searches what this answers from, at the prices of now."""
        return Searcher(self.runtime, self.pipeline)

    def describe(self, article_id: str) -> dict[str, str | float | None]:
        """What a page shows of an article, at its price of now; an unknown one has only its id."""
        items = self.runtime.items
        described = items.describe(article_id)
        row = items.index.get(article_id)
        if row is None or self.shelf is None:
            return described
        price = self.shelf.price(row)
        return described | {"price": None if price is None else round(price, 2)}
