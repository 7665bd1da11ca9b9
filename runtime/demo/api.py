"""The demo's way into the product: its HTTP API, the inbox of its owners, and patience with both."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import httpx2

_ANSWER_SECONDS = 30.0
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.1
_PAGE_LIMIT = 100
_CONNECTIONS_MAX = 100

Found = TypeVar("Found")


class AnsweredOtherwise(RuntimeError):
    """The API answered with a status that the story has no use for."""


class NotInTime(RuntimeError):
    """What the story waits for did not come to pass."""


class Api:
    """Calls the API with one key, and reads the inbox. Calls may come from several threads."""

    def __init__(self, address: str, *, key: str, inbox: str) -> None:
        """Open a client for each of the two; proxies of the environment are left aside."""
        self._inbox = httpx2.Client(base_url=inbox, timeout=_ANSWER_SECONDS, trust_env=False)
        self._client = httpx2.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_ANSWER_SECONDS,
            limits=httpx2.Limits(max_connections=_CONNECTIONS_MAX),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        """Open for use in a `with`."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the connections."""
        self._client.close()
        self._inbox.close()

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, version: int | None = None
    ) -> httpx2.Response:
        """Give the answer, whatever it is. Each POST counts as a new one; `version` is the rule's to be changed."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        return self._client.request(method, path, json=body, headers=headers)

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Read one thing. Raises `AnsweredOtherwise`."""
        return _body(self._client.get(path, params=query))

    def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, version: int | None = None
    ) -> dict[str, Any]:
        """Have something done, and give what the API says of it. Raises `AnsweredOtherwise`."""
        return _body(self.ask(method, path, body, version=version))

    def each(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Read a whole list, newest first. Raises `AnsweredOtherwise`."""
        page = self.get(path, limit=_PAGE_LIMIT, **query)
        yield from page["data"]
        while page["has_more"]:
            page = self.get(path, limit=_PAGE_LIMIT, after=page["next_cursor"], **query)
            yield from page["data"]

    def letters(self, to: str) -> list[dict[str, Any]]:
        """Read what the inbox took for one recipient, oldest first. Raises `AnsweredOtherwise`."""
        return list(reversed(_body(self._inbox.get("/messages", params={"to": to}))["data"]))


def await_until(read: Callable[[], Found | None], *, awaited: str) -> Found:
    """Read again and again until there is something. Raises `NotInTime` after a minute."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (found := read()) is None:
        if time.monotonic() > deadline:
            msg = f"waited {_PATIENCE_SECONDS:.0f} seconds for {awaited}"
            raise NotInTime(msg)
        time.sleep(_PAUSE_SECONDS)
    return found


def _body(answer: httpx2.Response) -> dict[str, Any]:
    if answer.is_success:
        body: dict[str, Any] = answer.json() if answer.content else {}
        return body
    asked = f"{answer.request.method} {answer.request.url.path}"
    msg = f"{asked} was answered {answer.status_code}: {answer.text}"
    raise AnsweredOtherwise(msg)
