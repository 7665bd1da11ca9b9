"""Mail over a real SMTP conversation: what arrives, and whose fault it is when nothing does."""

import asyncio
import socket
import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from activities.ports import Letter, Undeliverable
from adapters.notify.email import EmailSender, MailNotTaken, MailServerRefusesUs
from tests.adapters.notify.conftest import PostOffice

PASSWORD = "correct horse battery staple"


@pytest.mark.rule("R23")
class TestMailThatArrives:
    async def test_tells_amount_reason_each_source_and_next_step_as_text_and_html(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter
    ) -> None:
        await sender.send(letter)
        [mail] = post_office.mails
        text, page = mail.get_body(("plain",)), mail.get_body(("html",))
        assert text is not None
        assert page is not None
        for words in (letter.subject, letter.why, "ave 30.00 USDT.", str(letter.next_step)):
            assert words in " ".join(text.get_content().split())
            assert words in page.get_content()

    async def test_names_owner_and_sender_and_says_that_it_answers_nobody(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter
    ) -> None:
        await sender.send(letter)
        [mail] = post_office.mails
        assert mail["From"] == "Tidemark <tidemark@pay.example>"
        assert mail["To"] == "Ada Lovelace <ada@example.com>"
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["Date"].datetime.utcoffset() == timedelta(0)

    async def test_is_the_same_message_on_every_repeat(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter
    ) -> None:
        await sender.send(letter)
        await sender.send(letter)
        first, second = post_office.mails
        assert first["Message-ID"] == second["Message-ID"] == "<delivery_01@pay.example>"
        assert first["Subject"] == second["Subject"]

    async def test_counts_as_taken_when_the_connection_breaks_only_after_the_server_said_so(
        self, post_office: PostOffice, letter: Letter
    ) -> None:
        async with await asyncio.start_server(_takes_it_and_hangs_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            sender = EmailSender(host="127.0.0.1", port=port, security="none", sender="t@pay.example")
            await sender.send(letter)
        assert post_office.mails == []

    async def test_logs_in_when_it_has_a_password(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter
    ) -> None:
        post_office.password = PASSWORD
        await replace(sender, username="tidemark", password=PASSWORD).send(letter)
        assert post_office.logins == ["tidemark"]
        assert len(post_office.mails) == 1


@pytest.mark.rule("R24")
class TestMailThatIsTriedAgain:
    @pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
    async def test_when_the_server_is_busy_at_any_step(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter, step: str
    ) -> None:
        post_office.answers[step] = f"451 4.3.0 try later, {letter.to_address}"
        with pytest.raises(MailNotTaken, match=r"for now \(451 4\.3\.0\)") as failure:
            await sender.send(letter)
        assert not isinstance(failure.value, MailServerRefusesUs)
        assert letter.to_address not in str(failure.value)

    async def test_when_the_server_drops_the_connection(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter
    ) -> None:
        async def hang_up(server: Any) -> None:
            server.transport.abort()

        post_office.deeds["RCPT"] = hang_up
        with pytest.raises(MailNotTaken, match="could not be reached"):
            await sender.send(letter)

    async def test_when_the_server_is_too_slow(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter
    ) -> None:
        answered = asyncio.Event()

        async def dawdle(_server: Any) -> None:
            await answered.wait()

        post_office.deeds["DATA"] = dawdle
        with pytest.raises(MailNotTaken, match="did not answer in time"):
            await replace(sender, timeout=timedelta(milliseconds=200)).send(letter)
        answered.set()

    async def test_when_nobody_listens(self, sender: EmailSender, letter: Letter) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(MailNotTaken, match="could not be reached"):
                await replace(sender, port=taken.getsockname()[1]).send(letter)


@pytest.mark.rule("R24")
class TestMailThatCanNeverArrive:
    @pytest.mark.parametrize(
        ("step", "answer"),
        [
            ("RCPT", "550 5.1.1 <ada@example.com>: no such user"),
            ("RCPT", "550 no such user here"),
            ("RCPT", "552 5.2.2 mailbox full"),
            ("RCPT", "556 5.1.10 domain takes no mail"),
            ("DATA", "554 message refused"),
        ],
    )
    async def test_is_given_up_without_naming_the_address(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter, step: str, answer: str
    ) -> None:
        post_office.answers[step] = answer
        with pytest.raises(Undeliverable, match=f"refused .* \\({answer[:3]}") as failure:
            await sender.send(letter)
        assert letter.to_address not in str(failure.value)
        assert post_office.mails == []

    @pytest.mark.parametrize(
        "address", ["", "ada", "ada@", "@example.com", "a da@example.com", "ada@exa\nmple.com"]
    )
    async def test_is_given_up_when_the_address_is_none(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter, address: str
    ) -> None:
        with pytest.raises(Undeliverable, match="address"):
            await sender.send(replace(letter, to_address=address))
        assert post_office.mails == []


@pytest.mark.rule("R24")
class TestMailServerThatRefusesUs:
    @pytest.mark.parametrize(
        ("step", "answer"),
        [
            ("MAIL", "553 5.1.8 sender address refused"),
            ("MAIL", "530 5.7.0 log in first"),
            ("RCPT", "550 5.7.1 relaying denied"),
            ("RCPT", "530 log in first"),
            ("DATA", "554 5.7.1 rejected as spam"),
        ],
    )
    async def test_is_never_taken_for_the_owners_fault(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter, step: str, answer: str
    ) -> None:
        post_office.answers[step] = answer
        with pytest.raises(MailServerRefusesUs, match=answer[:3]):
            await sender.send(letter)

    async def test_is_told_loudly_and_without_the_password_when_the_login_fails(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter, capsys: pytest.CaptureFixture[str]
    ) -> None:
        post_office.password = "another"
        with pytest.raises(MailServerRefusesUs, match=r"our login \(535 5\.7\.8\)") as failure:
            await replace(sender, username="tidemark", password=PASSWORD).send(letter)
        said = capsys.readouterr().out
        assert "mail_server.refused_us" in said
        assert PASSWORD not in said + str(failure.value) + repr(sender)
        assert letter.to_address not in said
        assert post_office.mails == []

    async def test_gets_no_password_when_it_offers_no_protection(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter
    ) -> None:
        protected = replace(sender, security="starttls", username="tidemark", password=PASSWORD)
        with pytest.raises(MailServerRefusesUs, match="does not offer the protection"):
            await protected.send(letter)
        assert post_office.logins == []

    async def test_gets_no_password_when_its_certificate_is_not_trusted(
        self, sender: EmailSender, post_office: PostOffice, letter: Letter, tmp_path: Path
    ) -> None:
        post_office.tls = _certified(tmp_path)
        protected = replace(sender, security="starttls", username="tidemark", password=PASSWORD)
        with pytest.raises(MailServerRefusesUs, match="certificate"):
            await protected.send(letter)
        assert post_office.logins == []


class TestProtectedMail:
    async def test_goes_out_after_starttls_with_a_certificate_that_is_trusted(
        self,
        sender: EmailSender,
        post_office: PostOffice,
        letter: Letter,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        post_office.tls, post_office.password = _certified(tmp_path), PASSWORD
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "post.crt"))
        await replace(sender, security="starttls", username="tidemark", password=PASSWORD).send(letter)
        assert len(post_office.mails) == 1


def _certified(folder: Path) -> ssl.SSLContext:
    """A server context whose issuer's certificate lies in the folder, to be trusted or not."""
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(folder / "post.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def _takes_it_and_hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 post.example.com\r\n")
    answers = {
        b"EHLO": b"250 post\r\n",
        b"MAIL": b"250 OK\r\n",
        b"RCPT": b"250 OK\r\n",
        b"DATA": b"354 go on\r\n",
    }
    while (line := await reader.readline())[:4] != b"DATA":
        writer.write(answers[line[:4]])
    writer.write(answers[b"DATA"])
    await reader.readuntil(b"\r\n.\r\n")
    writer.write(b"250 taken\r\n")
    await writer.drain()
    writer.transport.abort()
