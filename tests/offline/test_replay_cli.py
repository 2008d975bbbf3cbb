"""`modiste replay`: what it refuses, before any broker is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.errors import ConfigurationError
from infra.settings import KafkaSettings
from offline.event_log import import_data, log_directory
from offline.replay_cli import parse_speed, replay
from offline.topic_replay import topic_spec
from tests.support.tiny import write_tiny_shop


@pytest.mark.parametrize(("text", "speed"), [("60x", 60.0), ("0.5x", 0.5), ("max", None)])
def test_speed(text: str, speed: float | None) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["60", "0x", "-1x", "fast", "x", ""])
def test_no_speed(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write a number above 0 and x, such as 60x, or max"):
        parse_speed(text)


def test_a_topic_of_other_messages_is_refused() -> None:
    kafka = KafkaSettings(partitions=5)
    assert topic_spec(kafka, "elsewhere").partitions == 5
    assert topic_spec(kafka, "transactions").configs == topic_spec(kafka, "elsewhere").configs
    with pytest.raises(ConfigurationError, match="topic articles is not for events"):
        topic_spec(kafka, "articles")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--topic", "a b"], "--topic 'a b': up to 249 letters, digits, dots, underscores and hyphens"),
        (["--from", "2031-01-01"], "no events between 2031-01-01 00:00:00+00:00 and None: hm runs from 2020-06-01"),
        (["--to", "soon"], "'soon' is not a date"),
        ([], "kafka.url is embedded://, a broker that runs only inside"),
    ],
)
def test_wrong_use_is_told(options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODISTE_DATA_DIR", str(tmp_path / "data"))
    files = write_tiny_shop(tmp_path / "hm")
    result = CliRunner().invoke(replay, ["--data", "hm", "--path", str(files), *options])
    assert isinstance(result.exception, ConfigurationError)
    assert said in str(result.exception)


def test_rows_are_those_of_scan(tmp_path: Path) -> None:
    log = import_data("hm", write_tiny_shop(tmp_path / "hm"), log_directory(tmp_path, "hm"))
    moments = [None, *(datetime(2020, 6, day, hour, tzinfo=UTC) for day in (1, 2, 9) for hour in (0, 12))]
    for start in moments:
        for until in moments:
            assert log.rows(start, until) == sum(batch.num_rows for batch in log.scan(start, until))
    assert log.rows() == log.manifest.counts["events"]
