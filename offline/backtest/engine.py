"""The backtest itself: fold, build, answer, seal; step by step in order of time.

At each step the runner has folded what happened strictly before the cut, and answers from a bundle of what was known
strictly before it. The step's answers are sealed in the ledger before its events are folded. Which customers come is
taken from the step (or, `everyone`, from all before it); what they buy is read by the judge alone, from sealed steps.
While a step answers, the next one's bundle is built beside it, in a thread that hands nothing to the answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from infra.bundle import Bundle
from infra.errors import BundleError, GateError
from offline.backtest.ledger import Ledger, StepNote, predictions
from offline.backtest.plan import BUILT, BacktestPlan, Contender, Step
from offline.backtest.reveal import buyers
from offline.backtest.runner import Runner
from offline.event_log import EventLog
from offline.progress import step as progress_of
from offline.report import peak_memory_mb
from offline.run import say
from serving.messages import RecommendationRequest, Recommendations
from streams.state import Outcome

CHUNK = 128  # customers asked at a time


class Builder(Protocol):
    """Gives the bundle that answers at a step; `BundleBuilder` here, `BuilderProcess` beside."""

    def bundle(self, step: Step) -> Bundle: ...


# Told of every step once it is sealed, in a thread, with the bundles that answered by contender: who wants to ask more
# does so here. It is told again of the step that was sealed last when a backtest goes on: a kill may have come first.
Afterwards = Callable[[Step, Mapping[str, Bundle]], None]


@dataclass
class _Timed:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._started, 3)
        self._started = now


class Backtest:
    """One plan over one log, through one runner.

    Args:
        builder: gives the bundles of contenders that are BUILT.
        given: bundle id -> bundle, of the others.

    Raises:
        BundleError: a given bundle has seen what it would be asked to predict.
    """

    def __init__(
        self, log: EventLog, plan: BacktestPlan, ledger: Ledger, builder: Builder, given: Mapping[str, Bundle]
    ) -> None:
        self._log = log
        self._plan = plan
        self._ledger = ledger
        self._builder = builder
        self._given = given
        self._built: tuple[int, Bundle] | None = None
        self._ahead: tuple[int, asyncio.Task[Bundle]] | None = None
        self._known: set[str] = set()
        self._known_through: datetime | None = None
        for contender in plan.contenders:
            if contender.bundle != BUILT:
                _check_given(given[contender.bundle], plan)

    async def run(self, open_runner: Callable[[], Awaitable[Runner]], afterwards: Afterwards | None = None) -> None:
        """Seal every step that is not sealed yet. A runner is opened only if there is one.

        Raises:
            GateError: an answer was refused or is less than it should be.
        """
        missing = [step for step in self._plan.steps if not self._ledger.is_sealed(step.number)]
        sealed = [step for step in self._plan.steps if step not in missing]
        if sealed and afterwards is not None:
            await asyncio.to_thread(afterwards, sealed[-1], await self._bundles(sealed[-1]))
        if not missing:
            return
        runner = await open_runner()
        try:
            folded: datetime | None = None
            for step in missing:
                if step.number and folded != self._plan.steps[step.number - 1].cut:
                    folded = await self._catch_up(runner, folded, step)
                await self._step(runner, step)
                folded = step.cut
                if afterwards is not None:
                    await asyncio.to_thread(afterwards, step, await self._bundles(step))
        finally:
            if self._ahead is not None:
                self._ahead[1].cancel()
            await runner.close()

    async def _catch_up(self, runner: Runner, folded: datetime | None, step: Step) -> datetime:
        """Fold what a step that is sealed already has folded."""
        until = self._plan.steps[step.number - 1].cut
        say(f"going on at step {step.number}: folding again what was known on {until.date()}")
        await runner.fold(self._log, folded, until)
        return until

    async def _step(self, runner: Runner, step: Step) -> None:
        timed = _Timed()
        start = self._plan.steps[step.number - 1].cut if step.number else None
        outcomes = await runner.fold(self._log, start, step.cut)
        timed.lap("fold")
        bundles = await self._bundles(step)
        await self._build_ahead(step)
        timed.lap("build")
        customers = self._customers(step)
        parts: list[pa.Table] = []
        with progress_of(f"step {step.number}", len(customers) * len(self._plan.contenders)) as progress:
            for bundle_id in dict.fromkeys(bundle.bundle_id for bundle in bundles.values()):
                asked = [c for c in self._plan.contenders if bundles[c.name].bundle_id == bundle_id]
                await runner.take(bundles[asked[0].name])
                async for part in self._answers(runner, step, asked, customers):
                    parts.append(predictions(part))  # columns at once: as objects they would fill the memory
                    progress.advance(len(part))
        timed.lap("answer")
        self._ledger.seal_parts(self._note(step, bundles, outcomes, len(customers), timed.seconds), parts)

    async def _bundles(self, step: Step) -> dict[str, Bundle]:
        """By contender's name."""
        built = None
        if self._builds:
            if self._built is None or self._built[0] != step.built:
                ahead, self._ahead = self._ahead, None
                known = ahead is not None and ahead[0] == step.built
                self._built = step.built, await (ahead[1] if ahead and known else self._build(step))
            built = self._built[1]
        return {c.name: built if c.bundle == BUILT and built else self._given[c.bundle] for c in self._plan.contenders}

    @property
    def _builds(self) -> bool:
        return any(contender.bundle == BUILT for contender in self._plan.contenders)

    async def _build_ahead(self, step: Step) -> None:
        """Begin with the bundle of the next step, where it has one of its own."""
        if self._builds and step.number + 1 < len(self._plan.steps):
            later = self._plan.steps[step.number + 1]
            if later.built == later.number:
                self._ahead = later.built, asyncio.create_task(self._build(later))
                await asyncio.sleep(0)  # it begins now: answering in this process lets go of the loop only at its end

    async def _build(self, step: Step) -> Bundle:
        return await asyncio.to_thread(self._builder.bundle, step)

    def _customers(self, step: Step) -> list[str]:
        if not self._plan.everyone:
            return buyers(self._log, step)
        for batch in self._log.scan(self._known_through, step.cut):
            self._known.update(pc.unique(batch.column("customer_id")).to_pylist())
        self._known_through = step.cut
        return sorted(self._known)

    async def _answers(
        self, runner: Runner, step: Step, asked: Sequence[Contender], customers: Sequence[str]
    ) -> AsyncIterator[list[tuple[str, Recommendations]]]:
        """Of contenders with one bundle, for CHUNK customers at a time."""
        for first in range(0, len(customers), CHUNK):
            pairs = [(contender, customer) for contender in asked for customer in customers[first : first + CHUNK]]
            requests = [_request(step, contender, customer, self._plan.k) for contender, customer in pairs]
            found = await runner.answer(requests, step.cut)
            for (contender, _), answer in zip(pairs, found, strict=True):
                _check_answer(contender, answer)
            yield [(contender.name, answer) for (contender, _), answer in zip(pairs, found, strict=True)]

    def _note(
        self,
        step: Step,
        bundles: Mapping[str, Bundle],
        outcomes: Mapping[Outcome, int],
        customers: int,
        seconds: dict[str, float],
    ) -> StepNote:
        return StepNote(
            number=step.number,
            cut=step.cut,
            until=step.until,
            bundle_ids={name: bundle.bundle_id for name, bundle in bundles.items()},
            trained_through={name: bundle.manifest.trained_through for name, bundle in bundles.items()},
            learned=step.learned == step.number,
            built=step.built == step.number,
            events=sum(outcomes.values()),
            outcomes={outcome.value: n for outcome, n in sorted(outcomes.items())},
            customers=customers,
            seconds=seconds,
            peak_mb=peak_memory_mb(),
        )


def _request(step: Step, contender: Contender, customer: str, k: int) -> RecommendationRequest:
    # Named by its place in the plan, the same in every run of it; hashed, since the parts may be long.
    place = f"{step.number}/{contender.name}/{customer}"
    name = hashlib.blake2b(place.encode(), digest_size=16).hexdigest()
    return RecommendationRequest(request_id=name, customer_id=customer, k=k, strategy=contender.strategy)


def _check_answer(contender: Contender, answer: Recommendations) -> None:
    if answer.error is not None:
        raise GateError(f"{contender.name} did not answer for {answer.customer_id}: {answer.error.message}")
    if answer.degraded:
        raise GateError(f"{contender.name} is not itself for {answer.customer_id}: {', '.join(answer.degraded)}")


def _check_given(bundle: Bundle, plan: BacktestPlan) -> None:
    through = bundle.manifest.trained_through
    if through > plan.start:
        raise BundleError(
            f"bundle {bundle.bundle_id} has seen what happened until {through.isoformat()}, and would be asked to "
            f"predict from {plan.start.isoformat()} on; begin with --from {through.isoformat()} or later"
        )
