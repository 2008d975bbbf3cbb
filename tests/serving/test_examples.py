"""The examples that people copy: every command of them works, every message in them can be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import serving
from serving.messages import parse_request
from streams.events import parse_event
from tests.support.http_shop import HttpShop
from tests.support.tiny_fixture import Tiny

EXAMPLES = Path(serving.__file__).parent / "examples"

# Notes what is sent to which topic; whoever reads gets the answer to what was asked.
KCAT = """#!/bin/sh
case "$*" in
  *" -C "*)
    echo '{"request_id":"another"}'
    sed -E 's/.*"request_id": "([^"]+)".*/{"request_id":"\\1","items":[]}/' requests ;;
  *transactions*) cat > transactions ;;
  *recommendation-requests*) cat > requests ;;
esac
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_curl_are_all_answered(tiny: Tiny) -> None:
    shop = HttpShop.of(tiny.runtime)
    with shop.serving() as url:
        environment = {**os.environ, "MODISTE_URL": url, "CUSTOMER": "anna"}
        done = subprocess.run(
            ["bash", EXAMPLES / "http.sh"], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert len(answers) == 10
    leading = answers[3]["answer"]["items"][0]["article_id"]
    assert answers[4]["article_id"] == answers[5]["article_id"] == leading
    assert [row["article_id"] for row in shop.link.on("transactions")] == [leading]


def test_the_messages_of_kcat_are_messages(tmp_path: Path) -> None:
    program = tmp_path / "kcat"
    program.write_text(KCAT)
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CUSTOMER": "anna"}
    done = subprocess.run(
        ["bash", EXAMPLES / "kafka.sh"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    key, _, message = (tmp_path / "transactions").read_bytes().partition(b"\t")
    assert (key, parse_event(message).customer_id) == (b"anna", "anna")
    key, _, message = (tmp_path / "requests").read_bytes().partition(b"\t")
    request = parse_request(message)
    assert (key, request.customer_id, request.k) == (b"anna", "anna", 5)
    assert json.loads(done.stdout) == {"request_id": request.request_id, "items": []}
