"""Confirmation: exactly the terms, what happens at once, and the passkey that signs just this (R3, R5)."""

import secrets
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import structlog
from fastapi import Form, Path, Request
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import RedirectResponse, Response

from adapters.postgres.caps import read_cap_of
from adapters.postgres.clock import read_clock, tell_time
from adapters.postgres.confirmations import (
    ConfirmationChanged,
    ConfirmationOver,
    ConfirmationRecord,
    Proof,
    SignedOut,
    burn_intent,
    carry_out,
    read_intent,
    write_intent,
)
from adapters.postgres.ids import new_id
from adapters.postgres.passkeys import list_passkeys
from adapters.postgres.reading import Asked, read_sight
from adapters.postgres.rules import (
    Author,
    RuleExists,
    RuleLocked,
    RuleRecord,
    RuleUnknown,
    VersionStale,
    find_rule,
)
from adapters.postgres.sessions import Visitor
from adapters.postgres.wallets import read_wallet
from console.page import render
from console.passkeys import (
    Assertion,
    Fault,
    PasskeyRefused,
    read_credential,
    request_options,
    verify_assertion,
)
from console.routes import pages
from console.texts import mark
from console.visitors import OwnerVisitor, SignInNeeded, owner_of
from console.wallets import ID_LENGTH_MAX, is_known
from console.wiring import Wiring, WiringDep
from topup.confirming import LASTS, Action, Intent, shown_hash
from topup.preview import at_once_words, if_it_fired, warn
from topup.widening import Agreement, widenings

_NONCE_BYTES = 32
_log = structlog.get_logger(__name__)

IntentId = Annotated[str, Path(max_length=ID_LENGTH_MAX)]

router = pages()


def author_of(visitor: Visitor) -> Author:
    """The visitor, as the history of a rule names them."""
    return Author(name=f"{visitor.name} ({visitor.person_id})", bound_to=owner_of(visitor))


async def ask_to_confirm(
    wiring: Wiring,
    visitor: Visitor,
    *,
    wallet_id: str,
    rule: RuleRecord | None,
    agreement: Agreement,
) -> Response:
    """Keep what the visitor wants to do, and lead them to the page that asks for their passkey.

    Without a rule one is made, one that is off is turned on, one that is on is changed.
    """
    async with wiring.database.commit() as session:
        intent = Intent(
            id=new_id("confirmation"),
            person_id=visitor.person_id,
            wallet_id=wallet_id,
            action=_action_for(rule),
            agreement=agreement,
            rule_id=rule.id if rule else None,
            base_version=rule.version if rule else None,
            party_id=wiring.party_id,
            expires_at=(await read_clock(session)).astimezone(UTC) + LASTS,
            nonce=secrets.token_urlsafe(_NONCE_BYTES),
        )
        await write_intent(session, intent)
    return RedirectResponse(f"/confirmations/{intent.id}", status_code=HTTPStatus.SEE_OTHER)


@router.get("/confirmations/{intent_id}")
async def show(request: Request, intent_id: IntentId, visitor: OwnerVisitor, wiring: WiringDep) -> Response:
    """What is to be confirmed, from what was kept and nothing else."""
    async with wiring.database.read() as session:
        try:
            record = await read_intent(session, intent_id, person_id=visitor.person_id)
        except ConfirmationChanged:
            return _changed(request)
        now = await read_clock(session)
        if record.over(now):
            return _over(request, record, now)
        passkeys = await list_passkeys(session, visitor.person_id)
        words = await _words(session, record, owner_of(visitor))
    return render(
        request,
        "confirmation.html",
        **words,
        options=request_options(wiring, challenge=record.challenge, passkeys=passkeys),
    )


@router.post("/confirmations/{intent_id}")
async def confirm(
    request: Request,
    intent_id: IntentId,
    visitor: OwnerVisitor,
    wiring: WiringDep,
    credential: Annotated[str, Form()] = "",
) -> Response:
    """Do what was shown, if a passkey of this very person has signed just that; each intent is good for one try."""
    async with wiring.database.read() as session:
        try:
            record = await read_intent(session, intent_id, person_id=visitor.person_id)
        except ConfirmationChanged:
            return _changed(request)
    home = f"/wallets/{record.intent.wallet_id}"
    try:
        async with wiring.database.commit() as session:
            await burn_intent(session, intent_id, person_id=visitor.person_id)
        await _carry_out(wiring, visitor, record, credential)
    except ConfirmationOver:
        return _over(request, record, await tell_time(wiring.database))
    except PasskeyRefused as refused:
        return _refused(request, record, HTTPStatus.FORBIDDEN, str(refused))
    except (RuleLocked, RuleExists, RuleUnknown, VersionStale) as refused:
        return _refused(request, record, HTTPStatus.CONFLICT, _WORDS[type(refused)])
    except SignedOut:
        raise SignInNeeded(home) from None
    await wiring.database.wake_watchers()
    return RedirectResponse(f"{home}?done=rule-confirmed", status_code=HTTPStatus.SEE_OTHER)


@router.post("/confirmations/{intent_id}/again")
async def ask_again(
    request: Request, intent_id: IntentId, visitor: OwnerVisitor, wiring: WiringDep
) -> Response:
    """Ask for the same terms anew, for the rule as it is now."""
    async with wiring.database.read() as session:
        try:
            record = await read_intent(session, intent_id, person_id=visitor.person_id)
        except ConfirmationChanged:
            return _changed(request)
        intent = record.intent
        rule = await find_rule(session, intent.wallet_id, bound_to=owner_of(visitor))
    if rule and rule.locked_by:
        raise RuleLocked(rule.locked_by)
    return await ask_to_confirm(
        wiring, visitor, wallet_id=intent.wallet_id, rule=rule, agreement=intent.agreement
    )


async def _carry_out(wiring: Wiring, visitor: Visitor, record: ConfirmationRecord, credential: str) -> None:
    """Verify, then change the rule and keep the proof in one commit."""
    intent = record.intent
    if intent.party_id != wiring.party_id:
        raise PasskeyRefused(Fault.ELSEWHERE)
    assertion = await verify_assertion(
        read_credential(credential), challenge=record.challenge, wiring=wiring, person_id=intent.person_id
    )
    async with wiring.database.commit() as session:
        proof = proof_of(assertion, record.snapshot, at=(await read_clock(session)).astimezone(UTC))
        await carry_out(
            session, intent, proof=proof, author=author_of(visitor), session_id=visitor.session_id
        )
    _log.info("rule.confirmed", intent_id=intent.id, wallet_id=intent.wallet_id, action=intent.action)


def proof_of(assertion: Assertion, snapshot: str, *, at: datetime) -> Proof:
    """All that is needed to check the confirmation again, by anybody, with no other source."""
    return {
        "snapshot": snapshot,
        "credential_id": _text(assertion.credential_id),
        "public_key": _text(assertion.public_key),
        "authenticator_data": _text(assertion.authenticator_data),
        "client_data_json": _text(assertion.client_data_json),
        "signature": _text(assertion.signature),
        "confirmed_at": at.isoformat(),
    }


async def _words(session: AsyncSession, record: ConfirmationRecord, owner_id: str) -> dict[str, Any]:
    """What the page says: the terms from the snapshot, what they would do from how things stand."""
    intent = record.intent
    terms = intent.agreement.terms
    wallet = await read_wallet(session, intent.wallet_id, bound_to=owner_id)
    rule = await find_rule(session, intent.wallet_id, bound_to=owner_id)
    sight = await read_sight(session, Asked(wallet.id, owner_id, terms.account, terms.sources))
    now = await read_clock(session)
    cap = await read_cap_of(session, wallet.id, intent.agreement.caps, amount=terms.amount)
    known = is_known(wallet)
    before = Agreement(rule.terms, rule.caps) if rule and intent.action is Action.EDIT else None
    return {
        "intent": intent,
        "terms": terms,
        "caps": intent.agreement.caps,
        "before": before,
        "widenings": widenings(before, intent.agreement) if before else (),
        "at_once": at_once_words(terms, balance=wallet.balance, holdings=sight.holdings, cap=cap)
        if known
        else None,
        "fires": if_it_fired(terms, sight.holdings),
        "warnings": warn(terms, balance=wallet.balance, holdings=sight.holdings, cap=cap),
        "shown_hash": shown_hash(record.snapshot),
        "seconds_left": max(int((intent.expires_at - now).total_seconds()), 0),
    }


def _over(request: Request, record: ConfirmationRecord, now: datetime) -> Response:
    """The page of one whose time is over, or else was used, if only by a twin of this very request."""
    if record.used_at is None and record.intent.expires_at <= now:
        return _refused(request, record, HTTPStatus.GONE, _EXPIRED)
    return _refused(request, record, HTTPStatus.CONFLICT, _USED)


def _refused(request: Request, record: ConfirmationRecord, status: HTTPStatus, message: str) -> Response:
    """The page of a confirmation that came to nothing, with a way to begin anew."""
    return render(
        request, "confirmation_over.html", status=status, message=message, wallet_id=record.intent.wallet_id,
        again=record.intent.id,
    )  # fmt: skip


def _changed(request: Request) -> Response:
    """The page of an intent that somebody has laid hands on: there is nothing to begin anew with."""
    _log.error("confirmation.changed", path=request.url.path)
    return render(
        request,
        "confirmation_over.html",
        status=HTTPStatus.CONFLICT,
        message=_CHANGED,
        wallet_id=None,
        again=None,
    )


def _action_for(rule: RuleRecord | None) -> Action:
    if rule is None:
        return Action.CREATE
    return Action.EDIT if rule.enabled else Action.ENABLE


def _text(given: bytes) -> str:
    return urlsafe_b64encode(given).rstrip(b"=").decode()


_EXPIRED = mark(
    "A confirmation is good for two minutes, and these are over. Nothing was changed. Ask anew, and read again."
)
_USED = mark(
    "This confirmation has been used already: each is good for one try. Look at your wallet to see what stands."
)
_CHANGED = mark(
    "What was kept of this confirmation is not what was written. Nothing was changed. Begin again from your wallet, "
    "and tell whoever runs Tidemark for you."
)
_WORDS = {
    RuleLocked: mark(
        "A top-up is in progress, and its rule cannot be changed until it has ended. Nothing was changed."
    ),
    RuleExists: mark("This wallet was given a rule meanwhile. Nothing was changed."),
    RuleUnknown: mark("The rule was deleted meanwhile. Nothing was changed."),
    VersionStale: mark(
        "The rule was changed meanwhile, so these are not the terms it would have. Nothing was changed."
    ),
}
