"""The tables: rows stay in this room; what leaves it are values of `topup` or plain results."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Numeric,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.sql.operators import OperatorClass
from sqlalchemy.types import UserDefinedType
from sqlmodel import Field, SQLModel


class Units(TypeDecorator[int]):
    """Whole minor units: `int` in Python, a guarded `numeric` in the database (scale 0, no NaN, below 1e38)."""

    impl = DOMAIN
    cache_ok = True
    operator_classes = OperatorClass.NUMERIC

    def __init__(self, *, signed: bool = False) -> None:
        """Choose the domain; only the ledger's own accounts and entries are signed."""
        super().__init__("signed_units" if signed else "minor_units", Numeric, create_type=False)
        self.signed = signed

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """Send a numeric, whatever the size of the number."""
        del dialect
        return None if value is None else Decimal(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:
        """Read a whole number."""
        del dialect
        return None if value is None else int(value)


class Xid8(UserDefinedType[str]):
    """The number of the commit that wrote a row, as PostgreSQL counts them; it travels as text."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        """Its name in the database."""
        return "XID8"


ischema_names["xid8"] = Xid8  # So that reading the schema back knows it, too.


def _units(*, signed: bool = False, default: bool = False, nullable: bool = False) -> Any:
    server_default = text("0") if default else None
    given: Any = {"default": None} if nullable else {}
    return Field(
        **given, sa_column=Column(Units(signed=signed), nullable=nullable, server_default=server_default)
    )


def _moment(*, nullable: bool = False, default: bool = False) -> Any:
    server_default = text("now()") if default else None
    return Field(
        default=None,
        sa_column=Column(DateTime(timezone=True), nullable=nullable, server_default=server_default),
    )


def _texts() -> Any:
    return Field(sa_column=Column(ARRAY(Text), nullable=False))


def _flag(*, default: str = "false") -> Any:
    return Field(default=None, sa_column_kwargs={"server_default": text(default)})


def _serial() -> Any:
    return Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))


class Owner(SQLModel, table=True):
    """A person with a Pay wallet and an exchange account."""

    id: str = Field(sa_type=Text, primary_key=True)
    name: str = Field(sa_type=Text)
    email: str = Field(sa_type=Text)
    low_balance_notices: bool = _flag(default="true")
    """Whether they want to be told of a low balance that nothing follows; how a top-up ended is always told."""
    created_at: datetime = _moment(default=True)


class Wallet(SQLModel, table=True):
    """A Pay wallet; its balance is that of the ledger account with its `wallet_id`, or the one reported last."""

    __table_args__ = (CheckConstraint("kept IN ('ledger', 'elsewhere')", name="wallet_kept_known"),)

    id: str = Field(sa_type=Text, primary_key=True)
    owner_id: str = Field(sa_type=Text, foreign_key="owner.id", index=True)
    currency: str = Field(sa_type=Text)
    kept: str = Field(
        default="ledger", sa_column=Column(Text, nullable=False, server_default=text("'ledger'"))
    )
    created_at: datetime = _moment(default=True)


class Account(SQLModel, table=True):
    """A ledger account: a wallet, one asset of an exchange account, or one of the ledger's own."""

    __table_args__ = (
        UniqueConstraint(
            "kind",
            "owner_id",
            "wallet_id",
            "asset",
            name="account_named_once",
            postgresql_nulls_not_distinct=True,
        ),
        UniqueConstraint("wallet_id", name="account_of_wallet"),
        CheckConstraint(
            "kind IN ('wallet', 'funding', 'trading', 'house', 'world')", name="account_kind_known"
        ),
        CheckConstraint("kind IN ('house', 'world') OR posted - held >= 0", name="account_not_overdrawn"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    id: int | None = _serial()
    kind: str = Field(sa_type=Text)
    owner_id: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("owner.id")))
    wallet_id: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("wallet.id")))
    asset: str = Field(sa_type=Text)
    posted: int = _units(signed=True, default=True)
    held: int = _units(default=True)
    version: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))


class Transfer(SQLModel, table=True):
    """One movement of money, or the memory that it was refused or fenced; its id is its idempotency key."""

    __table_args__ = (
        CheckConstraint("status IN ('moved', 'short', 'refused', 'void')", name="transfer_status_known"),
        CheckConstraint(
            "(status IN ('moved', 'short')) = (debited > 0 AND credited > 0)", name="transfer_moved_both"
        ),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    kind: str = Field(sa_type=Text)
    request_hash: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    debited: int = _units(default=True)
    credited: int = _units(default=True)
    at: datetime = _moment(default=True)


class Entry(SQLModel, table=True):
    """One side of a transfer; immutable, gap-free per account."""

    __table_args__ = (CheckConstraint("amount <> 0", name="entry_not_empty"),)

    account_id: int = Field(sa_column=Column(BigInteger, ForeignKey("account.id"), primary_key=True))
    account_version: int = Field(sa_column=Column(BigInteger, primary_key=True))
    transfer_id: str = Field(sa_type=Text)
    amount: int = _units(signed=True)
    balance_after: int = _units(signed=True)
    at: datetime = _moment(default=True)


class BalanceEvent(SQLModel, table=True):
    """What happened to a wallet's balance, in the order it happened; written in the same commit as the change."""

    __tablename__ = "balance_event"
    __table_args__ = (
        UniqueConstraint("id", name="balance_event_told_once"),
        Index("balance_event_unjudged", "wallet_id", "seq", postgresql_where=text("NOT judged")),
        Index("balance_event_of_wallet", "wallet_id", "seq"),
    )

    seq: int | None = _serial()
    id: str = Field(sa_type=Text)
    wallet_id: str = Field(sa_type=Text)
    change: str = Field(sa_type=Text)
    balance: int = _units()
    version: int = Field(sa_type=BigInteger)
    occurred_at: datetime = _moment(default=True)
    recorded_at: datetime = _moment(default=True)
    """When it came to us; what is told from outside may have happened long before."""
    stale: bool = _flag()
    judged: bool = _flag()


class Rule(SQLModel, table=True):
    """A wallet's rule; `locked_by` is the top-up in progress, `version` its ETag."""

    __table_args__ = (
        UniqueConstraint("wallet_id", name="rule_one_per_wallet"),
        CheckConstraint("threshold > 0 AND amount > 0", name="rule_amounts_positive"),
        CheckConstraint("cardinality(sources) BETWEEN 1 AND 3", name="rule_one_to_three_sources"),
        CheckConstraint(
            "cap_day_amount > 0 AND cap_day_count > 0 AND cap_month_amount > 0 AND cap_month_count > 0",
            name="rule_caps_positive",
        ),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    wallet_id: str = Field(sa_type=Text, foreign_key="wallet.id")
    threshold: int = _units()
    amount: int = _units()
    account: str = Field(sa_type=Text)
    sources: list[str] = _texts()
    cap_day_amount: int | None = _units(nullable=True)
    cap_day_count: int | None = None
    cap_month_amount: int | None = _units(nullable=True)
    cap_month_count: int | None = None
    enabled: bool
    armed: bool
    locked_by: str | None = Field(default=None, sa_type=Text)
    spent_while_locked: bool = _flag()
    told_low_event_id: str | None = Field(default=None, sa_type=Text)
    """The balance event at which the owner was told of this dip; None while there is no dip they were told of."""
    version: int = Field(sa_type=BigInteger)
    created_at: datetime = _moment(default=True)
    updated_at: datetime = _moment(default=True)


class RuleRevision(SQLModel, table=True):
    """One change of a rule: who, what, when, and the confirmation where there was one."""

    __tablename__ = "rule_revision"

    rule_id: str = Field(sa_type=Text, primary_key=True)
    version: int = Field(sa_type=BigInteger, primary_key=True)
    wallet_id: str = Field(sa_type=Text, index=True)
    change: str = Field(sa_type=Text)
    terms: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    enabled: bool
    by: str = Field(sa_type=Text)
    proof: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    at: datetime = _moment(default=True)


class DecisionRow(SQLModel, table=True):
    """Why a rule fired or did not, one row for each balance event it was judged by (R13)."""

    __tablename__ = "decision"
    __table_args__ = (
        UniqueConstraint("rule_id", "event_id", name="decision_once_per_event"),
        Index("decision_of_rule", "rule_id", "seq"),
    )

    seq: int | None = _serial()
    rule_id: str = Field(sa_type=Text)
    wallet_id: str = Field(sa_type=Text)
    event_id: str = Field(sa_type=Text)
    balance: int = _units()
    threshold: int = _units()
    currency: str = Field(sa_type=Text)
    fired: bool
    reason: str = Field(sa_type=Text)
    top_up_id: str | None = Field(default=None, sa_type=Text)
    at: datetime = _moment(default=True)


class TopUpRow(SQLModel, table=True):
    """One top-up, from its claim to its outcome; it keeps the terms it fired under."""

    __tablename__ = "top_up"
    __table_args__ = (
        UniqueConstraint("trigger_event_id", name="top_up_one_per_trigger"),
        Index(
            "top_up_one_in_progress", "rule_id", unique=True, postgresql_where=text("state = 'in_progress'")
        ),
        Index("top_up_not_handed_over", "id", postgresql_where=text("handed_over_at IS NULL")),
        Index("top_up_ended_lately", "ended_at", postgresql_where=text("state = 'ended'")),
        Index("top_up_of_wallet", "wallet_id", "id"),
        Index("top_up_of_wallet_by_start", "wallet_id", "started_at"),
        Index("top_up_of_rule", "rule_id", "id"),
        CheckConstraint("state IN ('in_progress', 'ended')", name="top_up_state_known"),
        CheckConstraint("(state = 'ended') = (outcome IS NOT NULL)", name="top_up_ended_with_outcome"),
        CheckConstraint("credited <= amount", name="top_up_never_over_its_amount"),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    rule_id: str = Field(sa_type=Text)
    rule_version: int = Field(sa_type=BigInteger)
    wallet_id: str = Field(sa_type=Text, foreign_key="wallet.id")
    owner_id: str = Field(sa_type=Text, foreign_key="owner.id", index=True)
    currency: str = Field(sa_type=Text)
    threshold: int = _units()
    amount: int = _units()
    account: str = Field(sa_type=Text)
    sources: list[str] = _texts()
    trigger_event_id: str = Field(sa_type=Text)
    trigger_balance: int = _units()
    state: str = Field(sa_type=Text)
    outcome: str | None = Field(default=None, sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    credited: int = _units(default=True)
    checked: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    """What the check found, once and for all: a run that is reset gets the same plan again."""
    started_at: datetime = _moment(default=True)
    handed_over_at: datetime | None = _moment(nullable=True)
    ended_at: datetime | None = _moment(nullable=True)


class DrawRow(SQLModel, table=True):
    """What one source gave to one top-up."""

    __tablename__ = "draw"

    top_up_id: str = Field(sa_column=Column(Text, ForeignKey("top_up.id"), primary_key=True))
    rank: int = Field(primary_key=True)
    asset: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    reason: str | None = Field(default=None, sa_type=Text)
    debited: int = _units(default=True)
    credited: int = _units(default=True)


class DeliveryRow(SQLModel, table=True):
    """One notification on one channel (R23): about a top-up, or about the balance event that began a low balance."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("top_up_id", "kind", "channel", name="delivery_once_per_channel"),
        UniqueConstraint("event_id", "kind", "channel", name="delivery_once_per_event"),
        UniqueConstraint("stop_token", name="delivery_stop_token_once"),
        Index("delivery_pending", "created_at", postgresql_where=text("status = 'pending'")),
        Index("delivery_given_up", "created_at", postgresql_where=text("status = 'undeliverable'")),
        CheckConstraint("(top_up_id IS NULL) <> (event_id IS NULL)", name="delivery_about_one_thing"),
        CheckConstraint("status IN ('pending', 'sent', 'undeliverable')", name="delivery_status_known"),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    top_up_id: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("top_up.id")))
    event_id: str | None = Field(default=None, sa_type=Text)
    owner_id: str = Field(sa_type=Text, foreign_key="owner.id", index=True)
    kind: str = Field(sa_type=Text)
    channel: str = Field(sa_type=Text)
    subject: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    last_failure: str | None = Field(default=None, sa_type=Text)
    stop_token: str | None = Field(default=None, sa_type=Text)
    """What its reader can turn off notices of this kind with, without signing in; only where one may."""
    created_at: datetime = _moment(default=True)
    sent_at: datetime | None = _moment(nullable=True)


class PushReceipt(SQLModel, table=True):
    """A browser's push service has taken this delivery: it is not sent there again. It outlives the subscription."""

    __tablename__ = "push_receipt"

    delivery_id: str = Field(sa_column=Column(Text, ForeignKey("delivery.id"), primary_key=True))
    subscription_id: str = Field(sa_type=Text, primary_key=True)
    at: datetime = _moment(default=True)


class PushKey(SQLModel, table=True):
    """The key pair by which push services know us (VAPID), one for all programs; made when it is first needed."""

    __tablename__ = "push_key"
    __table_args__ = (CheckConstraint("id = 1", name="push_key_only_one"),)

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    private_key: str = Field(sa_type=Text)
    """The number on P-256, in base64url: whoever has it can write in our name."""
    public_key: str = Field(sa_type=Text)
    """The uncompressed point, in base64url: what a browser subscribes with."""
    created_at: datetime = _moment(default=True)


class Rate(SQLModel, table=True):
    """One whole unit of `asset` is worth `rate` whole units of `currency`, in the embedded ledger."""

    __table_args__ = (CheckConstraint("rate > 0 AND rate < 'Infinity'", name="rate_positive"),)

    asset: str = Field(sa_type=Text, primary_key=True)
    currency: str = Field(sa_type=Text, primary_key=True)
    rate: Decimal = Field(sa_column=Column(Numeric, nullable=False))


class Fault(SQLModel, table=True):
    """Development only: how the next `times` draws from one source go wrong."""

    owner_id: str = Field(sa_column=Column(Text, ForeignKey("owner.id"), primary_key=True))
    account: str = Field(sa_type=Text, primary_key=True)
    asset: str = Field(sa_type=Text, primary_key=True)
    fault: str = Field(sa_type=Text)
    times: int


class ApiKey(SQLModel, table=True):
    """A bearer key; only its hash is kept."""

    __tablename__ = "api_key"

    id: str = Field(sa_type=Text, primary_key=True)
    name: str = Field(sa_type=Text)
    hash: str = Field(sa_type=Text, unique=True)
    scopes: list[str] = _texts()
    owner_id: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("owner.id")))
    created_at: datetime = _moment(default=True)
    expires_at: datetime | None = _moment(nullable=True)
    revoked_at: datetime | None = _moment(nullable=True)


class KeptAnswer(SQLModel, table=True):
    """The answer to a request with an Idempotency-Key, written in the same commit as the request's effect."""

    __tablename__ = "kept_answer"

    api_key_id: str = Field(sa_type=Text, primary_key=True)
    route: str = Field(sa_type=Text, primary_key=True)
    """Method and path, as asked."""
    key: str = Field(sa_type=Text, primary_key=True)
    request_hash: str = Field(sa_type=Text)
    status: int | None = None
    headers: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    body: str | None = Field(default=None, sa_type=Text)
    at: datetime = _moment(default=True)


class PushSubscriptionRow(SQLModel, table=True):
    """A browser that an owner's push notifications go to, as it gave itself out (R23)."""

    __tablename__ = "push_subscription"
    __table_args__ = (UniqueConstraint("owner_id", "endpoint", name="push_subscription_once_per_browser"),)

    id: str = Field(sa_type=Text, primary_key=True)
    owner_id: str = Field(sa_type=Text, foreign_key="owner.id")
    endpoint: str = Field(sa_type=Text)
    """Whoever knows it and the keys can write to the browser: shown to nobody."""
    p256dh: str = Field(sa_type=Text)
    auth: str = Field(sa_type=Text)
    created_at: datetime = _moment(default=True)
    expires_at: datetime | None = _moment(nullable=True)


class BalanceReport(SQLModel, table=True):
    """How a wallet that is kept elsewhere stands, by the newest report that was accepted."""

    __tablename__ = "balance_report"

    wallet_id: str = Field(sa_column=Column(Text, ForeignKey("wallet.id"), primary_key=True))
    balance: int = _units()
    version: int = Field(sa_type=BigInteger)
    event_id: str = Field(sa_type=Text)
    occurred_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    received_at: datetime = _moment(default=True)


class Asset(SQLModel, table=True):
    """The asset registry of `topup.money`, for what is written out in the database; never changed."""

    __table_args__ = (CheckConstraint("scale BETWEEN 0 AND 18", name="asset_scale_possible"),)

    code: str = Field(sa_type=Text, primary_key=True)
    scale: int


class EventRow(SQLModel, table=True):
    """A public event, written in the commit it tells of; its place in the feed is (xact, seq)."""

    __tablename__ = "event"
    __table_args__ = (Index("event_of_owner", "owner_id", "xact", "seq"),)

    xact: str | None = Field(
        default=None,
        sa_column=Column(Xid8, primary_key=True, server_default=text("pg_current_xact_id()")),
    )
    seq: int | None = _serial()
    id: str = Field(sa_type=Text)
    owner_id: str = Field(sa_type=Text)
    type: str = Field(sa_type=Text)
    at: datetime = _moment(default=True)
    payload: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class EventMark(SQLModel, table=True):
    """A place in the feed: up to where deliveries were made, or up to where events were dropped."""

    __tablename__ = "event_mark"
    __table_args__ = (CheckConstraint("name IN ('handed_out', 'dropped')", name="event_mark_known"),)

    name: str = Field(sa_type=Text, primary_key=True)
    xact: str = Field(sa_column=Column(Xid8, nullable=False))
    seq: int = Field(sa_type=BigInteger)


class WebhookEndpoint(SQLModel, table=True):
    """A URL that an owner's events are sent to; `since` is the commit from which on events count for it."""

    __tablename__ = "webhook_endpoint"
    __table_args__ = (
        CheckConstraint("enabled = (disabled_reason IS NULL)", name="webhook_endpoint_off_with_reason"),
        CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_until IS NULL)",
            name="webhook_endpoint_previous_with_end",
        ),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    owner_id: str = Field(sa_type=Text, foreign_key="owner.id", index=True)
    url: str = Field(sa_type=Text)
    events: list[str] = _texts()
    description: str | None = Field(default=None, sa_type=Text)
    secret: str = Field(sa_type=Text)
    previous_secret: str | None = Field(default=None, sa_type=Text)
    previous_secret_until: datetime | None = _moment(nullable=True)
    enabled: bool = _flag(default="true")
    disabled_reason: str | None = Field(default=None, sa_type=Text)
    failing_since: datetime | None = _moment(nullable=True)
    since: str | None = Field(
        default=None, sa_column=Column(Xid8, nullable=False, server_default=text("pg_current_xact_id()"))
    )
    created_at: datetime = _moment(default=True)


class WebhookDelivery(SQLModel, table=True):
    """One event for one endpoint; its id is the message's, the same at every attempt."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id", name="webhook_delivery_once_per_event"),
        CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="webhook_delivery_status_known"),
        Index(
            "webhook_delivery_due",
            "next_attempt_at",
            "endpoint_id",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("webhook_delivery_of_endpoint", "endpoint_id", "id"),
        Index(
            "webhook_delivery_pending",
            "endpoint_id",
            "next_attempt_at",
            postgresql_where=text("status = 'pending'"),
        ),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    endpoint_id: str = Field(
        sa_column=Column(Text, ForeignKey("webhook_endpoint.id", ondelete="CASCADE"), nullable=False)
    )
    event_id: str = Field(sa_type=Text)
    type: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)
    status: str = Field(default=None, sa_type=Text, sa_column_kwargs={"server_default": text("'pending'")})
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    last_status: int | None = None
    last_failure: str | None = Field(default=None, sa_type=Text)
    last_attempt_at: datetime | None = _moment(nullable=True)
    next_attempt_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    queued_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    delivered_at: datetime | None = _moment(nullable=True)
    created_at: datetime = _moment(default=True)


class Person(SQLModel, table=True):
    """Someone who signs in to the pages: an owner, or an operator; `handle` is what authenticators know them by."""

    __table_args__ = (
        CheckConstraint("kind IN ('owner', 'operator')", name="person_kind_known"),
        CheckConstraint("(kind = 'owner') = (owner_id IS NOT NULL)", name="person_owner_is_one"),
        UniqueConstraint("owner_id", name="person_one_per_owner"),
        UniqueConstraint("handle", name="person_handle_once"),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    kind: str = Field(sa_type=Text)
    owner_id: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("owner.id")))
    name: str = Field(sa_type=Text)
    handle: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = _moment(default=True)


class PasskeyRow(SQLModel, table=True):
    """One passkey of a person; `suspect_at` when its counter went backwards, as a copy's would."""

    __tablename__ = "passkey"
    __table_args__ = (
        UniqueConstraint("credential_id", name="passkey_credential_once"),
        Index("passkey_of_person", "person_id", "id"),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    person_id: str = Field(sa_type=Text, foreign_key="person.id")
    name: str = Field(sa_type=Text)
    credential_id: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    public_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sign_count: int = Field(sa_type=BigInteger)
    transports: list[str] = _texts()
    backed_up: bool
    created_at: datetime = _moment(default=True)
    last_used_at: datetime | None = _moment(nullable=True)
    suspect_at: datetime | None = _moment(nullable=True)


class RecoveryCode(SQLModel, table=True):
    """One way in for a person without their passkeys, usable once; only its hash is kept."""

    __tablename__ = "recovery_code"
    __table_args__ = (Index("recovery_code_of_person", "person_id"),)

    hash: str = Field(sa_type=Text, primary_key=True)
    person_id: str = Field(sa_type=Text, foreign_key="person.id")
    created_at: datetime = _moment(default=True)
    used_at: datetime | None = _moment(nullable=True)


class RegistrationLink(SQLModel, table=True):
    """A link by which a person registers a passkey, once; only its hash is kept."""

    __tablename__ = "registration_link"

    hash: str = Field(sa_type=Text, primary_key=True)
    person_id: str = Field(sa_type=Text, foreign_key="person.id")
    made_by: str = Field(sa_type=Text)
    created_at: datetime = _moment(default=True)
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    used_at: datetime | None = _moment(nullable=True)


class Ceremony(SQLModel, table=True):
    """A challenge given to a browser, gone as soon as it was answered."""

    __table_args__ = (
        CheckConstraint(
            "purpose IN ('sign_in', 'register', 'add_passkey', 'recovery_codes')",
            name="ceremony_purpose_known",
        ),
        Index("ceremony_by_end", "expires_at"),
    )

    hash: str = Field(sa_type=Text, primary_key=True)
    purpose: str = Field(sa_type=Text)
    challenge: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    person_id: str | None = Field(default=None, sa_column=Column(Text, ForeignKey("person.id")))
    link_hash: str | None = Field(default=None, sa_type=Text)
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class PageSession(SQLModel, table=True):
    """A browser that a person has signed in with; only the hash of what its cookie holds is kept."""

    __tablename__ = "page_session"
    __table_args__ = (
        UniqueConstraint("id", name="page_session_named_once"),
        Index("page_session_of_person", "person_id"),
    )

    hash: str = Field(sa_type=Text, primary_key=True)
    id: str = Field(sa_type=Text)
    person_id: str = Field(sa_type=Text, foreign_key="person.id")
    csrf: str = Field(sa_type=Text)
    passkey_id: str | None = Field(default=None, sa_type=Text)
    recovering: bool
    """Signed in with a recovery code: good for registering a new passkey, and nothing else."""
    browser: str = Field(sa_type=Text)
    created_at: datetime = _moment(default=True)
    last_seen_at: datetime = _moment(default=True)
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Confirmation(SQLModel, table=True):
    """The terms a person was shown, to be confirmed with a passkey once, in time, or never (R3)."""

    __table_args__ = (
        CheckConstraint("action IN ('create', 'edit', 'enable')", name="confirmation_action_known"),
        CheckConstraint("(action = 'create') = (rule_id IS NULL)", name="confirmation_names_its_rule"),
        CheckConstraint("(rule_id IS NULL) = (base_version IS NULL)", name="confirmation_has_its_version"),
        Index("confirmation_of_person", "person_id"),
    )

    id: str = Field(sa_type=Text, primary_key=True)
    person_id: str = Field(sa_type=Text, foreign_key="person.id")
    wallet_id: str = Field(sa_type=Text, foreign_key="wallet.id")
    rule_id: str | None = Field(default=None, sa_type=Text)
    action: str = Field(sa_type=Text)
    base_version: int | None = Field(default=None, sa_column=Column(BigInteger))
    snapshot: str = Field(sa_type=Text)
    """Canonical JSON: what the page shows and the challenge is made of."""
    challenge: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = _moment(default=True)
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    used_at: datetime | None = _moment(nullable=True)
