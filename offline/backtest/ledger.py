"""What was predicted, step by step, on disk before anyone looks at what was bought.

    <data_dir>/backtests/<plan's key>/plan.json         the plan, to be read by people
                                      step-0003.parquet PREDICTIONS, one row a (contender, customer)
                                      step-0003.json    StepNote; written last: with it the step is sealed

A backtest that was stopped goes on behind its last sealed step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import DataError
from offline.backtest.plan import BacktestPlan
from offline.event_log import EventLog
from serving.messages import Recommendations

# article_ids: best first · cold: nothing was known of the customer · as_of: of the newest event that the answer knows ·
# ms: what this answer took by itself, null where that was not measured.
PREDICTIONS = pa.schema(
    [
        ("contender", pa.string()),
        ("customer_id", pa.string()),
        ("article_ids", pa.list_(pa.string())),
        ("cold", pa.bool_()),
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("ms", pa.float32()),
    ]
)


class StepNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a step was. bundle_ids, trained_through: by contender · learned, built: whether networks were learned, and
    index and counts built, at this very cut · events: folded since the cut before (all of history at the first), by
    outcome · customers: who were asked · seconds: of fold, build and answer · peak_mb: of this process so far.
    """

    number: int
    cut: datetime
    until: datetime
    bundle_ids: dict[str, str]
    trained_through: dict[str, datetime]
    learned: bool
    built: bool
    events: int
    outcomes: dict[str, int]
    customers: int
    seconds: dict[str, float]
    peak_mb: float


class Ledger:
    """The steps of one plan over one log, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, data_dir: Path, plan: BacktestPlan, log: EventLog) -> Ledger:
        """The plan's own, which may hold steps already."""
        directory = data_dir / "backtests" / plan.key(log)
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(plan) | {"data": log.content_hash}, indent=2, default=str)
        _write(directory / "plan.json", text.encode())
        return cls(directory)

    @property
    def sealed(self) -> list[int]:
        """Numbers of the steps that are done, ascending."""
        return sorted(int(path.stem.removeprefix("step-")) for path in self.directory.glob("step-*.json"))

    def is_sealed(self, number: int) -> bool:
        return self._path(number, "json").is_file()

    def seal(self, note: StepNote, answers: Iterable[tuple[str, Recommendations]]) -> None:
        """Write a step's predictions, as (contender's name, answer), and then its note."""
        self.seal_parts(note, [predictions(answers)])

    def seal_parts(self, note: StepNote, parts: Sequence[pa.Table]) -> None:
        """The same for PREDICTIONS in parts."""
        path = self._path(note.number, "parquet")
        aside = path.with_name(f".{path.name}")
        pq.write_table(pa.concat_tables([PREDICTIONS.empty_table(), *parts]), aside, compression="zstd")
        aside.replace(path)
        _write(self._path(note.number, "json"), msgspec.json.format(msgspec.json.encode(note), indent=2))

    def note(self, number: int) -> StepNote:
        """What the step was.

        Raises:
            DataError: it is not sealed, or damaged.
        """
        path = self._path(number, "json")
        try:
            return msgspec.json.decode(path.read_bytes(), type=StepNote)
        except (OSError, msgspec.MsgspecError) as error:
            raise DataError(f"step {number} is not sealed: {error}", file=str(path)) from error

    def predictions(self, number: int) -> pa.Table:
        """PREDICTIONS of a sealed step.

        Raises:
            DataError: it is not sealed, or damaged.
        """
        self.note(number)
        path = self._path(number, "parquet")
        try:
            return pq.ParquetFile(path).read(use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"not a whole Parquet file: {error}; remove the ledger", file=str(path)) from error

    def _path(self, number: int, kind: str) -> Path:
        return self.directory / f"step-{number:04d}.{kind}"


def predictions(answers: Iterable[tuple[str, Recommendations]]) -> pa.Table:
    """PREDICTIONS of answers, each with its contender's name."""
    rows = [
        (
            contender,
            answer.customer_id,
            [item.article_id for item in answer.items],
            answer.cold_start,
            answer.as_of,
            answer.latency_ms or None,
        )
        for contender, answer in answers
    ]
    columns = zip(*rows, strict=True) if rows else ([] for _ in PREDICTIONS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PREDICTIONS, strict=True)]
    return pa.table(arrays, schema=PREDICTIONS)


def _write(path: Path, raw: bytes) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(raw)
    aside.replace(path)
