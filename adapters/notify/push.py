"""A push as a device shows it: headline, the words below it, and where a tap leads; small enough for any service."""

import json
from datetime import UTC

from activities.ports import Letter

CONTENT_BYTES_MAX = 2800
"""Push services take about four thousand bytes, encrypted: this leaves room for what encrypting adds."""

_CUT = "…"


def push_of(letter: Letter) -> dict[str, str]:
    """What is shown. `tag` is the delivery's id, so that a repeat replaces it; `url` a path below the pages' address.

    A message replaces older ones with the same `about`, in whichever order they arrive: once it is known how a top-up
    ended, that it is being checked is of no more interest. `at` is when it was queued, written so that the later of two
    comes later in the order of text as well.
    """
    words = [letter.brief, *letter.lines, *([letter.next_step] if letter.next_step else [])]
    return {
        "title": letter.subject,
        "body": "\n".join(words),
        "tag": letter.delivery_id,
        "about": letter.about,
        "at": letter.queued_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "url": letter.page,
    }


def push_content(letter: Letter) -> bytes:
    """The same as JSON of at most CONTENT_BYTES_MAX bytes, the words cut where they are too many."""
    push = push_of(letter)
    content = _json(push)
    while len(content) > CONTENT_BYTES_MAX:
        excess = len(content) - CONTENT_BYTES_MAX
        longest = max(("body", "title"), key=lambda name: len(push[name]))
        kept = max(0, len(push[longest]) - max(excess // 4, 1) - len(_CUT))
        push[longest] = push[longest][:kept].rstrip() + _CUT
        content = _json(push)
    return content


def _json(push: dict[str, str]) -> bytes:
    return json.dumps(push, ensure_ascii=False, separators=(",", ":")).encode()
