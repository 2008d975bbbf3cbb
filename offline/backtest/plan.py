"""What a backtest does: which steps, who answers in them, and what is learned and built when.

    start          + step         + 2 step               end
      |  step 0      |  step 1      |  ...                |
     cut 0          cut 1          cut 2
      answer, then   answer, then                          at each cut from what happened strictly before it
      look           look

A plan is a value: two that are equal do the same, and a ledger stands under the plan's key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property

from infra.errors import ConfigurationError
from offline.event_log import EventLog
from offline.run import RunConfig, code_hash
from serving.messages import MAX_K, STRATEGIES

BUILT = "built"
THROUGH = ("memory", "kafka")


@dataclass(frozen=True)
class Contender:
    """bundle: BUILT, which are those that the backtest itself builds as time goes on, or the id of a given one."""

    name: str
    strategy: str
    bundle: str = BUILT


@dataclass(frozen=True)
class Step:
    """What answers at `cut` is judged by what happens in [cut, until).

    learned: number of the step whose networks answer · built: of the step at whose cut index, counts, popularity and
    prices were made. Both are this step's own number, or an earlier one's.
    """

    number: int
    cut: datetime
    until: datetime
    learned: int
    built: int


@dataclass(frozen=True, kw_only=True)
class BacktestPlan:
    """retrain, rebuild: how old networks, and what is counted around them, become at most; None: as the first step had
    them · label_delay: how much later than an event those who learn hear of it · k: articles a list · short_last:
    whether a last step may be shorter than the others · everyone: ask every customer known at the cut, instead of
    those who buy in the step.

    Raises:
        ConfigurationError: no steps, a time without a zone, an unknown strategy, a name twice.
    """

    start: datetime
    end: datetime
    step: timedelta
    contenders: tuple[Contender, ...]
    config: RunConfig
    retrain: timedelta | None = timedelta(days=28)
    rebuild: timedelta | None = timedelta(days=7)
    label_delay: timedelta = timedelta(days=1)
    k: int = 100
    short_last: bool = False
    everyone: bool = False
    through: str = "memory"

    def __post_init__(self) -> None:
        for name, moment in (("--from", self.start), ("--to", self.end)):
            if moment.tzinfo is None:
                raise ConfigurationError(f"{name} {moment.isoformat()} has no time zone; give one, such as +00:00")
        if self.step <= timedelta(0):
            raise ConfigurationError(f"--step {self.step}: a step takes longer than nothing, such as 7d")
        if self.end - self.start < (timedelta(microseconds=1) if self.short_last else self.step):
            raise ConfigurationError(
                f"from {self.start.isoformat()} to {self.end.isoformat()} there is no step of {self.step}; "
                f"give an earlier --from, a later --to or a shorter --step"
            )
        if (self.end - self.start) % self.step and not self.short_last:
            whole = self.start + (self.end - self.start) // self.step * self.step
            raise ConfigurationError(
                f"from {self.start.isoformat()} to {self.end.isoformat()} is no whole number of steps of {self.step}; "
                f"give --to {whole.isoformat()}, or allow the last step to be shorter (--short-last)"
            )
        for name, given in (("--retrain", self.retrain), ("--rebuild", self.rebuild)):
            if given is not None and given <= timedelta(0):
                raise ConfigurationError(f"{name} {given}: give a duration, such as 7d, or never")
        if self.label_delay < timedelta(0):
            raise ConfigurationError(f"--label-delay {self.label_delay}: nothing is known before it happens")
        if not 1 <= self.k <= MAX_K:
            raise ConfigurationError(f"k is {self.k}; from 1 to {MAX_K} articles can be asked for")
        if self.through not in THROUGH:
            raise ConfigurationError(f"--through {self.through}: allowed are {', '.join(THROUGH)}")
        self._check_contenders()

    def _check_contenders(self) -> None:
        if not self.contenders:
            raise ConfigurationError("nobody to compare; name strategies with --strategy, such as full,popular")
        names = [contender.name for contender in self.contenders]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"{', '.join(twice)} stands twice among the contenders; name each once")
        for contender in self.contenders:
            if contender.strategy not in STRATEGIES:
                raise ConfigurationError(
                    f"strategy {contender.strategy!r} of {contender.name}; allowed: {', '.join(STRATEGIES)}"
                )

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""
        return self.config.seed

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Consecutive and in order of time; together they are [start, end)."""
        steps: list[Step] = []
        cut, learned, built = self.start, self.start, self.start
        while cut < self.end:
            number = len(steps)
            again = number == 0 or (self.retrain is not None and cut - learned >= self.retrain)
            anew = again or (self.rebuild is not None and cut - built >= self.rebuild)
            learned, built = (cut if again else learned), (cut if anew else built)
            before = steps[-1] if steps else None
            steps.append(
                Step(
                    number,
                    cut,
                    min(cut + self.step, self.end),
                    number if again or before is None else before.learned,
                    number if anew or before is None else before.built,
                )
            )
            cut += self.step
        return tuple(steps)

    def key(self, log: EventLog) -> str:
        """16 hex digits of what decides the answers: the log's values, the plan, the configuration and the code."""
        facts = [log.content_hash, asdict(self), code_hash()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def contenders_of(strategies: Sequence[str], bundles: Sequence[str]) -> tuple[Contender, ...]:
    """Every strategy from the bundles that are built on the way, and `full` from each given bundle."""
    built = [Contender(strategy, strategy) for strategy in strategies]
    return (*built, *(Contender(f"full of {bundle}", "full", bundle) for bundle in bundles))
