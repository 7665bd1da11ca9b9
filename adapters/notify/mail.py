"""The mail an owner gets: plain text and HTML of the same words, in headers that nobody can bend."""

import unicodedata
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from activities.ports import Letter, Undeliverable

_TEMPLATES = Path(__file__).parent / "templates"
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset({"\u200c", "\u200d"})


def mail_templates() -> Environment:
    """The mail's templates; HTML escapes everything it is given."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def compose(letter: Letter, *, sender: Address, public_url: str, templates: Environment) -> EmailMessage:
    """The mail for a letter; its Message-ID is the same on every repeat. Raises Undeliverable for no address."""
    stop = f"{public_url}/unsubscribe/{letter.stop_token}" if letter.stop_token else None
    words = {"letter": letter, "name": one_line(letter.to_name), "public_url": public_url, "stop": stop}
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = read_address(letter.to_address, name=letter.to_name)
    mail["Subject"] = one_line(letter.subject)
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{letter.delivery_id}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if stop:
        mail["List-Unsubscribe"] = f"<{stop}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(templates.get_template("letter.txt").render(words))
    mail.add_alternative(templates.get_template("letter.html").render(words), subtype="html")
    return mail


def read_sender(text: str) -> Address:
    """Read "Tidemark <tidemark@example.com>". Raises ValueError."""
    name, address = parseaddr(text)
    return Address(display_name=one_line(name), addr_spec=address)


def contact_of(mail_from: str, *, public_url: str) -> str:
    """Whom a push service can turn to about us (RFC 8292): the mails' sender, or else the pages' own host.

    A sender at localhost is nobody, and some services refuse it.
    """
    sender, site = read_sender(mail_from), urlsplit(public_url)
    is_reachable = "." in sender.domain
    is_site = site.scheme == "https" and "." in (site.hostname or "")
    return f"https://{site.hostname}" if is_site and not is_reachable else f"mailto:{sender.addr_spec}"


def read_address(text: str, *, name: str) -> Address:
    """The owner's mailbox, its domain as the mail system spells it. Raises Undeliverable when it is none."""
    mailbox, _, domain = text.rpartition("@")
    message = "the owner's e-mail address is not one that mail can be sent to"
    if not mailbox or not domain or text != "".join(text.split()):
        raise Undeliverable(message)
    try:
        spelled = domain.encode("idna").decode("ascii")
        return Address(display_name=one_line(name), username=mailbox, domain=spelled)
    except ValueError:
        raise Undeliverable(message) from None


def one_line(text: str) -> str:
    """The text with every line break, control and direction mark made a plain space: safe in a header."""
    return " ".join("".join(" " if _unseen(sign) else sign for sign in text).split())


def _unseen(sign: str) -> bool:
    return sign not in _JOINERS and unicodedata.category(sign) in _UNSEEN
