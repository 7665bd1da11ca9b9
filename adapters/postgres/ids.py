"""New ids: prefixed, and sorting by creation."""

import secrets
import time


def new_id(prefix: str) -> str:
    """A fresh id such as `rule_0193…`: 48 bits of milliseconds, then 80 random bits, in hexadecimal."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
