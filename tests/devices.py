"""A device as a push service knows it: a browser with keys of its own, with which it alone reads what is sent to it."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from tests.receiver import Received


def base64url(content: bytes) -> str:
    """Without padding, as browsers write it."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def read_base64url(text: str) -> bytes:
    """The bytes again."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class Device:
    """What a browser keeps to itself, and what it tells."""

    secret: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    auth_secret: bytes = bytes(range(16))

    @property
    def p256dh(self) -> str:
        """Its public key."""
        point = self.secret.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return base64url(point)

    @property
    def auth(self) -> str:
        """Its authentication secret."""
        return base64url(self.auth_secret)

    def toJSON(self, endpoint: str) -> dict[str, Any]:  # noqa: N802 what browsers call it
        """What `PushSubscription.toJSON()` gives."""
        keys = {"p256dh": self.p256dh, "auth": self.auth}
        return {"endpoint": endpoint, "expirationTime": None, "keys": keys}

    def read(self, received: Received) -> dict[str, Any]:
        """What was sent to it, decrypted with its own key."""
        assert received.headers["content-encoding"] == "aes128gcm"
        content = http_ece.decrypt(received.content, private_key=self.secret, auth_secret=self.auth_secret)
        shown: dict[str, Any] = json.loads(content)
        return shown


def claims_of(received: Received) -> dict[str, Any]:
    """What the sender says of itself; the signature is checked with the key it comes with."""
    authorization = received.headers["authorization"]
    assert Vapid02.verify(authorization)
    token, key = authorization.removeprefix("vapid ").split(",")
    claims: dict[str, Any] = json.loads(read_base64url(token.removeprefix("t=").split(".")[1]))
    return {**claims, "key": key.removeprefix("k=")}
