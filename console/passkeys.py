"""Ceremonies with passkeys: what a browser is asked for, and whether its answer proves what it should."""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NoReturn

import structlog
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    base64url_to_bytes,
    options_to_json_dict,
    parse_authentication_credential_json,
    parse_registration_credential_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from adapters.postgres.passkeys import NewPasskey, PasskeyRecord, count_on, find_passkey
from console.texts import mark
from console.wiring import Wiring

CREDENTIAL_LENGTH_MAX = 16_000
"""No honest answer of a browser comes near so many characters."""
TIMEOUT_MILLISECONDS = 120_000
"""How long a browser gives a person to touch, look or type."""
_CHALLENGE_BYTES = 32
_UNREADABLE = (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading an answer that is none ends with; none of it says anything about us."""

_log = structlog.get_logger(__name__)


class Fault(StrEnum):
    """Why an answer proves nothing."""

    SCRIPTLESS = "scriptless"
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    NOT_YOURS = "not_yours"
    SUSPECT = "suspect"
    NOT_VERIFIED = "not_verified"
    ELSEWHERE = "elsewhere"
    FORGED = "forged"
    OVER = "over"


WORDS: Mapping[Fault, str] = MappingProxyType(
    {
        Fault.SCRIPTLESS: mark(
            "No passkey was asked for, as no script of this page ran, and nothing was changed. Allow JavaScript for "
            "this page, and try again."
        ),
        Fault.UNREADABLE: mark(
            "The answer of your browser could not be read, and nothing was changed. Load this page "
            "again, and try once more."
        ),
        Fault.UNKNOWN: mark(
            "This passkey is not known here, and nothing was changed. It may have been removed: use another "
            "one, or a recovery code."
        ),
        Fault.NOT_YOURS: mark(
            "This passkey belongs to somebody else, and nothing was changed. Use one of your own."
        ),
        Fault.SUSPECT: mark(
            "This passkey may have been copied: it has counted backwards. It opens nothing any more, and "
            "nothing was changed. Use another passkey, or a recovery code, and remove this one from your account."
        ),
        Fault.NOT_VERIFIED: mark(
            "Your device did not check that it is you, and nothing was changed. Set up a screen lock, "
            "a PIN, a fingerprint or your face on it, and try again."
        ),
        Fault.ELSEWHERE: mark(
            "The passkey was used on another page than ours, and nothing was changed. Check the address "
            "of this page, open it anew, and try again."
        ),
        Fault.FORGED: mark(
            "The passkey's answer does not fit what was asked, and nothing was changed. Load this page "
            "again, and try once more."
        ),
        Fault.OVER: mark("This took too long, or was answered already. Nothing was changed. Try again."),
    }
)
"""What each fault says to a person: what happened, and what to do next."""


class PasskeyRefused(Exception):
    """The answer proves nothing. Its text is for the person who gave it."""

    def __init__(self, fault: Fault) -> None:
        """Say why."""
        super().__init__(WORDS[fault])
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Assertion:
    """A proof that a person was there with their passkey, in the parts that anyone can check again."""

    passkey_id: str
    person_id: str
    credential_id: bytes
    public_key: bytes = field(repr=False)
    authenticator_data: bytes = field(repr=False)
    client_data_json: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def new_challenge() -> bytes:
    """Random bytes that only one ceremony asks for."""
    return secrets.token_bytes(_CHALLENGE_BYTES)


def request_options(
    wiring: Wiring, *, challenge: bytes, passkeys: Iterable[PasskeyRecord] = ()
) -> dict[str, Any]:
    """What a browser is given to ask for a passkey: one of these, or without any, one that the person chooses."""
    options = generate_authentication_options(
        rp_id=wiring.party_id,
        challenge=challenge,
        timeout=TIMEOUT_MILLISECONDS,
        allow_credentials=[_descriptor(passkey) for passkey in passkeys if passkey.usable],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def creation_options(
    wiring: Wiring, *, challenge: bytes, name: str, handle: bytes, passkeys: Iterable[PasskeyRecord]
) -> dict[str, Any]:
    """What a browser is given to make a passkey with, on a device that has none of these yet."""
    options = generate_registration_options(
        rp_id=wiring.party_id,
        rp_name="Tidemark",
        user_id=handle,
        user_name=name,
        user_display_name=name,
        challenge=challenge,
        timeout=TIMEOUT_MILLISECONDS,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[_descriptor(passkey) for passkey in passkeys],
    )
    return options_to_json_dict(options)


def read_credential(text: object) -> dict[str, Any]:
    """The answer of a browser, as its form sends it. Raises PasskeyRefused."""
    if text == "":
        raise PasskeyRefused(Fault.SCRIPTLESS)
    if not isinstance(text, str) or len(text) > CREDENTIAL_LENGTH_MAX:
        raise PasskeyRefused(Fault.UNREADABLE)
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        raise PasskeyRefused(Fault.UNREADABLE) from None
    if not isinstance(read, dict):
        raise PasskeyRefused(Fault.UNREADABLE)
    return read


async def verify_assertion(
    credential: Mapping[str, Any], *, challenge: bytes, wiring: Wiring, person_id: str | None
) -> Assertion:
    """Whose passkey this is, and that its holder was there, checked by their device, for this challenge, on our page.

    `person_id`: whose passkey it has to be; None for a sign-in, where the passkey itself says who it is. The challenge
    must have been used up before this is called. A passkey that does not count on is marked as suspect. Raises
    PasskeyRefused, and DatabaseOutOfReach.
    """
    passkey = await find_passkey(wiring.database, _credential_id(credential))
    if passkey is None:
        _refuse(Fault.UNKNOWN)
    if person_id not in (None, passkey.person_id):
        _refuse(Fault.NOT_YOURS, passkey=passkey)
    if not passkey.usable:
        _refuse(Fault.SUSPECT, passkey=passkey)
    assertion, count, backed_up = _check_assertion(
        credential, challenge=challenge, wiring=wiring, passkey=passkey, named_by_itself=person_id is None
    )
    if not await count_on(wiring.database, passkey.id, sign_count=count, backed_up=backed_up):
        _refuse(Fault.SUSPECT, passkey=passkey)
    return assertion


def verify_registration(credential: Mapping[str, Any], *, challenge: bytes, wiring: Wiring) -> NewPasskey:
    """The passkey that a browser has made on our page for this challenge. Raises PasskeyRefused."""
    try:
        parsed = parse_registration_credential_json(dict(credential))
        _refuse_elsewhere(parsed.response.client_data_json, wiring)
        verified = verify_registration_response(
            credential=parsed,
            expected_challenge=challenge,
            expected_rp_id=wiring.party_id,
            expected_origin=wiring.origin,
            require_user_verification=False,  # Looked at below, so that its absence has words of its own.
        )
    except _UNREADABLE as unreadable:
        _refuse(Fault.FORGED, because=unreadable)
    if not verified.user_verified:
        _refuse(Fault.NOT_VERIFIED)
    return NewPasskey(
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        transports=tuple(transport.value for transport in parsed.response.transports or ()),
        backed_up=verified.credential_backed_up,
    )


def _check_assertion(
    credential: Mapping[str, Any],
    *,
    challenge: bytes,
    wiring: Wiring,
    passkey: PasskeyRecord,
    named_by_itself: bool,
) -> tuple[Assertion, int, bool]:
    """The proof, its counter, and whether the passkey is kept elsewhere too."""
    try:
        parsed = parse_authentication_credential_json(dict(credential))
        response = parsed.response
        _refuse_elsewhere(response.client_data_json, wiring)
        verified = verify_authentication_response(
            credential=parsed,
            expected_challenge=challenge,
            expected_rp_id=wiring.party_id,
            expected_origin=wiring.origin,
            credential_public_key=passkey.public_key,
            # The counter is looked at afterwards, in the database: only a true signature may make a passkey suspect.
            credential_current_sign_count=0,
            require_user_verification=False,  # Looked at below, so that its absence has words of its own.
        )
    except _UNREADABLE as unreadable:
        _refuse(Fault.FORGED, passkey=passkey, because=unreadable)
    if not verified.user_verified:
        _refuse(Fault.NOT_VERIFIED, passkey=passkey)
    if response.user_handle not in ((passkey.handle,) if named_by_itself else (None, passkey.handle)):
        _refuse(Fault.FORGED, passkey=passkey)
    assertion = Assertion(
        passkey_id=passkey.id,
        person_id=passkey.person_id,
        credential_id=passkey.credential_id,
        public_key=passkey.public_key,
        authenticator_data=response.authenticator_data,
        client_data_json=response.client_data_json,
        signature=response.signature,
    )
    return assertion, verified.new_sign_count, verified.credential_backed_up


def _credential_id(credential: Mapping[str, Any]) -> bytes:
    try:
        return base64url_to_bytes(credential["rawId"])
    except _UNREADABLE:
        raise PasskeyRefused(Fault.UNREADABLE) from None


def _refuse_elsewhere(client_data_json: bytes, wiring: Wiring) -> None:
    """Refuse what was signed on another page, or on ours inside of another: the library does not look at the latter."""
    client = json.loads(client_data_json)
    if client.get("crossOrigin") or "topOrigin" in client or client.get("origin") != wiring.origin:
        _refuse(Fault.ELSEWHERE)


def _refuse(
    fault: Fault, *, passkey: PasskeyRecord | None = None, because: Exception | None = None
) -> NoReturn:
    _log.warning(
        "passkey.refused",
        fault=fault,
        passkey_id=passkey.id if passkey else None,
        because=type(because).__name__ if because else None,
    )
    raise PasskeyRefused(fault) from because


def _descriptor(passkey: PasskeyRecord) -> PublicKeyCredentialDescriptor:
    known = {transport.value for transport in AuthenticatorTransport}
    transports = [AuthenticatorTransport(name) for name in passkey.transports if name in known]
    return PublicKeyCredentialDescriptor(id=passkey.credential_id, transports=transports or None)
