"""Rules as their owners write them: made, edited, turned on and off, deleted, each time under the rule's lock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.caps import cap_columns, caps_of, read_reached
from adapters.postgres.clock import read_clock
from adapters.postgres.database import run_sql
from adapters.postgres.events import EventKind, moment_text, write_event
from adapters.postgres.ids import new_id
from adapters.postgres.tables import Rule, RuleRevision, Wallet
from adapters.postgres.wallets import WalletName, hold_wallet, name_of
from topup.caps import CapReached, Caps, CapsGiven, read_terms_and_caps, write_caps
from topup.money import Money
from topup.rule import (
    AccountKind,
    RuleState,
    Terms,
    WaitingFor,
    state_of,
    waiting_for,
)
from topup.trigger import Change

_QUEUE_SAVED = text(
    "INSERT INTO balance_event (id, wallet_id, change, balance, version) "
    "SELECT :id, :wallet_id, :change, balance, version FROM hold_balance(:wallet_id)"
)
"""Nothing is judged where nobody knows the balance: a wallet kept elsewhere, before its first report."""


class RuleUnknown(LookupError):
    """There is no such rule, or none that the caller may know of."""


class RuleExists(Exception):
    """The wallet has a rule already (R1)."""

    def __init__(self, wallet_id: str, rule_id: str) -> None:
        """Name the rule there is."""
        super().__init__(f"{wallet_id} has the rule {rule_id} already: change that one, or delete it first.")
        self.rule_id = rule_id


class RuleLocked(Exception):
    """A top-up of the rule is in progress (R7)."""

    def __init__(self, top_up_id: str) -> None:
        """Name the top-up that holds the lock."""
        super().__init__(
            f"The top-up {top_up_id} is in progress, and its rule cannot be changed until it has ended. "
            "Then every change works again, at once."
        )
        self.top_up_id = top_up_id


class VersionStale(Exception):
    """The rule has changed since the caller read it."""

    def __init__(self, current: int) -> None:
        """Name the version there is."""
        super().__init__(
            f"The rule is at version {current} now: read it again, and send its ETag in If-Match."
        )


class RevisionKind(StrEnum):
    """What a change of a rule was."""

    CREATED = "created"
    EDITED = "edited"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class TermsDraft:
    """Terms as their owner wrote them, still to be read in the wallet's currency."""

    threshold: str
    amount: str
    account: str
    sources: Sequence[str]
    caps: CapsGiven | None = None


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes a rule: the name that goes into its history, and the only owner that exists for them."""

    name: str
    bound_to: str | None


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule as it stands."""

    id: str
    wallet_id: str
    owner_id: str
    terms: Terms
    caps: Caps | None
    cap: CapReached | None
    """The cap that one more top-up would pass now, if there is one."""
    enabled: bool
    armed: bool
    locked_by: str | None
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def state(self) -> RuleState:
        """What it shows (R26)."""
        locked, capped = self.locked_by is not None, self.cap is not None
        return state_of(enabled=self.enabled, armed=self.armed, locked=locked, capped=capped)

    @property
    def waiting_for(self) -> WaitingFor | None:
        """What it waits for, if it waits (R26)."""
        return waiting_for(self.state, armed=self.armed)


@dataclass(frozen=True, slots=True)
class WhichRules:
    """Which rules are asked for; None does not narrow."""

    bound_to: str | None
    owner_id: str | None = None
    wallet_id: str | None = None
    rule_id: str | None = None
    after: str | None = None
    """The rule behind which they begin."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A rule and its wallet, both locked for the caller's commit, and who changes them."""

    rule: Rule
    wallet: WalletName
    author: Author
    proof: Mapping[str, Any] | None = None
    """How the change was confirmed, where it was (R3)."""


async def create_rule(
    session: AsyncSession,
    *,
    wallet_id: str,
    draft: TermsDraft,
    enabled: bool,
    author: Author,
    proof: Mapping[str, Any] | None = None,
) -> RuleRecord:
    """Give the wallet its rule; a rule that is on is judged at once (R1, R11).

    Of two at the same time one gets RuleExists. Raises WalletUnknown and TermsInvalid too.
    """
    wallet = await hold_wallet(session, wallet_id, bound_to=author.bound_to)
    columns = _columns(*_read_draft(draft, wallet.currency))
    now = await read_clock(session)
    rule = Rule(
        id=new_id("rule"),
        wallet_id=wallet.id,
        **columns,
        enabled=enabled,
        armed=enabled,
        version=1,
        created_at=now,
        updated_at=now,
    )
    held = _Held(await _insert(session, rule), wallet, author, proof)
    return await _record_change(session, held, RevisionKind.CREATED)


async def edit_rule(
    session: AsyncSession,
    rule_id: str,
    changes: Mapping[str, Any],
    *,
    version: int,
    author: Author,
    proof: Mapping[str, Any] | None = None,
) -> RuleRecord:
    """Save the rule with some of its terms changed, or with none: it counts from the next decision (R4).

    `changes` are fields of TermsDraft. Saving a rule that is on arms it and has it judged at once, also when the
    terms stay as they were: that is how an owner asks for another attempt (R9, R11).
    Raises RuleUnknown, RuleLocked, VersionStale and TermsInvalid.
    """
    held = await _hold_rule(session, rule_id, version=version, author=author, proof=proof)
    draft = TermsDraft(**{**_draft_of(held), **changes})
    for name, value in _columns(*_read_draft(draft, held.wallet.currency)).items():
        setattr(held.rule, name, value)
    return await _save(session, held, RevisionKind.EDITED)


async def enable_rule(
    session: AsyncSession,
    rule_id: str,
    *,
    version: int,
    author: Author,
    proof: Mapping[str, Any] | None = None,
) -> RuleRecord:
    """Turn the rule on, which arms it and has it judged at once, also when it was on (R9, R11).

    Raises RuleUnknown, RuleLocked and VersionStale.
    """
    held = await _hold_rule(session, rule_id, version=version, author=author, proof=proof)
    held.rule.enabled = True
    return await _save(session, held, RevisionKind.ENABLED)


async def disable_rule(session: AsyncSession, rule_id: str, *, version: int, author: Author) -> RuleRecord:
    """Turn the rule off, keeping everything; one that is off already stays as it is (R5).

    Raises RuleUnknown, RuleLocked and VersionStale.
    """
    held = await _hold_rule(session, rule_id, version=version, author=author)
    if not held.rule.enabled:
        return await _as_it_stands(session, held)
    held.rule.enabled = False
    return await _save(session, held, RevisionKind.DISABLED)


async def delete_rule(session: AsyncSession, rule_id: str, *, version: int, author: Author) -> None:
    """Delete the rule for good; its top-ups, decisions and revisions stay readable by its id (R6).

    Raises RuleUnknown, RuleLocked and VersionStale.
    """
    held = await _hold_rule(session, rule_id, version=version, author=author)
    held.rule.version += 1
    held.rule.enabled = False
    await _record_change(session, held, RevisionKind.DELETED)
    await session.exec(delete(Rule).where(col(Rule.id) == rule_id))


async def read_rule(session: AsyncSession, rule_id: str, *, bound_to: str | None) -> RuleRecord:
    """The rule as it stands. Raises RuleUnknown."""
    found = await list_rules(session, WhichRules(bound_to=bound_to, rule_id=rule_id), most=1)
    if not found:
        raise _unknown(rule_id)
    return found[0]


async def find_rule(session: AsyncSession, wallet_id: str, *, bound_to: str | None) -> RuleRecord | None:
    """The wallet's rule as it stands; None where it has none."""
    found = await list_rules(session, WhichRules(bound_to=bound_to, wallet_id=wallet_id), most=1)
    return found[0] if found else None


async def list_rules(session: AsyncSession, which: WhichRules, *, most: int) -> tuple[RuleRecord, ...]:
    """Rules as they stand, newest first."""
    statement = select(Rule, Wallet).join(Wallet, col(Wallet.id) == col(Rule.wallet_id))
    wanted = (
        (col(Wallet.owner_id), which.bound_to),
        (col(Wallet.owner_id), which.owner_id),
        (col(Rule.wallet_id), which.wallet_id),
        (col(Rule.id), which.rule_id),
    )
    for column, value in wanted:
        if value is not None:
            statement = statement.where(column == value)
    if which.after is not None:
        statement = statement.where(col(Rule.id) < which.after)
    rows = (await session.exec(statement.order_by(col(Rule.id).desc()).limit(most))).all()
    ruled = [(rule, wallet.currency) for rule, wallet in rows]
    reached = await read_reached(session, ruled)
    return tuple(_record(rule, name_of(wallet), reached.get(wallet.id)) for rule, wallet in rows)


async def _hold_rule(
    session: AsyncSession,
    rule_id: str,
    *,
    version: int,
    author: Author,
    proof: Mapping[str, Any] | None = None,
) -> _Held:
    """Lock the wallet, then the rule; refuse a rule that is locked by a top-up, then one read too long ago."""
    wallet_id = (await session.exec(select(Rule.wallet_id).where(col(Rule.id) == rule_id))).first()
    if wallet_id is None:
        raise _unknown(rule_id)
    try:
        wallet = await hold_wallet(session, wallet_id, bound_to=author.bound_to)
    except LookupError:
        raise _unknown(rule_id) from None
    statement = select(Rule).where(col(Rule.id) == rule_id).with_for_update(key_share=True)
    rule = (await session.exec(statement)).first()
    if rule is None:
        raise _unknown(rule_id)
    if rule.locked_by is not None:
        raise RuleLocked(rule.locked_by)
    if rule.version != version:
        raise VersionStale(rule.version)
    return _Held(rule, wallet, author, proof)


async def _insert(session: AsyncSession, rule: Rule) -> Rule:
    """Insert the rule unless the wallet has one; the constraint decides. Raises RuleExists."""
    values = rule.model_dump(exclude={"locked_by", "spent_while_locked"})
    once = insert(Rule).values(values).on_conflict_do_nothing(constraint="rule_one_per_wallet")
    made = (await session.exec(once.returning(col(Rule.id)))).scalar_one_or_none()
    if made is None:
        first = (await session.exec(select(Rule.id).where(col(Rule.wallet_id) == rule.wallet_id))).one()
        raise RuleExists(rule.wallet_id, first)
    return rule


async def _save(session: AsyncSession, held: _Held, kind: RevisionKind) -> RuleRecord:
    """Make it the next version; a rule that is on is armed by that (R9)."""
    held.rule.version += 1
    held.rule.updated_at = await read_clock(session)
    held.rule.armed = held.rule.enabled
    session.add(held.rule)
    return await _record_change(session, held, kind)


async def _record_change(session: AsyncSession, held: _Held, kind: RevisionKind) -> RuleRecord:
    """Write the change into the rule's history, tell it publicly, and have a rule that is on judged (R11)."""
    rule = held.rule
    session.add(
        RuleRevision(
            rule_id=rule.id,
            version=rule.version,
            wallet_id=rule.wallet_id,
            change=kind.value,
            terms={**_draft_of(held), "currency": held.wallet.currency},
            enabled=rule.enabled,
            by=held.author.name,
            proof=dict(held.proof) if held.proof else None,
        )
    )
    await session.flush()
    if rule.enabled:
        event = {"id": new_id("event"), "wallet_id": rule.wallet_id, "change": Change.SAVED.value}
        await run_sql(session, _QUEUE_SAVED, **event)
    record = await _as_it_stands(session, held)
    payload = {"change": kind.value, **_told(record)}
    await write_event(session, EventKind.RULE_CHANGED, owner_id=record.owner_id, payload=payload)
    return record


async def _as_it_stands(session: AsyncSession, held: _Held) -> RuleRecord:
    rule, wallet = held.rule, held.wallet
    reached = await read_reached(session, [(rule, wallet.currency)])
    return _record(rule, wallet, reached.get(wallet.id))


def _read_draft(draft: TermsDraft, currency: str) -> tuple[Terms, Caps | None]:
    """The terms and the caps as their owner wrote them. Raises TermsInvalid naming everything that is wrong."""
    return read_terms_and_caps(
        draft.caps,
        currency=currency,
        threshold=draft.threshold,
        amount=draft.amount,
        account=draft.account,
        sources=draft.sources,
    )


def _columns(terms: Terms, caps: Caps | None) -> dict[str, Any]:
    return {
        "threshold": terms.threshold.units,
        "amount": terms.amount.units,
        "account": terms.account.value,
        "sources": list(terms.sources),
        **cap_columns(caps),
    }


def _draft_of(held: _Held) -> dict[str, Any]:
    """The terms a rule has, as an owner would write them."""
    rule, currency = held.rule, held.wallet.currency
    return {
        "threshold": Money(currency, rule.threshold).text,
        "amount": Money(currency, rule.amount).text,
        "account": rule.account,
        "sources": list(rule.sources),
        "caps": write_caps(caps_of(rule, currency)),
    }


def _told(record: RuleRecord) -> dict[str, Any]:
    """The rule as it is told of publicly."""
    terms = record.terms
    return {
        "rule_id": record.id,
        "wallet_id": record.wallet_id,
        "threshold": terms.threshold.text,
        "amount": terms.amount.text,
        "account": terms.account,
        "sources": [{"rank": rank, "asset": asset} for rank, asset in terms.ranked],
        "caps": write_caps(record.caps),
        "enabled": record.enabled,
        "state": record.state,
        "waiting_for": record.waiting_for,
        "locked_by": record.locked_by,
        "version": record.version,
        "created_at": moment_text(record.created_at),
        "updated_at": moment_text(record.updated_at),
    }


def _unknown(rule_id: str) -> RuleUnknown:
    return RuleUnknown(f"There is no rule {rule_id!r}; it may have been deleted, so check the id.")


def _record(rule: Rule, wallet: WalletName, cap: CapReached | None) -> RuleRecord:
    return RuleRecord(
        id=rule.id,
        wallet_id=wallet.id,
        owner_id=wallet.owner_id,
        terms=Terms(
            threshold=Money(wallet.currency, rule.threshold),
            amount=Money(wallet.currency, rule.amount),
            account=AccountKind(rule.account),
            sources=tuple(rule.sources),
        ),
        caps=caps_of(rule, wallet.currency),
        cap=cap,
        enabled=rule.enabled,
        armed=rule.armed,
        locked_by=rule.locked_by,
        version=rule.version,
        created_at=rule.created_at,
        updated_at=rule.updated_at,
    )
