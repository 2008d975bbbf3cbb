"""How well one two-tower, trained on several shops, serves customers, articles and a whole shop it never saw.

The catalogue is a merged one (`--data hm+retailrocket+complete-journey`). The shop named by `--to` gives nothing to the
training, not even negatives; of the other shops a share of the customers and a share of the articles (all colour
variants of a product together) are held out in the same way. Then everybody's history before the cut is encoded and
the whole of a shop's catalogue is ranked for what came after it. Two towers are trained: one reads all that an article
has, the other its content vector alone, which is all that two shops surely have in common.

Each shop is cut at its own last days. Every kind of event counts as interest: a shop that only logs views has no
purchases to learn from. The peers rank by chance, by how often the shop's articles were met in the last 7 days before
the cut (held-out customers and articles counted), and by the cosine to the mean of the customer's content vectors,
which needs no training.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from infra.errors import ConfigurationError
from offline.histories import item_column
from offline.models.two_tower import TwoTower
from offline.sources.merged import SEPARATOR
from offline.train_retrieval import (
    ItemInputs,
    TowerConfig,
    item_inputs,
    item_vectors,
    new_two_tower,
    train_two_tower,
)
from offline.window import choose_window
from serving.items import ItemTable
from streams.events import PURCHASE, from_micros, to_micros
from streams.histories import Histories

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]

HELD_OUT = 0.2
_IDS = "item_encoder.ids.weight"


@dataclass(frozen=True, eq=False)
class TransferData:
    """A merged catalogue. Times are microseconds from each shop's own cut, so that 0 is everybody's.

    items, content: n articles and float32[n, dc] · shop_of_item, shop_of_customer: int64, rows of `shops` ·
    horizon: days to predict, by shop · new_item, new_customer: held out, or of the shop `to` ·
    item_of_event: int64, rows of `items`.
    """

    shops: tuple[str, ...]
    to: str
    items: ItemTable
    content: _Floats
    histories: Histories
    shop_of_item: _Ints
    shop_of_customer: _Ints
    horizon: tuple[int, ...]
    new_item: _Mask
    new_customer: _Mask
    item_of_event: _Ints


def transfer_data(
    items: ItemTable, products: list[str], content: _Floats, histories: Histories, to: str, seed: int
) -> TransferData:
    """Align the shops' times and decide who and what is held out.

    Args:
        products: n product codes; articles of one are held out together.
        histories: events of all shops up to the end of their logs, ids as `source:id`.

    Raises:
        ConfigurationError: `to` is no shop of the catalogue, or the only one.
    """
    shops = tuple(dict.fromkeys(_shop(name) for name in items.article_ids))
    if to not in shops or len(shops) < 2:
        raise ConfigurationError(
            f"--to {to}: name one of the merged shops, which are {', '.join(shops)}; the others are trained on"
        )
    rows = {shop: row for row, shop in enumerate(shops)}
    of_item = np.array([rows[_shop(name)] for name in items.article_ids], np.int64)
    of_customer = np.array([rows[_shop(name)] for name in histories.customers], np.int64)
    times, horizon = _aligned(histories, of_customer, len(shops))
    return TransferData(
        shops,
        to,
        items,
        content,
        replace(histories, occurred_at=times, types=np.full(len(histories), PURCHASE, np.uint8)),
        of_item,
        of_customer,
        horizon,
        (of_item == rows[to]) | _drawn(products, f"article {seed}"),
        (of_customer == rows[to]) | _drawn(histories.customers, f"customer {seed}"),
        item_column(histories, items),
    )


def _shop(name: str) -> str:
    return name.partition(SEPARATOR)[0]


def _drawn(names: list[str], salt: str) -> _Mask:
    """A stable HELD_OUT share of the names."""
    digests = np.array([zlib.crc32(f"{salt} {name}".encode()) for name in names], np.float64)
    return np.asarray(digests < HELD_OUT * 2**32, np.bool_)


def _aligned(histories: Histories, of_customer: _Ints, shops: int) -> tuple[_Ints, tuple[int, ...]]:
    shop = of_customer[histories.customer_rows]
    times, horizon = histories.occurred_at.copy(), []
    for row in range(shops):
        mine = histories.occurred_at[shop == row]
        window = choose_window((from_micros(int(mine.min())), from_micros(int(mine.max()))), None)
        times[shop == row] -= to_micros(window.cut)
        horizon.append(window.horizon)
    return times, tuple(horizon)


def train_on_known(
    data: TransferData, config: TowerConfig, seed: int, *, content_only: bool
) -> tuple[TwoTower, _Floats]:
    """Train on what the known customers did with the known articles; the network, and vectors of all articles.

    Held-out articles are no negatives either: the network that learns has only the known ones. Its weights then move
    into one for the whole catalogue, where the id part of the others is zero.
    """
    everything = item_inputs(data.items, data.content)
    if content_only:
        nothing = torch.zeros_like
        everything = replace(everything, attributes=nothing(everything.attributes), words=nothing(everything.words))
        config = replace(config, id_dropout=1.0)  # no ids at all
    known = np.flatnonzero(~data.new_item)
    model = new_two_tower(_rows(everything, known), config, seed)
    train_two_tower(model, _rows(everything, known), _known(data), data.items.rows(known), 0, config, seed=seed)
    weights = model.state_dict()
    if _IDS in weights:
        ids = torch.zeros(len(data.items), weights[_IDS].shape[1])
        ids[torch.from_numpy(known)] = weights[_IDS]
        model = new_two_tower(everything, config, seed)
        model.load_state_dict({**weights, _IDS: ids})
    return model.eval(), item_vectors(model, everything)


def _rows(inputs: ItemInputs, rows: _Ints) -> ItemInputs:
    at = torch.from_numpy(rows)
    content = None if inputs.content is None else inputs.content[at]
    return replace(inputs, attributes=inputs.attributes[at], words=inputs.words[at], content=content)


def _known(data: TransferData) -> Histories:
    """The events of known customers with known articles before the cut; the other customers have none."""
    histories = data.histories
    customer = histories.customer_rows
    use = ~data.new_customer[customer] & ~data.new_item[data.item_of_event] & (histories.occurred_at < 0)
    counts = np.bincount(customer[use], minlength=len(histories.customers))
    columns = ("occurred_at", "keys", "types", "prices", "quantities", "articles")
    parts = {name: getattr(histories, name)[use] for name in columns}
    return replace(histories, offsets=np.concatenate([[0], np.cumsum(counts)]), **parts)
