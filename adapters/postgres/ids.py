"""New ids: prefixed, and sorting by creation."""

import secrets
import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(prefix: str, *, at: datetime | None = None) -> str:
    """A fresh id such as `rule_0193…`: 48 bits of milliseconds, then 80 random bits, in hexadecimal.

    `at`: the moment it sorts by, by the database's clock, where order matters; else this program's.
    """
    millis = time.time_ns() // 1_000_000 if at is None else (at - _EPOCH) // timedelta(milliseconds=1)
    return f"{prefix}_{millis:012x}{secrets.token_hex(10)}"
