"""Confirming: the one text that says exactly what a person agrees to, and the challenge their passkey signs (R3)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from topup.caps import read_terms_and_caps, write_caps
from topup.widening import Agreement

LASTS = timedelta(minutes=2)
"""For how long an intent may be confirmed; a person who took longer reads the terms anew."""

_CONTEXT = b"tidemark/confirm/v1\x00"
"""Keeps this signature from being taken for any other one that a passkey gives here."""
_SHOWN_DIGITS = 16


class SnapshotUnreadable(ValueError):
    """The text is not one that `write_snapshot` wrote."""


class Action(StrEnum):
    """What is confirmed: making a rule that is on, changing one that is on, or turning one on."""

    CREATE = "create"
    EDIT = "edit"
    ENABLE = "enable"


@dataclass(frozen=True, slots=True)
class Intent:
    """What a person wants to do, with everything that makes it this one and no other."""

    id: str
    person_id: str
    wallet_id: str
    action: Action
    agreement: Agreement
    rule_id: str | None
    """None for a rule that is still to be made; and so is its version."""
    base_version: int | None
    party_id: str
    """The site whose passkeys may confirm it (WebAuthn's RP ID)."""
    expires_at: datetime
    nonce: str


def write_snapshot(intent: Intent) -> str:
    """The intent as canonical JSON: sorted keys, no spaces, amounts as plain decimal text, the moment in UTC."""
    terms = intent.agreement.terms
    content = {
        "id": intent.id,
        "person_id": intent.person_id,
        "wallet_id": intent.wallet_id,
        "rule_id": intent.rule_id,
        "action": intent.action.value,
        "base_version": intent.base_version,
        "terms": {
            "currency": terms.currency,
            "threshold": terms.threshold.text,
            "amount": terms.amount.text,
            "account": terms.account.value,
            "sources": list(terms.sources),
        },
        "caps": write_caps(intent.agreement.caps),
        "party_id": intent.party_id,
        "expires_at": intent.expires_at.astimezone(UTC).isoformat(),
        "nonce": intent.nonce,
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def read_snapshot(snapshot: str) -> Intent:
    """The intent that was written. Raises SnapshotUnreadable for anything that would be written otherwise."""
    try:
        intent = _read(json.loads(snapshot))
    except (ValueError, TypeError, LookupError) as unreadable:
        message = "this is no snapshot of an intent"
        raise SnapshotUnreadable(message) from unreadable
    if write_snapshot(intent) != snapshot:
        message = "this snapshot was not written as snapshots are"
        raise SnapshotUnreadable(message)
    return intent


def challenge_of(snapshot: str) -> bytes:
    """What the passkey signs: SHA-256 of "tidemark/confirm/v1", a zero byte and the snapshot."""
    return hashlib.sha256(_CONTEXT + snapshot.encode()).digest()


def shown_hash(snapshot: str) -> str:
    """The beginning of the challenge in groups of four digits, for a person to note or compare."""
    digits = challenge_of(snapshot).hex()[:_SHOWN_DIGITS]
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def _read(content: Mapping[str, Any]) -> Intent:
    terms, caps = read_terms_and_caps(content["caps"], **content["terms"])
    return Intent(
        id=content["id"],
        person_id=content["person_id"],
        wallet_id=content["wallet_id"],
        action=Action(content["action"]),
        agreement=Agreement(terms, caps),
        rule_id=content["rule_id"],
        base_version=content["base_version"],
        party_id=content["party_id"],
        expires_at=datetime.fromisoformat(content["expires_at"]),
        nonce=content["nonce"],
    )
