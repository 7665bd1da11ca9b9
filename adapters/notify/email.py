"""E-mail over SMTP: one mail for each delivery, and every failure told apart by whose fault it is."""

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Literal

import aiosmtplib
import structlog
from jinja2 import Environment

from activities.ports import Letter, Undeliverable
from adapters.notify.mail import compose, mail_templates, read_sender

Security = Literal["none", "starttls", "tls"]

_LOG = structlog.get_logger()
_PERMANENT = 500
_OUR_CODES = frozenset({500, 501, 502, 503, 504, 530, 534, 535, 538})
"""Answers about our commands and our login, whichever step they come at."""
_OUR_STATUS = re.compile(r"5\.(?:7\.\d+|5\.\d+|1\.[78])")
"""Enhanced codes (RFC 3463) about policy, protocol and our sender address: not about the owner's mailbox."""
_STATUS = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})\b")


class MailNotTaken(Exception):
    """The mail server did not take the mail this time; the text names neither person nor password."""


class MailServerRefusesUs(MailNotTaken):
    """The mail server refuses Tidemark itself: the settings are at fault, not the owner's address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailSender:
    """One mail server, one sender address ("Tidemark <tidemark@example.com>")."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    security: Security = "starttls"
    sender: str
    public_url: str = "http://localhost:8080"
    """Where the pages are that a mail leads to."""
    timeout: timedelta = timedelta(seconds=20)
    """For the whole conversation; shorter than the activity's own, so that the failure is ours to tell."""
    templates: Environment = field(default_factory=mail_templates, repr=False)

    async def send(self, letter: Letter) -> None:
        """Hand the mail over.

        Raises Undeliverable when it can never be taken, MailServerRefusesUs or MailNotTaken when it may be later; each
        in words for operators.
        """
        try:
            sender = read_sender(self.sender)
            mail = compose(letter, sender=sender, public_url=self.public_url, templates=self.templates)
            async with asyncio.timeout(self.timeout.total_seconds()):
                await self._hand_over(mail, sender)
        except Undeliverable:
            raise
        except Exception as failure:  # noqa: BLE001 no foreign text may pass: it can name the owner
            told = _in_words(failure)
            if isinstance(told, MailServerRefusesUs):
                _LOG.error("mail_server.refused_us", failure=str(told), host=self.host, port=self.port)
            raise told from None

    async def _hand_over(self, mail: EmailMessage, sender: Address) -> None:
        await aiosmtplib.send(
            mail,
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            local_hostname=sender.domain,
            timeout=self.timeout.total_seconds(),
            use_tls=self.security == "tls",
            start_tls=self.security == "starttls",
        )


def _in_words(failure: Exception) -> Exception:
    match failure:
        case aiosmtplib.SMTPRecipientsRefused(recipients=[first, *_]):
            return _answered("the owner's mailbox", first, theirs=True)
        case aiosmtplib.SMTPDataError():
            return _answered("the mail", failure, theirs=True)
        case aiosmtplib.SMTPResponseException():
            return _answered(_STEPS.get(type(failure), "the conversation"), failure, theirs=False)
        case OSError():
            return _unreached(failure)
        case _:
            return _unspoken(failure)


_STEPS = {
    aiosmtplib.SMTPAuthenticationError: "our login",
    aiosmtplib.SMTPSenderRefused: "our sender address",
    aiosmtplib.SMTPHeloError: "our greeting",
    aiosmtplib.SMTPConnectResponseError: "our connection",
}


def _answered(what: str, answer: aiosmtplib.SMTPResponseException, *, theirs: bool) -> Exception:
    """Put an answer in words by its codes alone: what a server writes behind them often names the address."""
    found = _STATUS.match(answer.message)
    status = found[1] if found else ""
    codes = f"{answer.code} {status}".strip()
    if answer.code < _PERMANENT:
        return MailNotTaken(f"the mail server did not take {what} for now ({codes})")
    if theirs and answer.code not in _OUR_CODES and not _OUR_STATUS.fullmatch(status):
        return Undeliverable(f"the mail server refused {what} ({codes})")
    return MailServerRefusesUs(f"the mail server refused {what} ({codes}); its settings here need a look")


def _unreached(failure: OSError) -> Exception:
    if isinstance(failure, TimeoutError):
        return MailNotTaken("the mail server did not answer in time")
    if isinstance(failure, ssl.SSLError) or isinstance(failure.__cause__, ssl.SSLError):
        return MailServerRefusesUs("the mail server's certificate or encryption was not accepted")
    return MailNotTaken(f"the mail server could not be reached ({type(failure).__name__})")


def _unspoken(failure: Exception) -> Exception:
    if isinstance(failure, aiosmtplib.SMTPNotSupported):
        return Undeliverable("the mail server cannot carry the letters of the owner's e-mail address")
    if isinstance(failure, aiosmtplib.SMTPException):
        return MailServerRefusesUs("the mail server does not offer the protection or the login that is set")
    return MailNotTaken(f"the mail could not be written ({type(failure).__name__})")
