"""Web Push: each delivery to every browser of its owner, encrypted for it alone and signed by our own key."""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
import structlog
from py_vapid import Vapid02
from pywebpush import WebPusher

from activities.ports import Browsers, Letter, NotDeliveredYet, PushBrowser, Undeliverable
from adapters.notify.addresses import Resolve, resolve
from adapters.notify.posting import Answered, Post, Poster, Unanswered
from adapters.notify.push import push_content
from adapters.notify.push_services import PushHosts, endpoint_fault

NO_SUBSCRIPTION = "no push subscription: the owner has no device to push to"
KEPT_FOR = timedelta(hours=24)
"""How long a push service keeps a push for a browser that is away; then the mail has told it long ago."""
PAUSE_WHEN_REFUSED = timedelta(minutes=10)
"""Between attempts where it takes an operator before one can work."""

_SIGNED_FOR = timedelta(hours=12)
_TOPIC_LENGTH = 32
_SAID_MAX = 300
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Missed:
    """A browser that could not be reached this time."""

    failure: str
    retry_after: timedelta | None = None
    """How long its service asked to be left alone."""
    refused: bool = False
    """The service refuses us, and will until somebody here has a look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPushSender:
    """Sends to the push services that are allowed, at public addresses alone, and follows no redirect."""

    browsers: Browsers
    hosts: PushHosts
    contact: str
    """Whom a push service can turn to: `mailto:` and an address, or an https address."""
    allow_private: bool
    timeout: timedelta = timedelta(seconds=15)
    """For one browser; all are written to at once."""
    resolver: Resolve = resolve
    trust: ssl.SSLContext = field(default_factory=httpx2.create_ssl_context, repr=False)

    async def send(self, letter: Letter) -> None:
        """Send it to each browser that has not had it yet. One that is gone is forgotten.

        Raises Undeliverable when there is none at all, and NotDeliveredYet while one of them could not be reached.
        """
        listed = await self.browsers.list_for(letter.delivery_id, owner_id=letter.to_address)
        if not listed.unreached and not listed.reached:
            raise Undeliverable(NO_SUBSCRIPTION)
        key = Vapid02.from_raw((await self.browsers.signing_key()).encode())
        sending = [self._send_to(browser, letter, key) for browser in listed.unreached]
        answers = await asyncio.gather(*sending)
        missed = [answer for answer in answers if isinstance(answer, _Missed)]
        if missed:
            raise _not_yet(missed, of=len(answers) + listed.reached)
        if not listed.reached and not any(answers):
            raise Undeliverable(NO_SUBSCRIPTION)

    async def _send_to(self, browser: PushBrowser, letter: Letter, key: Vapid02) -> bool | _Missed:
        """Whether the browser was reached; False when it is gone."""
        if endpoint_fault(browser.endpoint, self.hosts, any_port=self.allow_private):
            return _Missed("its push service is not one of those that may be written to")
        now = datetime.now(UTC)
        match await self._poster.send(self._post(browser, letter, key, now), now=now):
            case Answered() as answer:
                return await self._conclude(browser, letter, answer)
            case Unanswered(failure=failure):
                return _Missed(failure)

    @property
    def _poster(self) -> Poster:
        return Poster(
            allow_private=self.allow_private, timeout=self.timeout, resolver=self.resolver, trust=self.trust
        )

    def _post(self, browser: PushBrowser, letter: Letter, key: Vapid02, now: datetime) -> Post:
        """What the browser's service gets (RFC 8030, 8188, 8291, 8292)."""
        keys = {"p256dh": browser.p256dh, "auth": browser.auth}
        encrypted = WebPusher({"endpoint": browser.endpoint, "keys": keys}).encode(push_content(letter))
        parts = urlsplit(browser.endpoint)
        expires = int((now + _SIGNED_FOR).timestamp())
        claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": expires, "sub": self.contact}
        headers = {
            **key.sign(claims),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(int(KEPT_FOR.total_seconds())),
            "Topic": _topic_of(letter),
            "Urgency": "high" if letter.is_urgent else "normal",
        }
        return Post(url=browser.endpoint, content=encrypted["body"], headers=headers, read_max=_SAID_MAX)

    async def _conclude(self, browser: PushBrowser, letter: Letter, answer: Answered) -> bool | _Missed:
        status, host = answer.status, urlsplit(browser.endpoint).hostname
        if answer.is_success:
            await self.browsers.record_reached(letter.delivery_id, browser)
            return True
        if status in _GONE:
            await self.browsers.forget(browser)
            _LOG.info("push.subscription_gone", subscription_id=browser.id, host=host, status=status)
            return False
        if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return _Missed(f"its push service answered {status}", answer.retry_after)
        _LOG.error("push_service.refused_us", host=host, status=status, said=" ".join(answer.said.split()))
        return _Missed(f"its push service refused us ({status}); that needs a look here", refused=True)


def _topic_of(letter: Letter) -> str:
    """What an undelivered push is replaced by: a newer one about the same top-up or wallet; tells nobody which."""
    digest = hashlib.sha256(letter.about.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:_TOPIC_LENGTH]


def _not_yet(missed: Sequence[_Missed], *, of: int) -> NotDeliveredYet:
    """What is said of those that were missed. The next attempt waits for as long as any service asked."""
    failures = "; ".join(dict.fromkeys(one.failure for one in missed))
    pause = max((one.retry_after for one in missed if one.retry_after), default=None)
    if pause is None and all(one.refused for one in missed):
        pause = PAUSE_WHEN_REFUSED
    return NotDeliveredYet(f"{len(missed)} of {of} browsers could not be reached: {failures}", pause)
