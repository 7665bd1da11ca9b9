"""What an API key may do."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """A closed list; every route under /v1 names the one it needs."""

    RULES_READ = "rules:read"
    RULES_WRITE = "rules:write"
    WALLETS_READ = "wallets:read"
    EVENTS_WRITE = "events:write"
    ADMIN = "admin"
    """Owners, wallets, keys and the embedded ledger; it does not contain the others."""


WORDS: Mapping[Scope, str] = MappingProxyType(
    {
        Scope.RULES_READ: "reads rules, their history, and top-ups.",
        Scope.RULES_WRITE: "makes, changes and deletes rules.",
        Scope.WALLETS_READ: "reads wallets, and what owners hold and were told.",
        Scope.EVENTS_WRITE: "reports balances of wallets kept elsewhere.",
        Scope.ADMIN: "registers owners, opens wallets and moves money in the embedded ledger. It does not contain "
        "the others.",
    }
)
"""What each scope allows, as a caller reads it."""
