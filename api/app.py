"""The application: routes, refusals and middleware put together, and what runs beside them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial

import structlog
from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware import Middleware

from adapters.notify.push_services import PushHosts
from adapters.postgres.answers import forget_old_answers
from adapters.postgres.database import Database
from adapters.postgres.keys import find_holder
from api import (
    backtest,
    balance_events,
    events,
    health,
    ledger,
    metrics,
    owners,
    push_subscriptions,
    reference,
    registration_links,
    rules,
    top_ups,
    wallets,
    webhooks,
)
from api.authentication import METRICS_PATH, OPEN_PATHS, Authentication
from api.bodies import Bodies
from api.codec import PATHS as CODEC_PATHS
from api.codec import Door, codec_router, origin_of
from api.description import install_description
from api.envelope import Envelope, Refusing
from api.given import Given
from api.limits import Limits
from api.measures import Measures
from api.origins import Origins
from api.patience import PATIENCE_SECONDS, Patience
from api.refusals import install_refusals
from api.streams import Streams
from console.rooms import add_pages, is_page
from console.wiring import Wiring
from runtime.payloads import PayloadEncryption
from runtime.points import StoppedPayments, points_of
from runtime.rights import warn_of_rights
from runtime.settings import Settings
from runtime.temporal import keys_of

_FORGET_EVERY = timedelta(hours=1)
_log = structlog.get_logger(__name__)


def build_app(
    settings: Settings,
    *,
    database: Database,
    reach_temporal: Callable[[], Awaitable[None]],
    temporal_namespace: str = "default",
) -> FastAPI:
    """Put API and pages together. It opens and closes nothing: that is its caller's."""
    measures = Measures()
    limits = Limits(per_key=settings.rate_limit, per_address=settings.rate_limit_unauthenticated)
    app = FastAPI(
        title="Tidemark",
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=partial(_lifespan, settings, database),
        middleware=_layers(settings, database, measures, limits),
    )
    # A route is complete where it is made: including its router would work it out again, at the first request.
    routes = tuple(route for router in _routers(settings) for route in router.routes)
    app.router.routes.extend(routes)
    streams = _streams(settings, database)
    app.state.given = Given(
        database,
        reach_temporal,
        measures,
        streams,
        settings.webhooks_allow_private,
        PushHosts.read(settings.push_hosts),
        routes,
    )
    app.router.routes.extend(reference.router.routes)
    if settings.payload_keys:
        app.router.routes.extend(_codec(settings, database, limits).routes)
    add_pages(app, _pages(settings, database, streams, limits, temporal_namespace))
    install_refusals(app)
    install_description(app)
    return app


def _streams(settings: Settings, database: Database) -> Streams:
    return Streams(
        database=database,
        database_url=settings.database_url,
        per_key=settings.streams_per_key,
        lifetime=settings.stream_lifetime,
        poll_interval=settings.poll_interval,
    )


def _pages(
    settings: Settings, database: Database, streams: Streams, limits: Limits, namespace: str
) -> Wiring:
    return Wiring(
        database=database,
        streams=streams,
        limits=limits,
        push_hosts=PushHosts.read(settings.push_hosts),
        public_url=settings.public_url,
        development=settings.environment == "development",
        temporal_ui_url=settings.temporal_ui_url,
        temporal_namespace=namespace,
    )


def _codec(settings: Settings, database: Database, limits: Limits) -> APIRouter:
    door = Door(database, limits, origin_of(settings.temporal_ui_url))
    return codec_router(PayloadEncryption(keys_of(settings)), door)


def _layers(settings: Settings, database: Database, measures: Measures, limits: Limits) -> list[Middleware]:
    """What a request passes on its way in: nothing of its body is read before its caller is known and counted."""
    origins = frozenset((settings.cors_origins or "").split(",")) - {""}
    codec_paths = CODEC_PATHS if settings.payload_keys else frozenset[str]()
    return [
        Middleware(Envelope, encrypted=settings.public_url.startswith("https://"), count=measures.count),
        Middleware(
            Origins,
            allowed=origins,
            codec_origin=origin_of(settings.temporal_ui_url),
            codec_paths=codec_paths,
        ),
        Middleware(Refusing),
        Middleware(Patience, seconds=PATIENCE_SECONDS),
        Middleware(
            Authentication,
            find_holder=partial(find_holder, database),
            limits=limits,
            counted_elsewhere=lambda path: is_page(path) or path in codec_paths,
            open_paths=OPEN_PATHS | ({METRICS_PATH} if settings.metrics_open else set()),
        ),
        Middleware(Bodies),
        *_points(settings),
    ]


def _points(settings: Settings) -> list[Middleware]:
    points = points_of(settings)
    return [Middleware(StoppedPayments, points=points)] if points else []


def _routers(settings: Settings) -> tuple[APIRouter, ...]:
    """All routes; the switch that makes draws fail exists in development only."""
    rooms = (
        owners, registration_links, wallets, ledger, balance_events, rules, backtest, top_ups, events, webhooks,
        push_subscriptions, health,
    )  # fmt: skip
    routers = tuple(room.router for room in rooms)
    measures = metrics.open_router if settings.metrics_open else metrics.router
    development = (ledger.development_router,) if settings.environment == "development" else ()
    return (*routers, measures, *development)


@contextlib.asynccontextmanager
async def _lifespan(settings: Settings, database: Database, _app: FastAPI) -> AsyncIterator[None]:
    beside = (
        asyncio.create_task(_forget_in_time(database)),
        asyncio.create_task(warn_of_rights(settings, database)),
    )
    try:
        yield
    finally:
        for each in beside:
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each


async def _forget_in_time(database: Database) -> None:
    """Drop kept answers that are past their time, now and then; a database out of reach is tried the next time."""
    while True:
        with contextlib.suppress(SQLAlchemyError, OSError):
            forgotten = await forget_old_answers(database)
            _log.info("answers.forgotten", answers=forgotten)
        await asyncio.sleep(_FORGET_EVERY.total_seconds())
