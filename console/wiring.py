"""What the pages are wired with, and how a route gets at it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, Request

from adapters.notify.push_services import PushHosts
from adapters.postgres.database import Database
from adapters.postgres.events import EventRecord, Following, Position


class Reader(Protocol):
    """One stream of an owner's events."""

    def follow(self) -> AsyncIterator[EventRecord | None]:
        """Events as they come; None now and then, as a sign of life."""
        ...


class Streams(Protocol):
    """All streams of this program."""

    def open(self, following: Following, position: Position) -> AbstractAsyncContextManager[Reader]:
        """A reader from this place on, until the block ends."""
        ...


class Limits(Protocol):
    """How often somebody may ask."""

    def admit_key(self, key_id: str) -> object:
        """Count a request of somebody known by this id."""
        ...

    def admit_stranger(self, address: str | None) -> object:
        """Count a request of nobody known."""
        ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the pages need of the program around them."""

    database: Database
    streams: Streams
    limits: Limits
    push_hosts: PushHosts
    """The push services that may be written to."""
    public_url: str
    """Where people reach the pages: scheme, host and port, without a slash at the end."""
    development: bool
    """Whether there is a form to spend from a wallet."""
    temporal_ui_url: str | None
    temporal_namespace: str

    @property
    def origin(self) -> str:
        """The origin that browsers name."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def party_id(self) -> str:
        """The name passkeys are bound to (WebAuthn's RP ID): the host alone. Another name orphans every passkey."""
        return urlsplit(self.public_url).hostname or "localhost"


def _wiring(request: Request) -> Wiring:
    wiring: Wiring = request.app.state.console
    return wiring


def _database(request: Request) -> Database:
    return _wiring(request).database


WiringDep = Annotated[Wiring, Depends(_wiring)]
DatabaseDep = Annotated[Database, Depends(_database)]
