"""Push in development: the inbox shows every push, and browsers that have subscribed get it as well."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import httpx2

from activities.ports import Letter, Sender, Undeliverable
from adapters.notify.push import push_of


class InboxRefused(Exception):
    """The inbox did not take the push this time."""


@dataclass(frozen=True, slots=True)
class PushInboxSender:
    """Posts to the inbox at this address, then to `browsers`; development only."""

    inbox_url: str
    timeout: timedelta = timedelta(seconds=10)
    browsers: Sender | None = None

    async def send(self, letter: Letter) -> None:
        """Post the push; its tag is the delivery's id, so that a repeat replaces it.

        Raises InboxRefused, and what the browsers' sender raises; that an owner has no browser matters to nobody here.
        """
        await self._post(letter)
        if self.browsers is not None:
            with suppress(Undeliverable):
                await self.browsers.send(letter)

    async def _post(self, letter: Letter) -> None:
        push = {"to": letter.to_address, **push_of(letter)}
        try:
            async with httpx2.AsyncClient(timeout=self.timeout.total_seconds(), trust_env=False) as client:
                answer = await client.post(f"{self.inbox_url.rstrip('/')}/pushes", json=push)
        except httpx2.HTTPError as failure:
            message = f"the push inbox could not be reached ({type(failure).__name__})"
            raise InboxRefused(message) from None
        if not answer.is_success:
            message = f"the push inbox answered {answer.status_code}"
            raise InboxRefused(message)
