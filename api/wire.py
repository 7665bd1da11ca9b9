"""What travels over HTTP: strict bodies, views, and the kinds of text they are made of."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from topup.money import ASSET_SCALES, AmountUnreadable, Money, scale_of
from topup.rule import Problem

ID_PATTERN = r"^[a-z]+_[A-Za-z0-9_-]+$"
_EMAIL = re.compile(r"[^\s@<>()\[\]\",:;]+@[^\s@<>()\[\]\"',:;]+")

REQUIRED = "x-required"
"""In the schema of a header that is read as optional only so that its absence is refused in our own words."""

DECIMAL = r"^[0-9]{1,12}(\.[0-9]{1,18})?$"
"""How an amount is described; what reads it says more exactly what is wrong with one that is not so."""

_WORDS = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


class FieldsInvalid(ValueError):
    """What was sent has the right form, but says something impossible; `problems` names every field."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems, in the order found."""
        super().__init__("; ".join(f"{problem.field} {problem.message}" for problem in problems))
        self.problems = tuple(problems)


class Body(BaseModel):
    """What a caller sends: unknown fields and other types than those declared are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class View(BaseModel):
    """What a caller gets; fields may be added within a version, never renamed or removed."""

    model_config = ConfigDict(frozen=True)


def _known_asset(code: str) -> str:
    scale_of(code)
    return code


def _plain_text(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        message = "must not contain control characters"
        raise ValueError(message)
    if not text.strip():
        message = "must not be blank"
        raise ValueError(message)
    return text.strip()


def _mail_address(text: str) -> str:
    if not _EMAIL.fullmatch(_plain_text(text)):
        message = "must be an e-mail address such as ada@example.com"
        raise ValueError(message)
    return text


def _read_moment(text: object) -> datetime:
    """A moment with its offset, in UTC; digits beyond microseconds are dropped."""
    if isinstance(text, str) and _MOMENT.fullmatch(text):
        try:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    message = 'must be a moment such as "2026-11-21T09:30:00Z", with its offset from UTC'
    raise ValueError(message)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For a whole number, behind its bounds: JSON knows one kind of number only, so 2.0 is 2."""

Amount = Annotated[
    str,
    Field(min_length=1, max_length=60),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 60,
            "pattern": DECIMAL,
            "description": "A plain decimal of more than zero, with no more decimals than the asset has.",
        }
    ),
]
Holding = Annotated[
    str,
    Field(min_length=1, max_length=60),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 60,
            "pattern": DECIMAL,
            "description": "A plain decimal, zero too, with no more decimals than the asset has.",
        }
    ),
]
Asset = Annotated[
    str,
    Field(max_length=20),
    AfterValidator(_known_asset),
    WithJsonSchema({"type": "string", "enum": list(ASSET_SCALES)}),
]
Text = Annotated[
    str,
    Field(min_length=1, max_length=200),
    AfterValidator(_plain_text),
    WithJsonSchema({"type": "string", "maxLength": 200, "pattern": _WORDS}),
]
Email = Annotated[
    str,
    Field(max_length=254),
    AfterValidator(_mail_address),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
Id = Annotated[str, Field(max_length=100, pattern=ID_PATTERN)]
PathId = Annotated[str, Path(max_length=100, pattern=ID_PATTERN)]
Moment = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
GivenMoment = Annotated[
    datetime, BeforeValidator(_read_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]


def read_amount(field: str, text: str, asset: str) -> Money:
    """Read an amount of more than nothing. Raises FieldsInvalid naming the field."""
    try:
        money = Money.parse(text, asset)
    except AmountUnreadable as unreadable:
        raise FieldsInvalid([Problem(field, str(unreadable))]) from None
    if not money:
        raise FieldsInvalid([Problem(field, "must be more than zero")])
    return money
