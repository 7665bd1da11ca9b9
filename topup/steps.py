"""A top-up told step by step, as far as it has come: why it fired, the check, each draw, how it ended, who was told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from topup.money import Money
from topup.outcome import DrawResult, DrawStatus, Ending, Outcome
from topup.rule import AccountKind
from topup.waterfall import Plan, PlannedDraw, Shortfall
from topup.words import Notice, draw_sentence, headline, shortfall_words, why


class StepKind(StrEnum):
    """The steps of a top-up, in their order."""

    FIRED = "fired"
    CHECK = "check"
    DRAW = "draw"
    SETTLED = "settled"
    TOLD = "told"


class StepState(StrEnum):
    """How far a step is."""

    DONE = "done"
    NOW = "now"
    AHEAD = "ahead"
    BEING_CHECKED = "being_checked"
    """Nobody knows yet whether its money moved (R21)."""
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"


class ToldState(StrEnum):
    """What has become of one notification."""

    PENDING = "pending"
    SENT = "sent"
    UNDELIVERABLE = "undeliverable"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the check found: the wallet's balance, and a plan or a shortfall; None where the balance had recovered."""

    balance: Money
    found: Plan | Shortfall | None


@dataclass(frozen=True, slots=True)
class Told:
    """One notification on one channel."""

    notice: Notice
    channel: str
    state: ToldState
    attempts: int


@dataclass(frozen=True, slots=True)
class Story:
    """A top-up with all that is known of it by now; without an ending it is in progress."""

    amount: Money
    threshold: Money
    account: AccountKind
    trigger_balance: Money
    seen: Seen | None
    draws: tuple[DrawResult, ...]
    """Of each source, in rank order."""
    ending: Ending | None
    told: tuple[Told, ...]
    started_at: datetime
    ended_at: datetime | None

    @property
    def over(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.ending is not None and all(told.state is not ToldState.PENDING for told in self.told)

    @property
    def being_checked(self) -> bool:
        """Whether there is a draw of which nobody knows yet what became of it (R21)."""
        return self.ending is None and any(draw.status is DrawStatus.BEING_CHECKED for draw in self.draws)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is, how far it is, and what there is to say about it."""

    kind: StepKind
    state: StepState
    title: str
    lines: tuple[str, ...]
    at: datetime | None = None


def tell_steps(story: Story) -> tuple[Step, ...]:
    """All steps of a top-up in their order, those ahead of it too."""
    return (_fired(story), _check(story), *_draws(story), _settled(story), _told(story))


def _fired(story: Story) -> Step:
    line = (
        f"The balance was {story.trigger_balance}, below the threshold of {story.threshold}, and the rule was armed: "
        f"it started a top-up of {story.amount} from the {story.account} account."
    )
    return Step(StepKind.FIRED, StepState.DONE, "The rule fired", (line,), story.started_at)


def _check(story: Story) -> Step:
    state, line = _check_words(story)
    return Step(StepKind.CHECK, state, "Wallet and sources are looked at", (line,))


def _check_words(story: Story) -> tuple[StepState, str]:
    match story.seen:
        case Seen(found=Plan() as plan):
            shares = ", ".join(f"{draw.credit} from {draw.asset}" for draw in plan.draws if draw.credit)
            return StepState.DONE, f"The sources cover the amount: {shares}."
        case Seen(found=Shortfall(available=available, missing=missing)):
            words = f"The sources are worth {available} together, {missing} too little. Nothing was moved."
            return StepState.FAILED, words
        case Seen(balance=balance):
            return StepState.DONE, f"The balance was {balance} by then, no longer below the threshold."
        case None if story.ending is None and not _any_drawn(story):
            return StepState.NOW, "Nothing has been moved yet."
        case None if _any_drawn(story):
            return StepState.DONE, "The sources covered the amount."
        case None:
            return StepState.FAILED, "This did not come to an end, so nothing was moved."


def _any_drawn(story: Story) -> bool:
    return any(draw.status is not DrawStatus.NOT_REACHED for draw in story.draws)


def _draws(story: Story) -> tuple[Step, ...]:
    under_way = _under_way(story)
    return tuple(_draw(story, draw, under_way=draw.rank == under_way) for draw in story.draws)


def _under_way(story: Story) -> int | None:
    """The rank of the source that is being asked: the first that has a share, behind all that have answered."""
    if story.ending is not None or story.being_checked:
        return None
    answered = [draw.rank for draw in story.draws if draw.status is not DrawStatus.NOT_REACHED]
    behind = max(answered, default=0)
    return next((draw.rank for draw in _shares(story.seen) if draw.rank > behind and draw.credit), None)


def _shares(seen: Seen | None) -> tuple[PlannedDraw, ...]:
    return seen.found.draws if seen is not None and isinstance(seen.found, Plan) else ()


def _draw(story: Story, draw: DrawResult, *, under_way: bool) -> Step:
    title = f"{draw.rank}. {draw.asset}"
    if draw.status is DrawStatus.NOT_REACHED and story.ending is None:
        planned = next((share.credit for share in _shares(story.seen) if share.rank == draw.rank), None)
        state = StepState.NOW if under_way else StepState.AHEAD
        return Step(StepKind.DRAW, state, title, _asked(planned, under_way=under_way))
    return Step(StepKind.DRAW, _DRAWN[draw.status], title, (draw_sentence(draw),))


def _asked(planned: Money | None, *, under_way: bool) -> tuple[str, ...]:
    """What a source of a top-up in progress is asked for that has not answered; the check may not have said."""
    if planned is None:
        return ()
    if not planned:
        return ("Is asked only if a source before it turns out to hold less.",)
    return (f"Is being asked for {planned}.",) if under_way else (f"Its share is {planned}.",)


def _settled(story: Story) -> Step:
    if story.ending is None:
        line = "The results are written down, and the rule is unlocked."
        return Step(StepKind.SETTLED, StepState.AHEAD, "The end", (line,))
    title, lines = headline(story.ending, story.amount), _ending_lines(story, story.ending)
    return Step(StepKind.SETTLED, _ENDED[story.ending.outcome], title, lines, story.ended_at)


def _ending_lines(story: Story, ending: Ending) -> tuple[str, ...]:
    missing = shortfall_words(ending, story.draws, amount=story.amount)
    return (why(ending.reason), missing) if missing else (why(ending.reason),)


def _told(story: Story) -> Step:
    if story.ending is not None and story.ending.outcome is Outcome.NOT_NEEDED:
        line = "Nobody is told of a top-up that was not needed."
        return Step(StepKind.TOLD, StepState.SKIPPED, _TOLD, (line,))
    lines = tuple(told_line(told) for told in story.told)
    if story.ending is None:
        return Step(StepKind.TOLD, StepState.AHEAD, _TOLD, (*lines, "As soon as it has ended."))
    return Step(StepKind.TOLD, _told_state(story.told), _TOLD, lines)


def told_line(told: Told) -> str:
    """What became of one notification: "By email: sent."."""
    said = ", that it was being checked" if told.notice is Notice.BEING_CHECKED else ""
    return f"By {told.channel}{said}: {_told_words(told)}."


def _told_words(told: Told) -> str:
    match told.state:
        case ToldState.SENT:
            return "sent"
        case ToldState.PENDING if told.attempts:
            return "not delivered yet; it is tried again by itself"
        case ToldState.PENDING:
            return "on its way"
        case ToldState.UNDELIVERABLE if told.notice is Notice.BEING_CHECKED:
            return "not sent, as the top-up ended first or it could not be delivered"
        case ToldState.UNDELIVERABLE:
            return "could not be delivered"


def _told_state(all_told: Sequence[Told]) -> StepState:
    ended = [told.state for told in all_told if told.notice is Notice.ENDED]
    if ToldState.PENDING in ended:
        return StepState.NOW
    return StepState.FAILED if ToldState.UNDELIVERABLE in ended else StepState.DONE


_TOLD = "You are told"
_ENDED = {
    Outcome.COMPLETED: StepState.DONE,
    Outcome.PARTIAL: StepState.PARTIAL,
    Outcome.FAILED: StepState.FAILED,
    Outcome.NOT_NEEDED: StepState.DONE,
}
_DRAWN = {
    DrawStatus.TRANSFERRED: StepState.DONE,
    DrawStatus.SHORT: StepState.PARTIAL,
    DrawStatus.FAILED: StepState.FAILED,
    DrawStatus.CONFIRMED_NOT_MOVED: StepState.FAILED,
    DrawStatus.BEING_CHECKED: StepState.BEING_CHECKED,
    DrawStatus.NOT_REACHED: StepState.SKIPPED,
}
