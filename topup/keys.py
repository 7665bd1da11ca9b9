"""The names by which a top-up and its draws are known everywhere, stable across resets and restarts."""

_REPORT = "report:"


def draw_key(top_up_id: str, rank: int) -> str:
    """The one key under which a draw can ever move money: never random, never a Temporal run id (R10, R21)."""
    return f"{top_up_id}:{rank}"


def report_key(wallet_id: str, event_id: str) -> str:
    """The id under which a balance event from outside is kept: a name of its wallet's, never one of ours."""
    return f"{_REPORT}{wallet_id}:{event_id}"


def shown_event(event_id: str) -> str:
    """A balance event's id as the outside knows it: the caller's own, where a caller gave one."""
    return event_id.split(":", 2)[2] if event_id.startswith(_REPORT) else event_id


def workflow_id(top_up_id: str) -> str:
    """The Temporal workflow id of a top-up."""
    return f"top-up/{top_up_id}"


def telling_id(about: str, kind: str) -> str:
    """The Temporal workflow id under which undelivered notifications of one kind go on being tried.

    `about` is the id of the top-up, or of the balance event that left a balance low.
    """
    return f"telling/{about}/{kind}"
