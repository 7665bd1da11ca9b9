"""The names of a top-up's draws, and from an account's answer the result that is recorded and told."""

from activities.messages import DrawName, Moved, NotMoved, Refused
from topup.keys import draw_key
from topup.outcome import DrawReason, DrawResult, DrawStatus, not_drawn
from topup.rule import Terms


def draw_names(*, top_up_id: str, owner_id: str, terms: Terms) -> tuple[DrawName, ...]:
    """The names of all draws a top-up can ever make, in rank order."""
    return tuple(
        DrawName(
            top_up_id=top_up_id,
            rank=rank,
            key=draw_key(top_up_id, rank),
            owner_id=owner_id,
            account=terms.account,
            asset=asset,
            currency=terms.currency,
        )
        for rank, asset in terms.ranked
    )


def result_of(
    name: DrawName, answer: Moved | Refused | NotMoved, *, unanswered: DrawReason | None = None
) -> DrawResult:
    """The result of a draw whose answer is known. `unanswered`: why it had to be looked up, if it had to.

    A source that turns out empty is short by all of it, so that the rest flows on (R17).
    """
    match answer:
        case Moved(debited=debited, credited=credited, short=short):
            status = DrawStatus.SHORT if short else DrawStatus.TRANSFERRED
            reason = DrawReason.INSUFFICIENT if short else None
            return DrawResult(name.rank, name.asset, status, reason, debited, credited)
        case Refused(reason=DrawReason.INSUFFICIENT):
            return _nothing(name, DrawStatus.SHORT, DrawReason.INSUFFICIENT)
        case Refused(reason=reason):
            return _nothing(name, DrawStatus.FAILED, reason)
        case NotMoved():
            return _nothing(name, DrawStatus.CONFIRMED_NOT_MOVED, unanswered)


def _nothing(name: DrawName, status: DrawStatus, reason: DrawReason | None) -> DrawResult:
    return not_drawn(name.rank, name.asset, currency=name.currency, status=status, reason=reason)
