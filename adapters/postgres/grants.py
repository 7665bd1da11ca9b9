"""What the product's own programs may do in the database: each table by name, and no more than they need.

They log in as members of the role `tidemark_service`, which owns nothing. What is written down once, such as a ledger's
entries and transfers, the decisions and a rule's history, it can read and add to, and neither change nor remove. A
privilege to change a column also lets a row be locked: a table whose rows are locked without ever being changed has one
on a column that says nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import LiteralString

import psycopg
from psycopg import errors, sql
from psycopg.rows import TupleRow
from sqlalchemy import make_url

PROGRAM_ROLE = "tidemark_service"

_APPEND = "SELECT, INSERT"
_ALL = "SELECT, INSERT, UPDATE, DELETE"

GRANTS: Mapping[str, LiteralString] = MappingProxyType(
    {
        "alembic_version": "SELECT",
        # What is written down once.
        "entry": _APPEND,
        "transfer": _APPEND,
        "decision": _APPEND,
        "rule_revision": _APPEND,
        "push_receipt": _APPEND,
        "push_key": _APPEND,
        "asset": "SELECT",
        # What goes on: only what may change of it.
        "account": _APPEND + ", UPDATE (posted, version)",
        "balance_event": _APPEND + ", UPDATE (judged)",
        "top_up": _APPEND + ", UPDATE (state, outcome, reason, credited, checked, handed_over_at, ended_at)",
        "draw": _APPEND + ", UPDATE (status, reason, debited, credited)",
        "delivery": _APPEND + ", UPDATE (status, attempts, last_failure, sent_at)",
        "balance_report": _APPEND + ", UPDATE (balance, version, event_id, occurred_at, received_at)",
        "owner": _APPEND + ", UPDATE (low_balance_notices)",
        "wallet": _APPEND + ", UPDATE (created_at)",
        "rate": _APPEND + ", UPDATE (rate)",
        "api_key": _APPEND + ", UPDATE (revoked_at)",
        "person": _APPEND + ", UPDATE (created_at)",
        "registration_link": _APPEND + ", UPDATE (expires_at, used_at)",
        "confirmation": _APPEND + ", UPDATE (used_at)",
        "recovery_code": _APPEND + ", DELETE, UPDATE (used_at)",
        "passkey": _APPEND + ", DELETE, UPDATE (name, sign_count, backed_up, last_used_at, suspect_at)",
        "page_session": _APPEND + ", DELETE, UPDATE (last_seen_at)",
        "push_subscription": _APPEND + ", DELETE, UPDATE (p256dh, auth, expires_at)",
        "ceremony": _APPEND + ", DELETE",
        "rule": _ALL,
        "fault": _ALL,
        "kept_answer": _ALL,
        "event": _APPEND + ", DELETE, UPDATE (xact)",
        "event_mark": "SELECT, UPDATE (xact, seq)",
        "webhook_endpoint": _ALL,
        "webhook_delivery": _ALL,
    }
)
"""By table; a table that is not named here cannot even be read. A test holds the list to the tables there are."""

_KNOWN = "SELECT FROM pg_roles WHERE rolname = %s"
_IS_MEMBER = "SELECT pg_has_role(%s, %s, 'MEMBER')"

Connection = psycopg.Connection[TupleRow]


class RoleMissing(Exception):
    """A role is missing, or not a member where it should be, and whoever upgrades may not see to it."""


def grant_all(connection: Connection) -> None:
    """Let the service role do what it needs, and nothing else; it is made if need be. Raises RoleMissing.

    Part of the caller's commit: programs at work never meet a moment without their grants.
    """
    _make_role(connection, PROGRAM_ROLE, sql.SQL("NOLOGIN"))
    role = sql.Identifier(PROGRAM_ROLE)
    connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
    connection.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(role))
    for table, privileges in GRANTS.items():
        names = {"privileges": sql.SQL(privileges), "table": sql.Identifier(table), "role": role}
        connection.execute(sql.SQL("GRANT {privileges} ON {table} TO {role}").format(**names))


def let_in(connection: Connection, program_url: str) -> None:
    """Have the user of this address, made if need be, act as the service role. Raises RoleMissing.

    Its password, if the address has one, is sent as what the server keeps of it. An existing user's is left alone.
    """
    address = make_url(program_url)
    user = address.username
    if user is None or user == connection.info.user:
        return
    options: sql.Composable = sql.SQL("LOGIN")
    if address.password:
        kept = connection.pgconn.encrypt_password(str(address.password).encode(), user.encode())
        options = sql.SQL("LOGIN PASSWORD {}").format(sql.Literal(kept.decode()))
    _make_role(connection, user, options)
    if _is_member(connection, user):
        return
    names = {"role": sql.Identifier(PROGRAM_ROLE), "user": sql.Identifier(user)}
    try:
        with connection.transaction():
            connection.execute(sql.SQL("GRANT {role} TO {user}").format(**names))
    except (errors.InsufficientPrivilege, errors.UniqueViolation, errors.InternalError_):
        if not _is_member(connection, user):
            raise RoleMissing(_ask_for(connection, f"GRANT {PROGRAM_ROLE} TO {user}")) from None


def _make_role(connection: Connection, name: str, options: sql.Composable) -> None:
    """Make the role unless it is there: the whole server shares it, and another database may be making it now."""
    if connection.execute(_KNOWN, (name,)).fetchone() is not None:
        return
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), options))
    except (errors.DuplicateObject, errors.UniqueViolation):
        return
    except errors.InsufficientPrivilege:
        kind = "NOLOGIN" if name == PROGRAM_ROLE else "LOGIN PASSWORD '...'"
        raise RoleMissing(_ask_for(connection, f"CREATE ROLE {name} {kind}")) from None


def _is_member(connection: Connection, user: str) -> bool:
    row = connection.execute(_IS_MEMBER, (user, PROGRAM_ROLE)).fetchone()
    return row is not None and bool(row[0])


def _ask_for(connection: Connection, statement: str) -> str:
    return (
        f"{connection.info.user} may not do what is needed here: have an administrator of the server run "
        f"`{statement}`, then upgrade again. Nothing was changed."
    )
