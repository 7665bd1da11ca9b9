"""Push in development: what would be pushed to the owner's devices is put into the inbox."""

from dataclasses import dataclass
from datetime import timedelta

import httpx2

from activities.ports import Letter


class InboxRefused(Exception):
    """The inbox did not take the push this time."""


@dataclass(frozen=True, slots=True)
class PushInboxSender:
    """Posts to the inbox at this address; development only."""

    inbox_url: str
    timeout: timedelta = timedelta(seconds=10)

    async def send(self, letter: Letter) -> None:
        """Post the push; `tag` is the delivery's id, so that a repeat replaces it. Raises InboxRefused."""
        try:
            async with httpx2.AsyncClient(timeout=self.timeout.total_seconds(), trust_env=False) as client:
                answer = await client.post(f"{self.inbox_url.rstrip('/')}/pushes", json=push_of(letter))
        except httpx2.HTTPError as failure:
            message = f"the push inbox could not be reached ({type(failure).__name__})"
            raise InboxRefused(message) from None
        if not answer.is_success:
            message = f"the push inbox answered {answer.status_code}"
            raise InboxRefused(message)


def push_of(letter: Letter) -> dict[str, str]:
    """The push as a device would show it; `url` is where a tap on it leads, below the product's own address."""
    return {
        "to": letter.to_address,
        "title": letter.subject,
        "body": "\n".join([letter.why, *letter.lines, *([letter.next_step] if letter.next_step else [])]),
        "tag": letter.delivery_id,
        "url": f"/v1/top-ups/{letter.top_up_id}",
    }
