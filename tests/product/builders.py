"""Short names for the values these tests speak of."""

from collections.abc import Sequence

from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus
from topup.quote import Quote
from topup.rule import AccountKind, Terms
from topup.trigger import Watch
from topup.waterfall import Holding


def usdt(amount: int | str) -> Money:
    """Whole or decimal USDT."""
    return Money.parse(str(amount), "USDT")


def at_par(asset: str = "USDT", currency: str = "USDT") -> Quote:
    """One unit for one unit, for assets of the same scale."""
    return Quote(asset, currency, 1, 1)


def terms(amount: Money, *sources: str, threshold: Money | None = None) -> Terms:
    """Terms that top up the amount from these sources of the funding account."""
    return Terms(threshold or amount, amount, AccountKind.FUNDING, sources)


def holding(amount: Money, quote: Quote | None = None) -> Holding:
    """A source that holds this much; at par with USDT unless quoted otherwise."""
    return Holding(amount, quote or at_par(amount.asset))


def holdings(*amounts: int | str) -> tuple[Holding, ...]:
    """USDT sources that hold this much each."""
    return tuple(holding(usdt(amount)) for amount in amounts)


def drawn(
    credited: int | str,
    status: DrawStatus = DrawStatus.TRANSFERRED,
    reason: DrawReason | None = None,
    *,
    rank: int = 1,
) -> DrawResult:
    """What a USDT source gave."""
    return DrawResult(rank, "USDT", status, reason, usdt(credited), usdt(credited))


def nothing_drawn(statuses: Sequence[DrawStatus]) -> list[DrawResult]:
    """One empty result for each status."""
    return [drawn(0, status, rank=rank) for rank, status in enumerate(statuses, start=1)]


def watch(threshold: Money, *, enabled: bool = True, armed: bool = True, locked: bool = False) -> Watch:
    """A rule that is on, armed and free unless told otherwise."""
    return Watch(threshold=threshold, enabled=enabled, armed=armed, locked=locked)
