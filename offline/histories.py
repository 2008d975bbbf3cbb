"""The event log as histories, and histories in terms of a catalogue."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt

from offline.event_log import EventLog
from serving.items import ItemTable
from streams.histories import Histories, build_histories


def load_histories(log: EventLog, until: datetime | None = None) -> Histories:
    """Read the log's events strictly before `until`."""
    return build_histories([log.read(until=until)])


def item_column(histories: Histories, items: ItemTable) -> npt.NDArray[np.int64]:
    """item_idx of every event of the histories, -1 for an article that is not among the items; int64[n]."""
    place = np.array([items.index.get(article, -1) for article in histories.article_ids.tolist()], np.int64)
    return place[histories.articles] if len(place) else np.empty(0, np.int64)
