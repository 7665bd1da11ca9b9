"""The crash matrix: every step of a top-up, every program, every manner of failing, before, during and after."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Self


class Struck(StrEnum):
    """What is struck."""

    WORKER = "worker"
    WATCHER = "watcher"
    API = "api"
    TEMPORAL = "temporal"
    POSTGRES = "postgres"


class Manner(StrEnum):
    """How it is struck."""

    KILL = "kill"
    """SIGKILL."""
    TERM = "term"
    """SIGTERM."""
    STOP = "stop"
    """Ten seconds of SIGSTOP."""
    CUT = "cut"
    """All its connections reset."""


class Moment(StrEnum):
    """Where a top-up stands in a step when that happens."""

    BEFORE = "before"
    DURING = "during"
    """Sent, and not committed; or taken by the other side, and its answer not heard."""
    AFTER = "after"
    """Committed, and the answer not given back."""


STEPS = (
    "payment",
    "claim",
    "start-workflow",
    "hold",
    "check",
    "draw-1",
    "draw-2",
    "draw-3",
    "look-up",
    "settle",
    "notify-email",
    "notify-push",
    "record-sent",
)
SHORT_STEPS = ("hold", "look-up", "settle")
"""Steps whose caller waits ten seconds for them, whatever the settings say: nobody stands there for long."""
_OWN = {Struck.WATCHER: {"claim", "start-workflow"}, Struck.API: {"payment"}}
"""The few steps that these programs take themselves; all others are the worker's."""
_SHARES = 3
"""How many batches share the long steps: few top-ups stand at a time, so that many are struck each by a strike."""
_DEALS = 50
_ALONE = ({"draw-2", "draw-3"}, {"claim"}, {"start-workflow"})
"""In each of these groups one stand keeps the others away: a batch has at most one of them (draws: in the middle)."""


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One top-up that stands at one point when one program is struck."""

    struck: Struck
    manner: Manner
    step: str
    moment: Moment

    def __str__(self) -> str:
        """Its name, by which it can be played again."""
        return f"{self.struck}.{self.manner}.{self.step}.{self.moment}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; raises ValueError."""
        struck, manner, step, moment = text.split(".")
        if step not in STEPS:
            message = f"there is no step {step}; there are {', '.join(STEPS)}"
            raise ValueError(message)
        return cls(Struck(struck), Manner(manner), step, Moment(moment))


@dataclass(frozen=True, slots=True)
class Batch:
    """Cases that share one strike: each another top-up, standing at another point."""

    struck: Struck
    manner: Manner
    cases: tuple[Case, ...]


def whole_matrix() -> tuple[Batch, ...]:
    """Every cell once: each step at another moment in each of three batches, those of short steps by themselves."""
    long_steps = tuple(step for step in STEPS if step not in SHORT_STEPS)
    shares = [long_steps[first::_SHARES] for first in range(_SHARES)]
    return tuple(
        Batch(struck, manner, _turned(struck, manner, steps, turn))
        for struck, manner, turn, steps in product(Struck, Manner, range(len(Moment)), (*shares, SHORT_STEPS))
    )


def _turned(struck: Struck, manner: Manner, steps: Sequence[str], turn: int) -> tuple[Case, ...]:
    moments = list(Moment)
    return tuple(
        Case(struck, manner, step, moments[(place + turn) % len(moments)]) for place, step in enumerate(steps)
    )


def long_run(strikes: int, *, seed: int) -> tuple[Batch, ...]:
    """The whole matrix, shuffled, and again as often as it takes to have so many strikes."""
    dice = random.Random(seed)
    batches: list[Batch] = []
    while len(batches) < strikes:
        again = list(whole_matrix())
        dice.shuffle(again)
        batches += again
    return tuple(batches[:strikes])


def sample(*, seed: int) -> tuple[Batch, ...]:
    """One case for each program, manner and moment; the seed says at which steps, the program's own ones among them."""
    dice, used = random.Random(seed), Counter[str]()
    batches = []
    for struck, manner in product(Struck, Manner):
        deals = [_deal(struck, manner, dice) for _ in range(_DEALS)]
        cases = min(deals, key=lambda dealt: sum(used[case.step] for case in dealt))
        used.update(case.step for case in cases)
        batches.append(Batch(struck, manner, cases))
    return tuple(batches)


def alone(case: Case) -> Batch:
    """A batch of one."""
    return Batch(case.struck, case.manner, (case,))


def _deal(struck: Struck, manner: Manner, dice: random.Random) -> tuple[Case, ...]:
    while True:
        steps = dice.sample(STEPS, len(Moment))
        cases = tuple(Case(struck, manner, step, moment) for step, moment in zip(steps, Moment, strict=True))
        if _are_own(struck, set(steps)) and fit_together(cases):
            return cases


def _are_own(struck: Struck, steps: set[str]) -> bool:
    """Whether the program that is struck takes some of the steps itself, as far as it takes any."""
    if struck is Struck.WORKER:
        return not steps & {step for own in _OWN.values() for step in own}
    return _OWN.get(struck, set()) <= steps


def fit_together(cases: Iterable[Case]) -> bool:
    """Whether all can stand at their points at one time."""
    found = list(cases)
    for group in _ALONE:
        standing = [case for case in found if case.step in group]
        if group == {"draw-2", "draw-3"}:
            standing = [case for case in standing if case.moment is Moment.DURING]
        if len(standing) > 1:
            return False
    return True


def in_order(cases: Sequence[Case]) -> tuple[tuple[Case, ...], ...]:
    """Which cases are brought to their points together, and which after them.

    Who may not stand for long comes late, who keeps others away later: a draw of another asset holds the house's
    accounts, a start the hand-over, a claim the judging, a payment its asset.
    """
    turns = sorted({_turn(case) for case in cases})
    return tuple(tuple(case for case in cases if _turn(case) == turn) for turn in turns)


def _turn(case: Case) -> int:
    if case.step in {"draw-2", "draw-3"}:
        return 2 if case.moment is Moment.DURING else 0
    if case.step == "payment":
        return 5 if case.moment is Moment.DURING else 2
    return {"settle": 1, "look-up": 1, "hold": 2, "start-workflow": 3, "claim": 4}.get(case.step, 0)
