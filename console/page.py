"""How a page is made: its template, its words in the reader's language, its amounts and dates, its careful headers."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from babel import Locale
from babel.dates import format_date, format_datetime, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from console.flashes import flash_of
from topup.money import Money

ROOM = Path(__file__).parent
TEMPLATES = ROOM / "templates"
STATIC = ROOM / "static"
LOCALES = ROOM / "locales"
_CATALOG = "tidemark.po"
FORMATS = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "pt_PT", "pt_BR", "ja_JP")
"""The customs by which amounts and dates are written; the first one where a reader's is none of them.

Those of a language count only where the pages speak it: next to an English sentence, "1.234" would be read as little
more than one."""

_DIGITS_MAX = 60
"""More than any amount has: the database keeps 38."""

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": (
            "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
            "publickey-credentials-create=(self), publickey-credentials-get=(self)"
        ),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)
"""`same-origin` for the referrer, so that browsers name the origin of our own forms."""


def render(request: Request, template: str, *, status: int = 200, **words: Any) -> HTMLResponse:
    """The page, whole or a part of it. Templates know `request`, `me` (who is signed in, or None) and `locale`."""
    return HTMLResponse(render_part(request, template, **words), status_code=status, headers=dict(HEADERS))


def render_part(request: Request, template: str, **words: Any) -> str:
    """The text of a part of a page, for a stream."""
    locale = locale_of(request)
    given = {
        "request": request,
        "me": getattr(request.state, "visitor", None),
        "locale": locale,
        "language": f"{locale.language}-{locale.territory}",
        "flash": flash_of(request),
    }
    return _environment(locale.language).get_template(template).render({**given, **words})


def locale_of(request: Request) -> Locale:
    """The customs of the first of the reader's languages that the pages speak, of another region if need be."""
    spoken = [name for name in FORMATS if name.partition("_")[0] in languages()]
    for wanted in _languages_wanted(request.headers.get("accept-language", "")):
        near = [name for name in spoken if name.partition("_")[0] == wanted.partition("_")[0]]
        if near:
            return Locale.parse(wanted if wanted in near else near[0])
    return Locale.parse(spoken[0])


def languages() -> frozenset[str]:
    """The languages the pages speak: English, and those they have been translated into."""
    return frozenset({"en", *(path.parts[-3] for path in LOCALES.glob(f"*/LC_MESSAGES/{_CATALOG}"))})


def _languages_wanted(header: str) -> list[str]:
    """What a browser asks for, the dearest first: "de-AT,en;q=0.5" becomes ["de_AT", "en"]."""
    wanted: list[tuple[float, str]] = []
    for part in header.split(","):
        name, _, weight = part.partition(";")
        language, _, territory = name.strip().replace("-", "_").partition("_")
        if language.isalpha():
            known = f"{language.lower()}_{territory.upper()}".rstrip("_")
            wanted.append((_weight(weight), known))
    return [name for weight, name in sorted(wanted, key=lambda each: -each[0]) if weight > 0]


def _weight(text: str) -> float:
    try:
        return float(text.strip().removeprefix("q=")) if text.strip() else 1.0
    except ValueError:
        return 0.0


def amount_text(money: Money, locale: Locale) -> str:
    """An amount as people of this locale write it, with all its decimals that matter: "1,234.50 USDT"."""
    decimals = money.text.partition(".")[2]
    pattern = "#,##0" + (f".{'0' * len(decimals)}" if decimals else "")
    with localcontext(prec=_DIGITS_MAX):
        number = format_decimal(
            Decimal(money.text), format=pattern, locale=locale, decimal_quantization=False
        )
    return f"{number} {money.asset}"


@pass_context
def _money(context: Context, money: Money) -> Markup:
    """An amount, its digits in columns."""
    number, _, asset = amount_text(money, context["locale"]).rpartition(" ")
    return Markup(
        '<span class="amount"><span class="amount-number">{}</span> <span class="asset">{}</span></span>'
    ).format(number, asset)


@pass_context
def _moment(context: Context, at: datetime) -> Markup:
    """Date and time in UTC, in an element that says it to machines too; a script shows it in the reader's own zone."""
    locale: Locale = context["locale"]
    moment = at.astimezone(UTC)
    shown = format_datetime(moment, "medium", locale=locale)
    return Markup('<time datetime="{}" data-moment>{} UTC</time>').format(moment.isoformat(), shown)


@pass_context
def _clock(context: Context, at: datetime) -> Markup:
    """The time alone."""
    moment = at.astimezone(UTC)
    shown = format_time(moment, "medium", locale=context["locale"])
    return Markup('<time datetime="{}" data-clock>{} UTC</time>').format(moment.isoformat(), shown)


@pass_context
def _day(context: Context, at: datetime) -> str:
    return format_date(at.astimezone(UTC), "medium", locale=context["locale"])


@cache
def _static(name: str) -> str:
    """The address of a file, which changes with its content, so that browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(_translations(language), newstyle=True)  # type: ignore[attr-defined]
    environment.filters.update(money=_money, moment=_moment, clock=_clock, day=_day)
    environment.globals.update(static=_static)
    return environment


def _translations(language: str) -> NullTranslations:
    """The words of a language, read from the catalog as its translators keep it."""
    path = LOCALES / language / "LC_MESSAGES" / _CATALOG
    if not path.exists():
        return NullTranslations()
    compiled = BytesIO()
    with path.open("rb") as written:
        write_mo(compiled, read_po(written, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)
