"""Cases: each refusal of the API once, as the description shows it."""

from collections.abc import Mapping
from types import MappingProxyType

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from adapters.postgres.answers import FirstStillRunning, KeyReused
from adapters.postgres.events import EventsGone
from adapters.postgres.history import TopUpUnknown
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.payments import BalanceInsufficient, WalletKeptElsewhere
from adapters.postgres.push_subscriptions import SubscriptionsTooMany, SubscriptionUnknown
from adapters.postgres.reports import EventIdReused, WalletKeptHere
from adapters.postgres.rules import RuleExists, RuleLocked, RuleUnknown, VersionStale
from adapters.postgres.wallets import WalletUnknown
from adapters.postgres.webhooks import EndpointOff, EndpointsTooMany, EndpointUnknown, MessageUnknown
from api.authentication import KeyBound, ScopeMissing, Unauthenticated
from api.codec import NotAnOperator, PayloadsUnreadable
from api.examples import (
    DELIVERY_ID,
    ENDPOINT_ID,
    EVENT_ID,
    OWNER_ID,
    RULE_ID,
    SUBSCRIPTION_ID,
    TOP_UP_ID,
    WALLET_ID,
)
from api.limits import Standing, TooMany
from api.once import KeyMissing, KeyUnusable
from api.readiness import NotReady
from api.scopes import Scope
from api.streams import StreamsTooMany
from api.versions import VersionForeign, VersionMissing
from topup.money import Money

REFUSED: Mapping[type[Exception] | int, Exception] = MappingProxyType(
    {
        400: HTTPException(400),
        404: HTTPException(404),
        413: HTTPException(413, "A body may have at most 65536 bytes: send less."),
        415: HTTPException(415),
        BalanceInsufficient: BalanceInsufficient(Money.parse("20.00", "USDT"), Money.parse("12.50", "USDT")),
        EndpointOff: EndpointOff(f"{ENDPOINT_ID} is turned off: enable it, then send again."),
        EndpointsTooMany: EndpointsTooMany("An owner has at most 20 webhook endpoints: delete one first."),
        EndpointUnknown: EndpointUnknown(f"There is no webhook endpoint {ENDPOINT_ID!r}; check the id."),
        EventIdReused: EventIdReused(WALLET_ID, EVENT_ID),
        EventsGone: EventsGone(
            "Events behind this id are no longer kept: read from the API how things stand, then follow the events "
            "without an id."
        ),
        FirstStillRunning: FirstStillRunning(
            "The first request with this Idempotency-Key is still running; ask again shortly."
        ),
        KeyBound: KeyBound("This key is bound to one owner, and this concerns all of them: use a key without owner."),
        KeyMissing: KeyMissing("This moves money, so it needs an Idempotency-Key: send a fresh random one."),
        KeyReused: KeyReused("This Idempotency-Key was used for another request. Use a new key for a new request."),
        KeyUnusable: KeyUnusable(
            "An Idempotency-Key is 1 to 255 visible ASCII characters; a random UUID is a good one."
        ),
        MessageUnknown: MessageUnknown(f"There is no delivery {DELIVERY_ID!r} to {ENDPOINT_ID}; check the id."),
        NotAnOperator: NotAnOperator("Only an operator, signed in with a passkey, reads what is encrypted."),
        NotReady: NotReady({"temporal": {"ok": False, "detail": "no answer within 3 seconds"}}),
        OperationalError: OperationalError(None, None, Exception()),
        OwnerUnknown: OwnerUnknown(f"There is no owner {OWNER_ID!r}; check the id."),
        PayloadsUnreadable: PayloadsUnreadable(
            "Send the payloads as Temporal's codec protocol has them: JSON with a list `payloads`."
        ),
        RequestValidationError: RequestValidationError(
            [{"type": "missing", "loc": ("body", "amount"), "msg": "Field required", "input": {}}]
        ),
        RuleExists: RuleExists(WALLET_ID, RULE_ID),
        RuleLocked: RuleLocked(TOP_UP_ID),
        RuleUnknown: RuleUnknown(f"There is no rule {RULE_ID!r}; it may have been deleted, so check the id."),
        ScopeMissing: ScopeMissing(Scope.RULES_WRITE),
        StreamsTooMany: StreamsTooMany("This key has 10 streams open, as many as one may have: close one first."),
        SubscriptionsTooMany: SubscriptionsTooMany("An owner has at most 20 browsers: take one away first."),
        SubscriptionUnknown: SubscriptionUnknown(f"There is no push subscription {SUBSCRIPTION_ID!r}; check the id."),
        TooMany: TooMany(Standing("key", quota=600, window_seconds=60, remaining=0, reset_seconds=12)),
        TopUpUnknown: TopUpUnknown(f"There is no top-up {TOP_UP_ID!r}; check the id."),
        Unauthenticated: Unauthenticated(
            "This API key is unknown, expired or revoked: use a valid one.", key_sent=True
        ),
        VersionForeign: VersionForeign(
            'If-Match must be exactly one ETag of this rule, such as "3": read the rule again.'
        ),
        VersionMissing: VersionMissing("Send the rule's ETag, as you have read it, in the header If-Match."),
        VersionStale: VersionStale(4),
        WalletKeptElsewhere: WalletKeptElsewhere(WALLET_ID),
        WalletKeptHere: WalletKeptHere(WALLET_ID),
        WalletUnknown: WalletUnknown(f"There is no wallet {WALLET_ID!r}; check the id."),
    }
)  # fmt: skip
"""One case of each refusal."""
