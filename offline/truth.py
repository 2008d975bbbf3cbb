"""What was bought after the cut, laid out so that lists of all customers are checked at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.metrics import Hits, Ints


@dataclass(frozen=True, eq=False)
class Truth:
    """customers: sorted ids · keys: int64[p] sorted, customer's row * n_items + item_idx of every distinct purchase."""

    customers: list[str]
    n_items: int
    keys: Ints

    @classmethod
    def of(cls, bought: Mapping[str, Mapping[int, float]], n_items: int) -> Truth:
        """From customer_id -> item_idx -> amount; customers who bought nothing are left out."""
        customers = sorted(customer for customer, items in bought.items() if items)
        keys = [row * n_items + item for row, customer in enumerate(customers) for item in bought[customer]]
        return cls(customers, n_items, np.sort(np.array(keys, np.int64)))

    def __len__(self) -> int:
        return len(self.customers)

    @property
    def rows(self) -> Ints:
        """Customer of each purchase, int64[p]."""
        return self.keys // self.n_items

    @property
    def relevant(self) -> Ints:
        """Distinct articles each customer bought, int64[n]."""
        return np.bincount(self.rows, minlength=len(self.customers))

    def hits(self, shown: Ints) -> Hits:
        """bool[n, k]: whether shown[n, k] (item_idx, -1 for an empty place) was bought by customer n."""
        wanted = np.arange(len(shown))[:, None] * self.n_items + shown
        return self._has(wanted) & (shown >= 0)

    def bought(self, row: int, items: Ints) -> npt.NDArray[np.bool_]:
        """bool[c]: which of `items` customer `row` bought."""
        return self._has(row * self.n_items + items)

    def of_articles(self, mask: npt.NDArray[np.bool_]) -> tuple[Truth, Ints]:
        """The purchases of the articles in `mask`, bool[n_items], alone: the customers that have any, and their rows
        in this truth, int64[m]."""
        return self.of_purchases(mask[self.keys % self.n_items])

    def of_purchases(self, keep: npt.NDArray[np.bool_]) -> tuple[Truth, Ints]:
        """The same for some of the purchases, bool[p]."""
        rows, place = np.unique(self.rows[keep], return_inverse=True)
        keys = place * self.n_items + self.keys[keep] % self.n_items
        return Truth([self.customers[row] for row in rows.tolist()], self.n_items, keys), rows

    def _has(self, wanted: Ints) -> npt.NDArray[np.bool_]:
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.asarray(self.keys[place] == wanted) if len(self.keys) else np.zeros(wanted.shape, np.bool_)
