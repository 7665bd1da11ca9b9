"""A rule: when a wallet counts as low, how much moves, and from which ranked sources (R1, R2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from topup.money import ASSET_SCALES, AmountUnreadable, Money

SOURCES_MAX = 3


class AccountKind(StrEnum):
    """The part of the owner's exchange account that all sources of one rule share."""

    FUNDING = "funding"
    TRADING = "trading"


class RuleState(StrEnum):
    """What a rule shows: `armed` is the only one that fires on the next drop (R26)."""

    ARMED = "armed"
    WAITING = "waiting"
    LOCKED = "locked"
    OFF = "off"


class WaitingFor(StrEnum):
    """What a waiting rule waits for; its owner saving it, with a wider cap where one is reached, ends the wait too."""

    BALANCE_AT_THRESHOLD = "balance_at_threshold"
    CAP_PERIOD_END = "cap_period_end"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one field; `field` is a path such as `sources/1`."""

    field: str
    message: str


class TermsInvalid(ValueError):
    """The terms break R1 or R2; `problems` names every field and what is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems, in the order of the form."""
        super().__init__("; ".join(f"{problem.field} {problem.message}" for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an owner agrees to. The order of `sources` (asset codes) is their rank, from 1."""

    threshold: Money
    amount: Money
    account: AccountKind
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse terms that R1 or R2 forbid. Raises TermsInvalid."""
        problems = [
            *_amount_problems("threshold", self.threshold),
            *_amount_problems("amount", self.amount),
            *_source_problems(self.sources),
        ]
        if self.threshold.asset != self.amount.asset:
            problems.append(Problem("amount", "must be in the wallet's currency, like the threshold"))
        if problems:
            raise TermsInvalid(problems)

    @property
    def currency(self) -> str:
        """The wallet's asset."""
        return self.amount.asset

    @property
    def ranked(self) -> tuple[tuple[int, str], ...]:
        """The sources with their ranks, in rank order."""
        return tuple(enumerate(self.sources, start=1))


def read_terms(*, currency: str, threshold: str, amount: str, account: str, sources: Sequence[str]) -> Terms:
    """Read terms from their texts. Raises TermsInvalid naming every field that is wrong, not only the first."""
    problems: list[Problem] = []
    line = _read_amount("threshold", threshold, currency, problems)
    moved = _read_amount("amount", amount, currency, problems)
    if account not in tuple(AccountKind):
        problems.append(Problem("account", 'must be "funding" or "trading"'))
    problems.extend(_source_problems(sources))
    if problems or line is None or moved is None:
        raise TermsInvalid(problems)
    return Terms(line, moved, AccountKind(account), tuple(sources))


def state_of(*, enabled: bool, armed: bool, locked: bool, capped: bool = False) -> RuleState:
    """The state a rule shows (R26). `capped`: one more top-up now would pass one of its caps."""
    if locked:
        return RuleState.LOCKED
    if not enabled:
        return RuleState.OFF
    return RuleState.ARMED if armed and not capped else RuleState.WAITING


def waiting_for(state: RuleState, *, armed: bool) -> WaitingFor | None:
    """What a rule in this state waits for, if it waits; an armed one can only wait for a cap (R26)."""
    if state is not RuleState.WAITING:
        return None
    return WaitingFor.CAP_PERIOD_END if armed else WaitingFor.BALANCE_AT_THRESHOLD


def _read_amount(field: str, text: str, currency: str, problems: list[Problem]) -> Money | None:
    try:
        money = Money.parse(text, currency)
    except AmountUnreadable as unreadable:
        problems.append(Problem(field, str(unreadable)))
        return None
    problems.extend(_amount_problems(field, money))
    return money


def _amount_problems(field: str, money: Money) -> list[Problem]:
    return [] if money else [Problem(field, "must be more than zero")]


def _source_problems(sources: Sequence[str]) -> list[Problem]:
    if not sources:
        return [Problem("sources", "must name at least one source")]
    if len(sources) > SOURCES_MAX:
        return [Problem("sources", f"must name at most {SOURCES_MAX} sources")]
    return [
        Problem(f"sources/{place}", message)
        for place, asset in enumerate(sources)
        if (message := _source_fault(asset, sources[:place]))
    ]


def _source_fault(asset: str, earlier: Sequence[str]) -> str | None:
    if asset not in ASSET_SCALES:
        return f"is not an asset known here; known are {', '.join(ASSET_SCALES)}"
    return "is named twice" if asset in earlier else None
