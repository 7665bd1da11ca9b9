"""What every route is given: the store, and what the running program allows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.routing import BaseRoute

from adapters.notify.push_services import PushHosts
from adapters.postgres.database import Database
from api.measures import Measures
from api.streams import Streams


@dataclass(frozen=True, slots=True)
class Given:
    """What the application was wired with."""

    database: Database
    reach_temporal: Callable[[], Awaitable[None]]
    """Ask Temporal for a sign of life; raises when there is none."""
    measures: Measures
    streams: Streams
    webhooks_allow_private: bool
    """Whether webhooks may go to private addresses and plain http."""
    push_hosts: PushHosts
    """The push services that a browser's subscription may name."""
    routes: tuple[BaseRoute, ...] = ()
    """Every route there is."""


def _given(request: Request) -> Given:
    given: Given = request.app.state.given
    return given


def _database(request: Request) -> Database:
    return _given(request).database


GivenDep = Annotated[Given, Depends(_given)]
DatabaseDep = Annotated[Database, Depends(_database)]
