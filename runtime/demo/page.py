"""The page a story is told on: plain lines of at most eighty columns, each claim with what was seen of it."""

import textwrap
from dataclasses import dataclass
from typing import TextIO

WIDTH = 80

_INDENT = 3
_MARK = 4
_LABEL = 20
_VALUE_AT = _INDENT + _MARK + _LABEL
_WHOLE, _FRACTION = 8, 9
_BOLD, _GREEN, _RED = 1, 32, 31


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing a story says, as it was told and as it was seen."""

    about: str
    told: str
    seen: str

    @property
    def holds(self) -> bool:
        """Whether it is as told, to the last letter."""
        return self.told == self.seen


class Page:
    """Writes each line at once, so that the reader follows along."""

    def __init__(self, stream: TextIO, *, colors: bool) -> None:
        """Write to a stream; colors are for terminals."""
        self._stream = stream
        self._colors = colors

    def title(self, words: str) -> None:
        """Head a part."""
        self._line()
        self._line(self._painted(words, _BOLD))
        self._line("-" * len(words))

    def words(self, text: str, *, indent: int = 0) -> None:
        """Tell in prose."""
        margin = " " * indent
        self._line(textwrap.fill(text, WIDTH, initial_indent=margin, subsequent_indent=margin))

    def gap(self) -> None:
        """Leave a line empty."""
        self._line()

    def scene(self, text: str) -> None:
        """Tell what happens next."""
        self._line()
        self.words(text, indent=_INDENT)

    def claim(self, claim: Claim) -> None:
        """Show what was seen; of a claim that does not hold, show what was told as well."""
        if claim.holds:
            self._entry(self._painted("ok", _GREEN), claim.about, claim.seen)
        else:
            self._entry(self._painted("NO", _RED), claim.about, f"told {claim.told}")
            self._entry("  ", "", f"seen {claim.seen}")

    def result(self, text: str, *, held: bool) -> None:
        """Show how something went as a whole."""
        mark = self._painted("ok", _GREEN) if held else self._painted("NO", _RED)
        self._line(f"{' ' * _INDENT}{mark}  {text}")

    def heading(self, about: str, value: str) -> None:
        """Head the claims that follow."""
        self._line()
        self._entry("  ", about, value)

    def letter(self, subject: str, text: str) -> None:
        """Show a mail, without what stands below its signature mark."""
        body = text.partition("\n-- \n")[0].strip().splitlines()
        self._line()
        for line in (f"Subject: {subject}", "", *body):
            self._line(f"{' ' * _INDENT}| {line}".rstrip())

    def _entry(self, mark: str, about: str, value: str) -> None:
        lines = _broken(value, WIDTH - _VALUE_AT)
        self._line(f"{' ' * _INDENT}{mark}  {about:<{_LABEL}}{lines[0]}")
        for line in lines[1:]:
            self._line(" " * _VALUE_AT + line)

    def _painted(self, words: str, color: int) -> str:
        return f"\033[{color}m{words}\033[0m" if self._colors else words

    def _line(self, text: str = "") -> None:
        self._stream.write(f"{text.rstrip()}\n")
        self._stream.flush()


def from_to(before: str, after: str) -> str:
    """Two amounts side by side, their decimal points below those of other lines."""
    return f"{_figure(before)}{_figure(after)}".rstrip()


def column_heads(before: str, after: str) -> str:
    """Heads for the columns of `from_to`."""
    return "".join(f"{head:>{_WHOLE + 3}}{'':{_FRACTION - 2}}" for head in (before, after)).rstrip()


def _figure(amount: str) -> str:
    whole, point, fraction = amount.partition(".")
    return f"{whole:>{_WHOLE}}{point}{fraction:<{_FRACTION}}"


def _broken(value: str, width: int) -> list[str]:
    """Break a value into lines, leaving columns inside a line as they are."""
    if len(value) <= width:
        return [value]
    return textwrap.wrap(value, width) or [""]
