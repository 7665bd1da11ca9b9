"""Webhooks: a signed POST to a stranger's URL, as Standard Webhooks says, and never into a private network."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
from standardwebhooks import Webhook

from adapters.notify.addresses import AddressNotPublic, Resolve, find_addresses, resolve, url_fault

_PORTS = {"https": 443, "http": 80}
_SECONDS_DIGITS = 9
_NOWHERE = "the URL does not lead to a public address"


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
        """Make one attempt. Every failure is an answer; none is raised."""
        if url_fault(message.url, allow_private=self.allow_private):
            return NotTaken(_NOWHERE)
        try:
            async with asyncio.timeout(self.timeout.total_seconds()):
                return await self._send(message, now)
        except TimeoutError:
            return NotTaken(f"no answer within {self.timeout.total_seconds():g} seconds")
        except AddressNotPublic:
            return NotTaken(_NOWHERE)
        except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
            return NotTaken(_in_words(failure))
        except OSError:
            return NotTaken("the host name has no address")

    async def _send(self, message: Message, now: datetime) -> Taken | NotTaken:
        """Try the addresses in their order until one can be connected to."""
        parts = urlsplit(message.url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]
        *others, last = await find_addresses(
            host, port, resolver=self.resolver, allow_private=self.allow_private
        )
        headers = {"Host": parts.netloc, **headers_of(message, now)}
        for address in others:
            try:
                return await self._post(message, address, host, headers, now)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._post(message, last, host, headers, now)

    async def _post(
        self, message: Message, address: str, host: str, headers: Mapping[str, str], now: datetime
    ) -> Taken | NotTaken:
        """Connect to the checked address itself, so that no second look-up can lead elsewhere; TLS asks for the host.

        The answer's body is not read. No connection is kept: it could be taken for another host's at that address.
        """
        async with (
            httpx2.AsyncClient(
                verify=self.trust,
                trust_env=False,
                follow_redirects=False,
                timeout=self.timeout.total_seconds(),
            ) as client,
            client.stream(
                "POST",
                httpx2.URL(message.url).copy_with(host=address),
                content=message.body.encode(),
                headers=dict(headers),
                extensions={"sni_hostname": host},
            ) as answer,
        ):
            return _read_answer(answer, now)


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


def _read_answer(answer: httpx2.Response, now: datetime) -> Taken | NotTaken:
    status = answer.status_code
    if answer.is_success:
        return Taken(status)
    if status == HTTPStatus.GONE:
        return NotTaken("answered 410: it wants no more of them", status, gone=True)
    if answer.is_redirect:
        return NotTaken(f"answered {status}; redirects are not followed", status)
    return NotTaken(
        f"answered {status}", status, _read_retry_after(answer.headers.get("Retry-After", ""), now)
    )


def _read_retry_after(text: str, now: datetime) -> timedelta | None:
    """Seconds or a date; anything else was not meant for us."""
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=int(text[:_SECONDS_DIGITS]))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(timedelta(), moment.replace(tzinfo=moment.tzinfo or UTC) - now)


def _in_words(failure: Exception) -> str:
    """What kind of failure it was, and no more: the words of the library may name the address."""
    match failure:
        case httpx2.ConnectError() if _has_cause(failure, ssl.SSLError):
            return "no TLS connection could be made: is the certificate valid for this host?"
        case httpx2.ConnectError():
            return "no connection could be made"
        case httpx2.TimeoutException():
            return "no answer in time"
        case httpx2.TransportError():
            return "the connection ended before the answer"
        case _:
            return "nothing could be sent to this URL"


def _has_cause(failure: BaseException, kind: type[BaseException]) -> bool:
    cause: BaseException | None = failure
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
