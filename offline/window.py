"""Where time is cut: what may be learned from, and which days are predicted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.errors import ConfigurationError

WEEK = 7


@dataclass(frozen=True)
class Window:
    """cut: end of what is known · horizon: days that are predicted. Both ends of the test window lie in the log."""

    cut: datetime
    horizon: int


def choose_window(span: tuple[datetime, datetime], until: datetime | None) -> Window:
    """The test window: the days after `until` where the log has them, else the last days before it.

    A log of a few days is cut after 5/7 of it, so that a single week can still be learned from and judged.

    Raises:
        ConfigurationError: nothing lies before the cut.
    """
    first = span[0].replace(hour=0, minute=0, second=0, microsecond=0)
    end = span[1].replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    horizon = min(WEEK, max(1, (end - first).days * 2 // 7))
    if until is not None and until < end:
        cut = until
        horizon = min(horizon, -((until - end) // timedelta(days=1)))
    else:
        cut = end - timedelta(days=horizon)
    if cut <= span[0]:
        raise ConfigurationError(
            f"{'a cut at' if until is None else '--until'} {cut.isoformat()} leaves no history: "
            f"the log runs from {span[0].isoformat()} to {span[1].isoformat()}"
        )
    return Window(cut, horizon)


def parse_day(text: str) -> datetime:
    """A date or an ISO time, in UTC where no offset is given.

    Raises:
        ConfigurationError: neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a date; write 2017-12-24 or 2017-12-24T18:00:00+00:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
