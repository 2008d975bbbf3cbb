"""Logging on stderr, one line a record, and the names of the metrics.

A metric is created by the module that counts, through `counter`, `gauge` or `histogram`; asking twice for one
name gives the same metric. `METRICS` lists what exists, for the `/metrics` page and its documentation.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from infra.errors import ConfigurationError
from infra.settings import mask_secrets

NAMESPACE = "modiste"
# Seconds: from a cached answer to one far beyond its deadline.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

METRICS: dict[str, MetricWrapperBase] = {}

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_lock = threading.Lock()
_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


class LineFormatter(logging.Formatter):
    """`2026-11-21T05:12:00.123Z INFO infra.registry message`; line ends become `\\n`, secrets `***`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{self.formatStack(record.stack_info)}"
        line = mask_secrets(text).replace("\r", "\\r").replace("\n", "\\n")
        return f"{stamp} {record.levelname} {record.name} {line}"


class _OurHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Marks the handler as ours, so that configuring twice does not print twice."""


# They tell at INFO, as they are imported, what nobody who runs a command asks: which instructions they were built for.
TALKATIVE = ("faiss.loader",)


def configure_logging(level: str) -> None:
    """Send records of `level` and above to stderr; call it in the command. stdout stays for results.

    Raises:
        ConfigurationError: `level` is no logging level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigurationError(f"log.level = {level!r}; allowed: DEBUG, INFO, WARNING, ERROR")
    handler = _OurHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    for old in [held for held in root.handlers if isinstance(held, _OurHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(number if number < logging.INFO else max(number, logging.WARNING))


def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    """`modiste_<name>_total`, which only grows."""
    return _metric(Counter, name, lambda full: Counter(full, text, labels))


def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
    """`modiste_<name>`, a value that goes up and down."""
    return _metric(Gauge, name, lambda full: Gauge(full, text, labels))


def histogram(
    name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = LATENCY_BUCKETS
) -> Histogram:
    """`modiste_<name>`, a distribution; times are in seconds and their names end in `_seconds`."""
    return _metric(Histogram, name, lambda full: Histogram(full, text, labels, buckets=tuple(buckets)))


def metrics_page() -> tuple[bytes, str]:
    """The page a Prometheus server scrapes, and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST


def _metric(kind: type[_Metric], name: str, create: Callable[[str], _Metric]) -> _Metric:
    if not _NAME.fullmatch(name) or name.startswith(NAMESPACE):
        raise ConfigurationError(f"metric name {name!r}; use a-z, 0-9 and '_', without the prefix {NAMESPACE}_")
    with _lock:
        held = METRICS.get(name)
        if held is None:
            held = METRICS[name] = create(f"{NAMESPACE}_{name}")
    if not isinstance(held, kind):
        raise ConfigurationError(f"metric {name!r} is a {type(held).__name__}; asked for as {kind.__name__}")
    return held
