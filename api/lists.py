"""Lists: pages of at most a hundred, and opaque cursors that say where the next one begins."""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from api.wire import FieldsInvalid, View
from topup.rule import Problem

LIMIT_DEFAULT = 20
LIMIT_MAX = 100

Item = TypeVar("Item", bound=View)
Record = TypeVar("Record")

CURSOR = r"^YWZ0ZXI6[A-Za-z0-9_-]{2,134}$"
"""How a cursor is described: base64url of "after:" and a position."""

_POSITION = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class PageQuery(BaseModel):
    """Which part of a list is asked for; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(default=LIMIT_DEFAULT, ge=1, le=LIMIT_MAX, description="How many at most.")
    after: str | None = Field(
        default=None,
        max_length=142,
        description="The `next_cursor` of the page before.",
        json_schema_extra={"pattern": CURSOR},
    )

    @property
    def most(self) -> int:
        """One more than is shown, to know whether there are more."""
        return self.limit + 1

    def position(self) -> str | None:
        """The id behind which the page begins. Raises FieldsInvalid."""
        return None if self.after is None else _read_cursor(self.after, _POSITION)

    def number(self) -> int | None:
        """The number behind which the page begins. Raises FieldsInvalid."""
        return None if self.after is None else int(_read_cursor(self.after, _NUMBER))


PageAsked = Annotated[PageQuery, Query()]


class Page(View, Generic[Item]):
    """One page of a list, newest first."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None


def page_of(
    records: Sequence[Record],
    asked: PageQuery,
    *,
    view: Callable[[Record], Item],
    position: Callable[[Record], str | int],
) -> Page[Item]:
    """The page of what was found; `position` is what the cursor behind a record says."""
    shown = records[: asked.limit]
    has_more = len(records) > asked.limit
    cursor = _cursor(position(shown[-1])) if has_more else None
    return Page(data=[view(record) for record in shown], has_more=has_more, next_cursor=cursor)


def _cursor(position: str | int) -> str:
    return base64.urlsafe_b64encode(f"after:{position}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str, form: re.Pattern[str]) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith("after:") or not form.fullmatch(text.removeprefix("after:")):
        problem = Problem("query/after", "must be the `next_cursor` of a page of this list, unchanged")
        raise FieldsInvalid([problem])
    return text.removeprefix("after:")
