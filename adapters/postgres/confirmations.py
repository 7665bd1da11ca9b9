"""Intents that a person was asked to confirm: kept as they were shown, and used up by the first try (R3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from adapters.postgres.rules import Author, RuleRecord, TermsDraft, create_rule, edit_rule, enable_rule
from adapters.postgres.tables import Confirmation
from topup.caps import write_caps
from topup.confirming import Action, Intent, SnapshotUnreadable, challenge_of, read_snapshot, write_snapshot

Proof = Mapping[str, Any]
"""What an auditor needs to check a confirmation with nothing else: see `docs/rules.md`, R3."""

_BURN = text(
    "UPDATE confirmation SET used_at = now() "
    "WHERE id = :id AND person_id = :person_id AND used_at IS NULL AND expires_at > now() RETURNING id"
)
_STILL_IN = text("SELECT id FROM page_session WHERE id = :id AND expires_at > now() FOR SHARE")


class ConfirmationUnknown(LookupError):
    """There is no such intent, or it is somebody else's."""


class ConfirmationOver(Exception):
    """The intent was used already, or its time is over."""


class ConfirmationChanged(Exception):
    """What is kept is not what was written: somebody has changed it."""


class SignedOut(Exception):
    """The person has been signed out while they confirmed."""


@dataclass(frozen=True, slots=True)
class ConfirmationRecord:
    """An intent as it is kept."""

    intent: Intent
    snapshot: str
    challenge: bytes = field(repr=False)
    used_at: datetime | None

    def over(self, now: datetime) -> bool:
        """Whether it cannot be confirmed any more."""
        return self.used_at is not None or self.intent.expires_at <= now


async def write_intent(session: AsyncSession, intent: Intent) -> None:
    """Keep the intent in the caller's commit."""
    snapshot = write_snapshot(intent)
    session.add(
        Confirmation(
            id=intent.id,
            person_id=intent.person_id,
            wallet_id=intent.wallet_id,
            rule_id=intent.rule_id,
            action=intent.action.value,
            base_version=intent.base_version,
            snapshot=snapshot,
            challenge=challenge_of(snapshot),
            expires_at=intent.expires_at,
        )
    )
    await session.flush()


async def read_intent(session: AsyncSession, intent_id: str, *, person_id: str) -> ConfirmationRecord:
    """The person's own intent. Raises ConfirmationUnknown, and ConfirmationChanged when it is not as it was written."""
    statement = select(Confirmation).where(
        col(Confirmation.id) == intent_id, col(Confirmation.person_id) == person_id
    )
    row = (await session.exec(statement)).first()
    if row is None:
        message = f"There is no confirmation {intent_id!r} of this person."
        raise ConfirmationUnknown(message)
    return ConfirmationRecord(_unchanged(row), row.snapshot, row.challenge, row.used_at)


async def burn_intent(session: AsyncSession, intent_id: str, *, person_id: str) -> None:
    """Use the intent up, in a commit of its own before anything is looked at: each is good for one try only.

    Raises ConfirmationOver when it was used already or its time is over.
    """
    burned = await run_sql(session, _BURN, id=intent_id, person_id=person_id)
    if burned.one_or_none() is None:
        message = "This confirmation was used already, or its time is over."
        raise ConfirmationOver(message)


async def carry_out(
    session: AsyncSession, intent: Intent, *, proof: Proof, author: Author, session_id: str
) -> RuleRecord:
    """Do what was confirmed, in the caller's commit, and keep the proof with each revision it makes.

    Raises SignedOut, and what changing a rule raises: RuleExists, RuleLocked, VersionStale, RuleUnknown.
    """
    if (await run_sql(session, _STILL_IN, id=session_id)).one_or_none() is None:
        raise SignedOut
    draft = draft_of(intent)
    if intent.rule_id is None or intent.base_version is None:
        return await create_rule(
            session, wallet_id=intent.wallet_id, draft=draft, enabled=True, author=author, proof=proof
        )
    changes = {name: getattr(draft, name) for name in TermsDraft.__slots__}
    edited = await edit_rule(
        session, intent.rule_id, changes, version=intent.base_version, author=author, proof=proof
    )
    if intent.action is not Action.ENABLE:
        return edited
    return await enable_rule(session, edited.id, version=edited.version, author=author, proof=proof)


def draft_of(intent: Intent) -> TermsDraft:
    """The intent's terms, as their owner would write them."""
    terms = intent.agreement.terms
    return TermsDraft(
        threshold=terms.threshold.text,
        amount=terms.amount.text,
        account=terms.account.value,
        sources=list(terms.sources),
        caps=write_caps(intent.agreement.caps),
    )


def _unchanged(row: Confirmation) -> Intent:
    """The intent, if the row says in every column what its snapshot says. Raises ConfirmationChanged."""
    message = f"The confirmation {row.id} is not as it was written."
    try:
        intent = read_snapshot(row.snapshot)
    except SnapshotUnreadable as unreadable:
        raise ConfirmationChanged(message) from unreadable
    kept = (
        row.id,
        row.person_id,
        row.wallet_id,
        row.rule_id,
        row.action,
        row.base_version,
        row.expires_at.astimezone(UTC),
        row.challenge,
    )
    written = (
        intent.id,
        intent.person_id,
        intent.wallet_id,
        intent.rule_id,
        intent.action.value,
        intent.base_version,
        intent.expires_at,
        challenge_of(row.snapshot),
    )
    if kept != written:
        raise ConfirmationChanged(message)
    return intent
