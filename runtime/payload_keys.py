"""The keys that encrypt what travels through Temporal: several of them in one setting, so that they can be rotated."""

import base64
import binascii
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

KEY_BYTES = 32

_ID = re.compile(r"[A-Za-z0-9._-]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PayloadKeys:
    """All keys that can read, by their ids; none at all where nothing is encrypted."""

    writing: str | None = None
    """The id of the key that writes."""
    by_id: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, text: str) -> "PayloadKeys":
        """Read `id:base64,id:base64`, of which the first writes. Raises ValueError, without a word of what it read."""
        keys: dict[str, bytes] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, encoded = part.partition(":")
            if name in keys or not _ID.fullmatch(name):
                msg = "must have an id of its own, of letters, digits, dots and dashes, before the colon of each key"
                raise ValueError(msg)
            keys[name] = _secret_in(encoded)
        return cls(next(iter(keys), None), MappingProxyType(keys))


def new_payload_key(*, now: datetime) -> str:
    """A new key as the setting takes it; its id tells the day it was made."""
    secret = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return f"{now:%Y-%m-%d}-{secrets.token_hex(2)}:{secret}"


def print_payload_key(_settings: object) -> int:
    """Print a new key. Returns the exit code."""
    sys.stdout.write(f"{new_payload_key(now=datetime.now(UTC))}\n")
    return 0


def _secret_in(encoded: str) -> bytes:
    try:
        secret = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != KEY_BYTES:
        msg = f"must have {KEY_BYTES} bytes in base64 after each id: make one with `python -m runtime payload-key`"
        raise ValueError(msg)
    return secret
