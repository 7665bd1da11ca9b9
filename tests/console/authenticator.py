"""A software authenticator: makes passkeys and answers with them like a browser, or as an attacker would."""

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

PRESENT, VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40


@dataclass(frozen=True, slots=True)
class Way:
    """How an answer is made; by itself as an honest browser makes it."""

    origin: str
    verified: bool = True
    cross_origin: bool = False
    challenge: str | None = None
    """Another challenge than the one asked for, as the browser writes it."""
    count: int | None = None
    """Another counter than the authenticator's own."""
    signature: bytes | None = None
    user_handle: bytes | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More, or other, members of the client's own words."""


@dataclass(slots=True)
class Passkey:
    """One passkey with its private key."""

    party: str
    handle: bytes
    credential_id: bytes
    key: ec.EllipticCurvePrivateKey
    count: int = 0
    """0 for good where `synced`."""
    synced: bool = False

    def data(self, way: Way, *, flags: int, attested: bytes = b"") -> bytes:
        """The authenticator's own words."""
        flags |= PRESENT | (VERIFIED if way.verified else 0)
        flags |= (BACKUP_ELIGIBLE | BACKED_UP) if self.synced else 0
        count = self.count if way.count is None else way.count
        return hashlib.sha256(self.party.encode()).digest() + bytes([flags]) + count.to_bytes(4) + attested

    def sign(self, options: Mapping[str, Any], way: Way) -> dict[str, Any]:
        """Answer a request for an assertion, as `PublicKeyCredential.toJSON` writes it."""
        self.count += 0 if self.synced else 1
        client = _client_words("webauthn.get", options, way)
        words = self.data(way, flags=0)
        signature = way.signature or self.key.sign(
            words + hashlib.sha256(client).digest(), ec.ECDSA(SHA256())
        )
        response = {
            "clientDataJSON": encode(client),
            "authenticatorData": encode(words),
            "signature": encode(signature),
            "userHandle": encode(way.user_handle or self.handle),
        }
        return _credential(self.credential_id, response)

    def copy(self) -> "Passkey":
        """What a thief has who copied it at this moment."""
        return replace(self)


def make_passkey(
    options: Mapping[str, Any], way: Way, *, synced: bool = False, credential_id: bytes | None = None
) -> tuple[Passkey, dict[str, Any]]:
    """Make a passkey as asked; it, and the browser's answer."""
    passkey = Passkey(
        party=options["rp"]["id"],
        handle=decode(options["user"]["id"]),
        credential_id=credential_id or secrets.token_bytes(32),
        key=ec.generate_private_key(ec.SECP256R1()),
        synced=synced,
    )
    words = passkey.data(way, flags=ATTESTED, attested=_attested(passkey))
    response = {
        "clientDataJSON": encode(_client_words("webauthn.create", options, way)),
        "attestationObject": encode(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": words})),
        "transports": ["internal", "hybrid"],
    }
    return passkey, _credential(passkey.credential_id, response)


def encode(given: bytes) -> str:
    """Bytes as WebAuthn writes them."""
    return urlsafe_b64encode(given).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Bytes as WebAuthn writes them, read."""
    return urlsafe_b64decode(text + "===")


def _client_words(kind: str, options: Mapping[str, Any], way: Way) -> bytes:
    words = {
        "type": kind,
        "challenge": way.challenge or options["challenge"],
        "origin": way.origin,
        "crossOrigin": way.cross_origin,
        **way.extra,
    }
    return json.dumps(words).encode()


def _attested(passkey: Passkey) -> bytes:
    numbers = passkey.key.public_key().public_numbers()
    public = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)})
    return bytes(16) + len(passkey.credential_id).to_bytes(2) + passkey.credential_id + public


def _credential(credential_id: bytes, response: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": encode(credential_id),
        "rawId": encode(credential_id),
        "type": "public-key",
        "response": response,
        "clientExtensionResults": {},
        "authenticatorAttachment": "platform",
    }
