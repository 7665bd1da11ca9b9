"""What a browser says of its push subscription, and whether it can be: the service's address and the two keys."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

ENDPOINT_LENGTH_MAX = 2000
ENDPOINT = r"^https://[!-~]+$"
POINT = r"^B[A-P][A-Za-z0-9_-]{85}={0,2}$"
AUTH = r"^[A-Za-z0-9_-]{22}={0,2}$"
"""How the address and the keys are described: 65 bytes of which the first is 4, and 16 bytes."""

_PLAIN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}", re.ASCII)
_AUTH_BYTES = 16
_POINT_BYTES = 65
_UNCOMPRESSED = 4
_COORDINATE_BYTES = 32
# The curve P-256 (FIPS 186-5): y² = x³ - 3x + b over the numbers below p.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


@dataclass(frozen=True, slots=True)
class PushHosts:
    """The push services that may be written to; whatever else an address names is nobody's business to reach."""

    names: Sequence[str]

    @classmethod
    def read(cls, text: str) -> "PushHosts":
        """Host names with commas between; one that begins with `*.` stands for all below it."""
        return cls(tuple(name.strip().lower() for name in text.split(",") if name.strip()))

    def allow(self, host: str) -> bool:
        """Whether the host is one of them."""
        return any(
            host.endswith(name[1:]) and host != name[2:] if name.startswith("*.") else host == name
            for name in self.names
        )


def endpoint_fault(endpoint: str, hosts: PushHosts, *, any_port: bool = False) -> str | None:
    """What keeps the address from being one that a push may be sent to; None when nothing does."""
    if not _PLAIN.fullmatch(endpoint):
        return "must be a web address of printable ASCII, without blanks"
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "must be a web address"
    if parts.scheme != "https" or not host:
        return "must be a web address that begins with https://"
    is_bare = "@" not in parts.netloc and "\\" not in endpoint and not parts.fragment
    if not is_bare or (port not in (None, 443) and not any_port):
        return "must be a push service's address, without user, port or fragment"
    if not hosts.allow(host):
        return f"must be at a push service that is allowed here: {', '.join(hosts.names)}"
    return None


def read_point(text: str) -> str:
    """A browser's public key, unpadded: an uncompressed point of P-256. Raises ValueError."""
    point = _decode(text)
    if len(point) != _POINT_BYTES or point[0] != _UNCOMPRESSED:
        message = f"must be {_POINT_BYTES} bytes in base64url, an uncompressed point of the curve P-256"
        raise ValueError(message)
    x, y = (
        int.from_bytes(half, "big")
        for half in (point[1 : 1 + _COORDINATE_BYTES], point[1 + _COORDINATE_BYTES :])
    )
    if x >= _P or y >= _P or (y * y - (x * x * x - 3 * x + _B)) % _P:
        message = "must be a point of the curve P-256"
        raise ValueError(message)
    return _encode(point)


def read_auth(text: str) -> str:
    """A browser's authentication secret, unpadded: sixteen bytes. Raises ValueError."""
    secret = _decode(text)
    if len(secret) != _AUTH_BYTES:
        message = f"must be {_AUTH_BYTES} bytes in base64url"
        raise ValueError(message)
    return _encode(secret)


def _decode(text: str) -> bytes:
    if not _BASE64URL.fullmatch(text):
        message = "must be base64url"
        raise ValueError(message)
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        message = "must be base64url"
        raise ValueError(message) from None


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
