"""The history of a wallet: its top-ups, why nothing happened when nothing did, and who changed the rule (R6, R13)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from fastapi import Request
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from adapters.postgres.deliveries import Channel
from adapters.postgres.history import TopUpRecord, Which, list_top_ups
from adapters.postgres.wallet_history import (
    ChangeMade,
    ChangePlace,
    DecisionMade,
    list_changes_made,
    list_decisions_made,
)
from adapters.postgres.wallets import read_wallet
from console.page import render
from console.routes import pages
from console.texts import mark
from console.visitors import OwnerVisitor, owner_of
from console.wiring import DatabaseDep
from topup.changes import Difference, differences, read_agreement
from topup.confirming import shown_hash
from topup.outcome import DrawResult, DrawStatus, Ending
from topup.steps import Told, ToldState, told_line
from topup.trigger import Change
from topup.words import Notice, decision_words, draw_lines, shortfall_words, top_up_line, why

PAGE_SIZE = 20
_CHANNELS = list(Channel)
_AFTER_MAX = 100
_SEQ_DIGITS_MAX = 18

router = pages()
_Item = TypeVar("_Item")


class Show(StrEnum):
    """What of the history is shown."""

    TOP_UPS = "top-ups"
    DECISIONS = "decisions"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One page of the history, and where the next, older one begins."""

    items: Sequence[Any]
    older: str | None


@dataclass(frozen=True, slots=True)
class TopUpItem:
    """A top-up in the list, with its words."""

    record: TopUpRecord
    line: str
    why: str | None
    missing: str | None
    draws: Sequence[str]
    told: Sequence[str]
    being_checked: bool


@dataclass(frozen=True, slots=True)
class DecisionItem:
    """A decision in the list, with its words."""

    made: DecisionMade
    title: str
    why: str


@dataclass(frozen=True, slots=True)
class ChangeItem:
    """A change of the rule in the list, with its words."""

    made: ChangeMade
    title: str
    differences: Sequence[Difference]
    switched: str | None
    confirmed: str | None
    """The beginning of what the passkey signed; None where no passkey was asked for."""


@router.get("/wallets/{wallet_id}/history")
async def get_history(
    request: Request,
    wallet_id: str,
    visitor: OwnerVisitor,
    database: DatabaseDep,
    show: str = Show.TOP_UPS,
    after: str = "",
) -> Response:
    """Twenty at a time, newest first; whatever an address asks for that is unknown is answered with the newest."""
    shown = Show(show) if show in tuple(Show) else Show.TOP_UPS
    place = after if len(after) <= _AFTER_MAX and after.isascii() and after.isprintable() else ""
    async with database.read() as session:
        wallet = await read_wallet(session, wallet_id, bound_to=owner_of(visitor))
        leaf = await _LEAVES[shown](session, wallet_id, place)
    return render(request, "history.html", wallet=wallet, shown=shown, leaf=leaf, turned=bool(place))


async def _top_ups(session: AsyncSession, wallet_id: str, after: str) -> Leaf:
    which = Which(bound_to=None, wallet_id=wallet_id, after=after or None)
    found = await list_top_ups(session, which, most=PAGE_SIZE + 1)
    return _leaf(found, view=_top_up_item, place=lambda record: record.id)


async def _decisions(session: AsyncSession, wallet_id: str, after: str) -> Leaf:
    seq = int(after) if after.isdecimal() and len(after) <= _SEQ_DIGITS_MAX else None
    found = await list_decisions_made(session, wallet_id, after=seq, most=PAGE_SIZE + 1)
    return _leaf(found, view=_decision_item, place=lambda made: str(made.seq))


async def _changes(session: AsyncSession, wallet_id: str, after: str) -> Leaf:
    rule_id, _, version = after.rpartition(".")
    known = rule_id and version.isdecimal() and len(version) <= _SEQ_DIGITS_MAX
    place = ChangePlace(rule_id, int(version)) if known else None
    found = await list_changes_made(session, wallet_id, after=place, most=PAGE_SIZE + 1)
    return _leaf(found, view=_change_item, place=lambda made: f"{made.rule_id}.{made.version}")


_LEAVES = {Show.TOP_UPS: _top_ups, Show.DECISIONS: _decisions, Show.CHANGES: _changes}


def _leaf(found: Sequence[_Item], *, view: Callable[[_Item], object], place: Callable[[_Item], str]) -> Leaf:
    """One more than a page was looked for, to know whether there is an older one."""
    shown = found[:PAGE_SIZE]
    older = place(shown[-1]) if len(found) > PAGE_SIZE else None
    return Leaf([view(item) for item in shown], older)


def _top_up_item(record: TopUpRecord) -> TopUpItem:
    ended = record.outcome and record.reason and Ending(record.outcome, record.reason, record.credited)
    missing = shortfall_words(ended, record.draws, amount=record.amount) if ended else None
    return TopUpItem(
        record=record,
        line=top_up_line(record.outcome, amount=record.amount, credited=record.credited),
        why=why(record.reason) if record.reason else None,
        missing=missing,
        draws=draw_lines(_worth_telling(record)),
        told=_told(record),
        being_checked=any(draw.status is DrawStatus.BEING_CHECKED for draw in record.draws),
    )


def _worth_telling(record: TopUpRecord) -> Sequence[DrawResult]:
    """While it runs, what is known already; what no source was asked for is told once it has ended."""
    return [draw for draw in record.draws if record.outcome or draw.status is not DrawStatus.NOT_REACHED]


def _told(record: TopUpRecord) -> Sequence[str]:
    notice = Notice.ENDED if record.outcome else Notice.BEING_CHECKED
    told = sorted(record.notifications, key=lambda one: _CHANNELS.index(Channel(one[0])))
    return [told_line(Told(notice, channel, ToldState(status), attempts=0)) for channel, status in told]


def _decision_item(made: DecisionMade) -> DecisionItem:
    return DecisionItem(
        made,
        _CHANGES[made.change] if made.change else mark("The balance changed"),
        decision_words(made.reason),
    )


def _change_item(made: ChangeMade) -> ChangeItem:
    before = read_agreement(made.terms_before) if made.terms_before else None
    snapshot = made.proof.get("snapshot") if made.proof else None
    deleted = made.change == "deleted"
    return ChangeItem(
        made=made,
        title=_REVISIONS[made.change],
        differences=() if deleted else differences(before, read_agreement(made.terms)),
        switched=_switched(made),
        confirmed=shown_hash(snapshot) if snapshot else None,
    )


def _switched(made: ChangeMade) -> str | None:
    if made.enabled_before is None:
        return mark("It is on.") if made.enabled else mark("It is off.")
    return None


_CHANGES = {
    Change.SPENT: mark("You spent"),
    Change.ADDED: mark("Money came in"),
    Change.TOPPED_UP: mark("A top-up arrived"),
    Change.SAVED: mark("You saved the rule"),
    Change.RELEASED: mark("A top-up ended"),
}
_REVISIONS = {
    "created": mark("The rule was made"),
    "edited": mark("The rule was saved"),
    "enabled": mark("The rule was turned on"),
    "disabled": mark("The rule was turned off"),
    "deleted": mark("The rule was deleted"),
}
