"""From refusal to HTTP: the only table of what each exception means to a caller, and the words that go with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.exceptions import HTTPException
from starlette.responses import Response

from adapters.postgres.answers import Answer, FirstStillRunning, KeyReused
from adapters.postgres.database import DatabaseOutOfReach
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
from api.limits import TooMany
from api.methods import methods_of
from api.once import KeyMissing, KeyUnusable
from api.patience import NoAnswerInTime
from api.pointers import field_problems
from api.problems import FieldProblem, problem
from api.readiness import NotReady
from api.streams import StreamsTooMany
from api.versions import VersionForeign, VersionMissing
from api.wire import FieldsInvalid
from runtime.logs import redact_keys
from runtime.payloads import PayloadKeyMissing, PayloadNotGenuine
from topup.rule import TermsInvalid


@dataclass(frozen=True, slots=True)
class Refusal:
    """How one kind of refusal is answered; `detail` None: the exception's own words."""

    status: int
    code: str
    title: str
    detail: str | None = None
    retry_after: int | None = None
    """Seconds after which asking again makes sense."""


_INVALID = Refusal(
    422, "invalid", "The request is not valid", "Correct the fields named in `errors` and send it again."
)
_UNAVAILABLE = Refusal(
    503,
    "unavailable",
    "Out of reach for the moment",
    "The database cannot be reached or is too busy. Nothing is half done: repeat the request, a POST with the same "
    "Idempotency-Key.",
    retry_after=2,
)
_DEFECT = Refusal(
    500,
    "internal",
    "Something is broken here",
    "This is a defect of the server, and it has been logged. When reporting it, give the request id.",
)

REFUSALS: Mapping[type[Exception], Refusal] = MappingProxyType(
    {
        KeyMissing: Refusal(400, "idempotency_key_required", "An Idempotency-Key is needed"),
        KeyUnusable: Refusal(400, "idempotency_key_invalid", "The Idempotency-Key cannot be used"),
        Unauthenticated: Refusal(401, "unauthenticated", "No valid API key"),
        ScopeMissing: Refusal(403, "forbidden", "The API key does not allow this"),
        KeyBound: Refusal(403, "forbidden", "The API key does not allow this"),
        NotAnOperator: Refusal(403, "forbidden", "Only for operators"),
        OwnerUnknown: Refusal(404, "not_found", "There is no such owner"),
        WalletUnknown: Refusal(404, "not_found", "There is no such wallet"),
        RuleUnknown: Refusal(404, "not_found", "There is no such rule"),
        TopUpUnknown: Refusal(404, "not_found", "There is no such top-up"),
        EndpointUnknown: Refusal(404, "not_found", "There is no such webhook endpoint"),
        MessageUnknown: Refusal(404, "not_found", "The endpoint has no such delivery"),
        BalanceInsufficient: Refusal(409, "insufficient_balance", "The wallet does not hold enough"),
        WalletKeptElsewhere: Refusal(409, "wallet_kept_elsewhere", "The wallet's balance is kept elsewhere"),
        WalletKeptHere: Refusal(409, "wallet_kept_here", "The wallet's balance is kept by the ledger"),
        EventIdReused: Refusal(409, "event_id_reused", "The event id belongs to another event"),
        SubscriptionUnknown: Refusal(404, "not_found", "There is no such push subscription"),
        SubscriptionsTooMany: Refusal(
            409, "too_many_subscriptions", "The owner has as many push subscriptions as it may"
        ),
        RuleExists: Refusal(409, "rule_exists", "The wallet has a rule already"),
        RuleLocked: Refusal(409, "rule_locked", "The rule is locked by its top-up", retry_after=2),
        EndpointsTooMany: Refusal(409, "too_many_endpoints", "The owner has as many endpoints as it may"),
        EndpointOff: Refusal(409, "endpoint_off", "The webhook endpoint is off"),
        FirstStillRunning: Refusal(409, "still_running", "The first request is still running", retry_after=2),
        EventsGone: Refusal(410, "events_gone", "The events behind this id are no longer kept"),
        VersionStale: Refusal(412, "version_stale", "The rule has changed meanwhile"),
        VersionForeign: Refusal(412, "version_stale", "This is no version of the rule"),
        KeyReused: Refusal(422, "idempotency_key_reused", "The Idempotency-Key belongs to another request"),
        TermsInvalid: _INVALID,
        FieldsInvalid: _INVALID,
        RequestValidationError: _INVALID,
        PayloadsUnreadable: Refusal(400, "malformed", "The body cannot be read"),
        PayloadKeyMissing: Refusal(422, "payload_key_missing", "The key of this payload is not here"),
        PayloadNotGenuine: Refusal(422, "payload_not_genuine", "This payload is not what was written"),
        VersionMissing: Refusal(428, "version_required", "The rule's version is needed"),
        TooMany: Refusal(429, "rate_limited", "Too many requests"),
        StreamsTooMany: Refusal(429, "too_many_streams", "Too many streams are open", retry_after=10),
        DatabaseOutOfReach: _UNAVAILABLE,
        NoAnswerInTime: _UNAVAILABLE,
        PoolExhausted: _UNAVAILABLE,
        OperationalError: _UNAVAILABLE,
        InterfaceError: _UNAVAILABLE,
        InternalError: _UNAVAILABLE,
        NotReady: Refusal(503, "not_ready", "Not ready to serve", retry_after=5),
    }
)
"""What is not in here is a defect and answered with 500."""

_BY_STATUS: Mapping[int, Refusal] = MappingProxyType(
    {
        400: Refusal(
            400,
            "malformed",
            "The body cannot be read",
            "Send the body as JSON in UTF-8, not too deeply nested.",
        ),
        404: Refusal(404, "not_found", "There is nothing here", "Check the path and the id in it."),
        405: Refusal(
            405, "method_not_allowed", "Not this method", "Use a method that the header Allow names."
        ),
        413: Refusal(413, "too_large", "The body is too large"),
        415: Refusal(
            415, "media_type_unsupported", "Not JSON", "Send JSON as `Content-Type: application/json`."
        ),
    }
)
"""Refusals by the web framework itself."""

COMMON = (Unauthenticated, ScopeMissing, TooMany, OperationalError, RuntimeError)
"""What every route under /v1 may answer. What follows from a route's form, such as a body that cannot be read, the
description adds by itself."""

Kind = type[Exception] | int
"""What is refused: an exception of ours, or a status the web framework refuses with."""

KINDS = "x-kinds"
"""Where a route's answer keeps its kinds until the description tells of them."""


def refused(error: Exception, request: Request) -> Answer:
    """The answer to a refusal, as a problem document. What the table does not know is a defect."""
    refusal = find_refusal(error) or _DEFECT
    return problem(
        status=refusal.status,
        code=refusal.code,
        title=refusal.title,
        detail=redact_keys(refusal.detail or _own_words(error)),
        request_id=request_id_of(request),
        errors=_errors(error),
        extra=_extra(error),
        headers=_headers(error, refusal, request),
    )


def find_refusal(error: Exception) -> Refusal | None:
    """What the table says about the exception or the nearest of its kinds; None for a defect."""
    match error:
        case RequestValidationError() if _is_malformed(error):
            return _BY_STATUS[400]
        case RequestValidationError() if _names_nothing(error):
            return _BY_STATUS[404]
        case HTTPException():
            return _BY_STATUS.get(error.status_code) or _plain(error.status_code)
        case _:
            kinds = (kind for kind in type(error).__mro__ if issubclass(kind, Exception))
            return next((REFUSALS[kind] for kind in kinds if kind in REFUSALS), None)


def request_id_of(request: Request) -> str:
    """The id under which this request can be found in the logs."""
    found: str = getattr(request.state, "request_id", "")
    return found


def respond(answer: Answer) -> Response:
    """The answer as a response."""
    return Response(answer.body, status_code=answer.status, headers=dict(answer.headers))


def install_refusals(app: FastAPI) -> None:
    """Let the framework's own refusals be told in the same way as ours."""

    async def tell(request: Request, error: Exception) -> Response:
        return respond(refused(error, request))

    for kind in (HTTPException, RequestValidationError):
        app.add_exception_handler(kind, tell)


def refusals(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The problem answers of a route, for its description: those named, and those of every route."""
    return only_refusals(*kinds, *COMMON)


def only_refusals(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The same for a route that needs no key: those named and no others."""
    told: dict[int, list[Kind]] = {}
    for kind in kinds:
        told.setdefault(refusal_of(kind).status, []).append(kind)
    return {
        status: {"description": HTTPStatus(status).phrase, KINDS: [name_of(kind) for kind in found]}
        for status, found in sorted(told.items())
    }


def refusal_of(kind: Kind) -> Refusal:
    """What the table says about the kind; what it does not know is a defect."""
    return _BY_STATUS[kind] if isinstance(kind, int) else REFUSALS.get(kind, _DEFECT)


def name_of(kind: Kind) -> str | int:
    """The name under which a route's answer keeps the kind."""
    return kind if isinstance(kind, int) else kind.__name__


def kind_named(name: str | int) -> Kind:
    """The kind that a route's answer keeps under this name."""
    known: tuple[Kind, ...] = (*_BY_STATUS, *REFUSALS)
    return next((kind for kind in known if name_of(kind) == name), RuntimeError)


def _own_words(error: Exception) -> str:
    return str(error.detail) if isinstance(error, HTTPException) else str(error)


def _plain(status: int) -> Refusal:
    title = HTTPStatus(status).phrase
    return Refusal(status, title.lower().replace(" ", "_"), title)


def _is_malformed(error: RequestValidationError) -> bool:
    return any(problem["type"] == "json_invalid" for problem in error.errors())


def _names_nothing(error: RequestValidationError) -> bool:
    """Whether the path itself holds an id that cannot exist."""
    return any(problem["loc"][0] == "path" for problem in error.errors())


def _errors(error: Exception) -> Sequence[FieldProblem]:
    match error:
        case TermsInvalid() | FieldsInvalid():
            return [
                FieldProblem(pointer=f"/{problem.field}", message=problem.message)
                for problem in error.problems
            ]
        case RequestValidationError():
            return [] if _names_nothing(error) else field_problems(error.errors())
        case _:
            return ()


def _extra(error: Exception) -> Mapping[str, Any]:
    match error:
        case RuleLocked():
            return {"top_up_id": error.top_up_id}
        case RuleExists():
            return {"rule_id": error.rule_id}
        case NotReady():
            return {"checks": error.checks}
        case _:
            return {}


def _headers(error: Exception, refusal: Refusal, request: Request) -> Mapping[str, str]:
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if "Allow" in headers:
        headers["Allow"] = methods_of(request.url.path, request.app.state.given.routes)
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    match error:
        case Unauthenticated():
            invalid = ', error="invalid_token"' if error.key_sent else ""
            headers["WWW-Authenticate"] = f'Bearer realm="tidemark"{invalid}'
        case ScopeMissing():
            scope = f'error="insufficient_scope", scope="{error.scope.value}"'
            headers["WWW-Authenticate"] = f'Bearer realm="tidemark", {scope}'
        case TooMany():
            headers |= {**error.standing.headers, "Retry-After": str(error.standing.reset_seconds)}
        case _:
            pass
    return headers
