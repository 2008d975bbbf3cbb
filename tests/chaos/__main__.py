"""`python -m tests.chaos`: break things at random points, then compare with the log; exit code 1 on a difference."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from infra.apache_kafka import available
from tests.chaos.faults import FAULTS
from tests.chaos.report import as_json, as_text
from tests.chaos.run import Outcome, Plan, run
from tests.support.tiny import build_tiny_bundle

# Beyond the minutes asked for: starting, the last recovery, settling, reading.
MARGIN_S = 480.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of traffic and faults")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults are done")
    parser.add_argument("--kafka", choices=("apache", "tansu"), help="apache where Java is there, else tansu")
    parser.add_argument("--fault", action="append", choices=tuple(FAULTS), help="only this one; may be repeated")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--registry", help="URL of a registry with the tiny shop's bundle; trained when left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    kafka = given.kafka or ("tansu" if available() else "apache")
    plan = Plan(given.seed, kafka, given.minutes, faults=given.fault or tuple(FAULTS), workers=given.workers)
    directory = Path(tempfile.mkdtemp(prefix="modiste-chaos-"))
    try:
        outcome = asyncio.run(_bounded(plan, directory, given.registry))
    except BaseException:
        print(f"the run did not come to its end; its files are in {directory}", file=sys.stderr)
        raise
    print(json.dumps(as_json(outcome)) if given.json else as_text(outcome))
    if outcome.ok:
        shutil.rmtree(directory)
    else:
        print(f"logs and data are in {directory}", file=sys.stderr)
    return 0 if outcome.ok else 1


async def _bounded(plan: Plan, directory: Path, registry_url: str | None) -> Outcome:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if registry_url is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about exporting
            await asyncio.to_thread(build_tiny_bundle, directory / "shop")
        registry_url = f"file://{directory / 'shop' / 'registry'}"
    async with asyncio.timeout(plan.minutes * 60 + MARGIN_S):
        return await run(plan, directory, registry_url)


if __name__ == "__main__":
    sys.exit(main())
