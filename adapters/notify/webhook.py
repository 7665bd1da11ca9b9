"""Webhooks: a signed POST to a stranger's URL, as Standard Webhooks says, and never into a private network."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import httpx2
from standardwebhooks import Webhook

from adapters.notify.addresses import Resolve, resolve, url_fault
from adapters.notify.posting import NOWHERE, Answered, Post, Poster, Unanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent to whom; `id` stays the same at every attempt. Every secret signs."""

    id: str
    url: str = field(repr=False)
    body: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """The receiver has it."""

    status: int


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The receiver does not have it, or has not said so; in words that name neither URL, address nor secret."""

    failure: str
    status: int | None = None
    retry_after: timedelta | None = None
    """How long the receiver asked to be left alone."""
    gone: bool = False
    """The receiver wants no more of them, ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSender:
    """Sends each message on a connection of its own, to an address it has looked up and checked itself."""

    allow_private: bool
    timeout: timedelta = timedelta(seconds=15)
    """For all of one attempt: the look-up, the connection and the answer."""
    resolver: Resolve = resolve
    trust: ssl.SSLContext = field(default_factory=httpx2.create_ssl_context, repr=False)

    async def send(self, message: Message, *, now: datetime) -> Taken | NotTaken:
        """Make one attempt. Every failure is an answer; none is raised. An answer's body is not read."""
        if url_fault(message.url, allow_private=self.allow_private):
            return NotTaken(NOWHERE)
        poster = Poster(
            allow_private=self.allow_private, timeout=self.timeout, resolver=self.resolver, trust=self.trust
        )
        post = Post(url=message.url, content=message.body.encode(), headers=headers_of(message, now))
        match await poster.send(post, now=now):
            case Answered() as answer:
                return _read_answer(answer)
            case Unanswered(failure=failure):
                return NotTaken(failure)


def headers_of(message: Message, now: datetime) -> dict[str, str]:
    """The headers that a receiver verifies: one signature for each secret, over id, time and body."""
    moment = now.astimezone(UTC)  # The library takes any time for UTC.
    signatures = [Webhook(secret).sign(message.id, moment, message.body) for secret in message.secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Tidemark-Webhooks/1",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _read_answer(answer: Answered) -> Taken | NotTaken:
    status = answer.status
    if answer.is_success:
        return Taken(status)
    if status == HTTPStatus.GONE:
        return NotTaken("answered 410: it wants no more of them", status, gone=True)
    if answer.is_redirect:
        return NotTaken(f"answered {status}; redirects are not followed", status)
    return NotTaken(f"answered {status}", status, answer.retry_after)
