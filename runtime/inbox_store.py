"""The messages of the development inbox, each a file, so that they survive a restart."""

import json
import secrets
import threading
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

KEPT_MAX = 2000


class Message(BaseModel):
    """One e-mail or push notification as it arrived."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    id: str
    channel: Literal["email", "push"]
    to: list[str]
    sender: str | None = Field(default=None, alias="from")
    subject: str
    text: str
    html: str | None = None
    url: str | None = None
    message_id: str | None = None
    headers: dict[str, str] = {}
    received_at: datetime
    repeats: int = 0


class Push(BaseModel):
    """A push notification as it would go to a browser; one tag is shown once, however often it comes."""

    model_config = ConfigDict(extra="ignore")

    to: str
    title: str
    body: str
    tag: str | None = None
    url: str | None = None


class InboxStore:
    """Keeps messages in a folder, newest first; a repeated Message-ID or tag only counts up `repeats`."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, making it at first."""
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._messages = {message.id: message for message in _read_all(folder)}

    def keep_mail(self, raw: bytes, *, sender: str | None, recipients: list[str]) -> Message:
        """Keep an e-mail; addresses are those of the envelope, which is where it would have gone."""
        mail = message_from_bytes(raw, policy=policy.default)
        return self._keep(
            Message(
                id=_new_id("mail"),
                channel="email",
                to=recipients,
                sender=str(mail.get("From", sender or "")) or None,
                subject=str(mail.get("Subject", "")),
                text=(_body(mail, "plain") or "").replace("\r\n", "\n"),
                html=_body(mail, "html"),
                message_id=_stripped(mail.get("Message-ID")),
                headers={name: str(value) for name, value in mail.items()},
                received_at=datetime.now(UTC),
            )
        )

    def keep_push(self, push: Push) -> Message:
        """Keep a push notification: title as subject, body as text, tag as message id."""
        return self._keep(
            Message(
                id=_new_id("push"),
                channel="push",
                to=[push.to],
                subject=push.title,
                text=push.body,
                url=push.url,
                message_id=push.tag,
                received_at=datetime.now(UTC),
            )
        )

    def newest_first(self) -> list[Message]:
        """List all messages, the latest arrival first."""
        with self._lock:
            return sorted(self._messages.values(), key=lambda message: message.id, reverse=True)

    def find(self, message_id: str) -> Message | None:
        """Find one message by its id here."""
        return self._messages.get(message_id)

    def clear(self) -> None:
        """Forget all messages."""
        with self._lock:
            for message_id in list(self._messages):
                self._forget(message_id)

    def _keep(self, message: Message) -> Message:
        with self._lock:
            first = self._same_as(message)
            if first is not None:
                message = first.model_copy(update={"repeats": first.repeats + 1})
            self._messages[message.id] = message
            _write(self._folder / f"{message.id}.json", message)
            for oldest in sorted(self._messages)[:-KEPT_MAX]:
                self._forget(oldest)
            return message

    def _same_as(self, message: Message) -> Message | None:
        if message.message_id is None:
            return None
        return next((kept for kept in self._messages.values() if _sameness(kept) == _sameness(message)), None)

    def _forget(self, message_id: str) -> None:
        del self._messages[message_id]
        (self._folder / f"{message_id}.json").unlink(missing_ok=True)


def _sameness(message: Message) -> tuple[str, str | None, tuple[str, ...]]:
    return (message.channel, message.message_id, tuple(sorted(message.to)))


def _new_id(kind: str) -> str:
    """Make an id that sorts by arrival within its kind and across kinds."""
    arrived = datetime.now(UTC).strftime("%Y%m%d%H%M%S%f")
    return f"{arrived}-{secrets.token_hex(3)}-{kind}"


def _stripped(value: object) -> str | None:
    return None if value is None else str(value).strip().strip("<>")


def _body(mail: EmailMessage, kind: Literal["plain", "html"]) -> str | None:
    part = mail.get_body((kind,))
    if part is None:
        return None
    try:
        return str(part.get_content())
    except (LookupError, ValueError):
        return part.as_string()


def _write(path: Path, message: Message) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(message.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
    partial.replace(path)


def _read_all(folder: Path) -> list[Message]:
    """Read what is kept; a file that cannot be read is passed over, as a mail is no treasure here."""
    found = []
    for path in sorted(folder.glob("*.json"))[-KEPT_MAX:]:
        try:
            found.append(Message.model_validate(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, ValidationError):
            continue
    return found
