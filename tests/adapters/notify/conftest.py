"""A mail server that does as it is told, and the letters sent to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

import pytest
import pytest_asyncio
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from activities.ports import Letter, LetterDraw
from adapters.notify.email import EmailSender

LETTER = Letter(
    delivery_id="delivery_01",
    channel="email",
    kind="ended",
    about="topup_01",
    queued_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
    to_name="Ada Lovelace",
    to_address="ada@example.com",
    subject="Your top-up came up short: 30.00 of 50.00 USDT arrived",
    why="Your Pay wallet was below your threshold of 20.00 USDT. At least one funding source failed.",
    brief="At least one funding source failed.",
    lines=("1. USDT: gave 30.00 USDT.", "2. USDC: gave nothing, because the exchange refused the transfer."),
    next_step="Add funds by hand.",
    page="/top-ups/topup_01",
    rule_page="/wallets/wallet_01/auto-top-up",
    outcome="partial",
    sums=(("Top-up amount", "50.00 USDT"), ("Arrived", "30.00 USDT"), ("Did not arrive", "20.00 USDT")),
    draws=(
        LetterDraw("1. USDT", "Gave 30.00 USDT.", "30.00 USDT", moved=True),
        LetterDraw(
            "2. USDC", "Gave nothing, because the exchange refused the transfer.", "0.00 USDT", moved=False
        ),
    ),
)


@dataclass
class PostOffice:
    """A real SMTP server; `answers` replaces what it says to a step (MAIL, RCPT, DATA), `deeds` what it does there."""

    answers: dict[str, str] = field(default_factory=dict)
    deeds: dict[str, Callable[[Any], Awaitable[None]]] = field(default_factory=dict)
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    password: str = ""
    tls: ssl.SSLContext | None = None
    port: int = 0

    async def handle_MAIL(  # noqa: N802 aiosmtpd's name
        self, server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        envelope.mail_from = address
        return await self._answer("MAIL", server)

    async def handle_RCPT(  # noqa: N802 aiosmtpd's name
        self, server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        envelope.rcpt_tos.append(address)
        return await self._answer("RCPT", server)

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 aiosmtpd's name
        answer = await self._answer("DATA", server)
        if answer.startswith("250"):
            self.mails.append(BytesParser(EmailMessage, policy=default).parsebytes(envelope.content))
        return answer

    async def _answer(self, step: str, server: Any) -> str:
        if step in self.deeds:
            await self.deeds[step](server)
        return self.answers.get(step, "250 OK")

    def connection(self) -> SMTP:
        """The server's side of one conversation."""
        return SMTP(
            self,
            hostname="post.example.com",
            loop=asyncio.get_running_loop(),
            authenticator=self._log_in,
            auth_require_tls=False,
            tls_context=self.tls,
        )

    def _log_in(
        self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, credentials: Any
    ) -> AuthResult:
        assert isinstance(credentials, LoginPassword)
        self.logins.append(credentials.login.decode())
        return AuthResult(success=credentials.password.decode() == self.password, handled=False)


@pytest.fixture
def letter() -> Letter:
    """A letter about a partial top-up."""
    return replace(LETTER)


@pytest_asyncio.fixture
async def post_office() -> AsyncIterator[PostOffice]:
    """A listening mail server."""
    office = PostOffice()
    server = await asyncio.get_running_loop().create_server(office.connection, "127.0.0.1", 0)
    office.port = server.sockets[0].getsockname()[1]
    async with server:
        yield office


@pytest.fixture
def sender(post_office: PostOffice) -> EmailSender:
    """Sends to the mail server without protection."""
    return EmailSender(
        host="127.0.0.1", port=post_office.port, security="none", sender="Tidemark <tidemark@pay.example>"
    )
