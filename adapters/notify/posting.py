"""A POST to a URL that a stranger gave: looked up and checked by us, connected to as checked, and followed nowhere."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2

from adapters.notify.addresses import AddressNotPublic, Resolve, find_addresses, resolve

NOWHERE = "the URL does not lead to a public address"

_PORTS = {"https": 443, "http": 80}
_SECONDS_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What is sent; `read_max` bytes of an answer that is no success are read, for who has to find out why."""

    url: str = field(repr=False)
    content: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    read_max: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """Whoever is there has answered."""

    status: int
    retry_after: timedelta | None = None
    """How long it asked to be left alone."""
    said: str = field(default="", repr=False)

    @property
    def is_success(self) -> bool:
        """Whether it took what was sent."""
        return 200 <= self.status < 300  # noqa: PLR2004 the two hundreds

    @property
    def is_redirect(self) -> bool:
        """Whether it wants us elsewhere."""
        return 300 <= self.status < 400  # noqa: PLR2004 the three hundreds


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer came, in words that name neither URL nor address."""

    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """Sends each on a connection of its own, to an address it has looked up and checked itself."""

    allow_private: bool
    timeout: timedelta
    """For all of one attempt: the look-up, the connection and the answer."""
    resolver: Resolve = resolve
    trust: ssl.SSLContext = field(default_factory=httpx2.create_ssl_context, repr=False)

    async def send(self, post: Post, *, now: datetime) -> Answered | Unanswered:
        """Make one attempt. Every failure is an answer; none is raised."""
        try:
            async with asyncio.timeout(self.timeout.total_seconds()):
                return await self._send(post, now)
        except TimeoutError:
            return Unanswered(f"no answer within {self.timeout.total_seconds():g} seconds")
        except AddressNotPublic:
            return Unanswered(NOWHERE)
        except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
            return Unanswered(_in_words(failure))
        except OSError:
            return Unanswered("the host name has no address")

    async def _send(self, post: Post, now: datetime) -> Answered:
        """Try the addresses in their order until one can be connected to."""
        parts = urlsplit(post.url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]
        *others, last = await find_addresses(
            host, port, resolver=self.resolver, allow_private=self.allow_private
        )
        for address in others:
            try:
                return await self._post(post, address, host, now)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._post(post, last, host, now)

    async def _post(self, post: Post, address: str, host: str, now: datetime) -> Answered:
        """Connect to the checked address itself, so that no second look-up can lead elsewhere; TLS asks for the host.

        No connection is kept: it could be taken for another host's at that address.
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
                httpx2.URL(post.url).copy_with(host=address),
                content=post.content,
                headers={"Host": urlsplit(post.url).netloc, **post.headers},
                extensions={"sni_hostname": host},
            ) as answer,
        ):
            pause = _read_retry_after(answer.headers.get("Retry-After", ""), now)
            said = "" if answer.is_success else await _read_some(answer, post.read_max)
            return Answered(answer.status_code, pause, said)


async def _read_some(answer: httpx2.Response, most: int) -> str:
    read = b""
    if most:
        async for part in answer.aiter_bytes():
            read += part
            if len(read) >= most:
                break
    return read[:most].decode(errors="replace")


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
