"""The event log as histories."""

from __future__ import annotations

from datetime import datetime

from offline.event_log import EventLog
from streams.histories import Histories, build_histories


def load_histories(log: EventLog, until: datetime | None = None) -> Histories:
    """Read the log's events strictly before `until`."""
    return build_histories([log.read(until=until)])
