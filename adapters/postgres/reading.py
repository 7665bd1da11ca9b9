"""Reading wallets and their owners' exchange accounts: balances, holdings and rates as they stood at one moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.ports import Sight
from adapters.postgres.tables import Account, BalanceReport, Rate, Wallet
from topup.money import Money
from topup.quote import find_quote
from topup.rule import AccountKind
from topup.trigger import Kept
from topup.waterfall import Holding

Rates = Mapping[tuple[str, str], Fraction]
_Available = Mapping[tuple[str, str, str], Money]
_Balance = tuple[Money, bool]
"""What a wallet holds, and whether anybody knows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which wallet is looked at, and which assets of which account of its owner's."""

    wallet_id: str
    owner_id: str
    account: AccountKind
    sources: tuple[str, ...]


async def read_sight(session: AsyncSession, asked: Asked) -> Sight:
    """The wallet's balance, and for each source what it holds and its quote, in the order of `sources`.

    All of one moment when the session is a `Database.read` one. A source that was never funded holds nothing.
    """
    (sight,) = await read_sights(session, [asked])
    return sight


async def read_sights(session: AsyncSession, asked: Sequence[Asked]) -> list[Sight]:
    """The same for several wallets, in their order."""
    if not asked:
        return []
    balances = await _read_balances(session, [one.wallet_id for one in asked])
    available = await _read_available(session, asked)
    rates = await read_rates(session)
    return [_sight(one, balances[one.wallet_id], available, rates) for one in asked]


async def read_rates(session: AsyncSession) -> Rates:
    """All rates of the embedded ledger, exactly."""
    rows = (await session.exec(select(col(Rate.asset), col(Rate.currency), col(Rate.rate)))).all()
    return {(asset, currency): Fraction(rate) for asset, currency, rate in rows}


def _sight(asked: Asked, told: _Balance, available: _Available, rates: Rates) -> Sight:
    balance, known = told
    return Sight(
        balance=balance,
        holdings=tuple(
            Holding(
                available=available.get((asked.owner_id, asked.account, asset), Money.nothing(asset)),
                quote=find_quote(asset, balance.asset, rates),
            )
            for asset in asked.sources
        ),
        known=known,
    )


async def _read_balances(session: AsyncSession, wallet_ids: Sequence[str]) -> dict[str, _Balance]:
    """What each wallet holds: nothing where its ledger account has not been opened.

    For a wallet kept elsewhere, what was reported last, however old that is; nothing where nothing was reported yet.
    """
    statement = (
        select(Wallet, Account, BalanceReport)
        .outerjoin(Account, col(Account.wallet_id) == col(Wallet.id))
        .outerjoin(BalanceReport, col(BalanceReport.wallet_id) == col(Wallet.id))
        .where(col(Wallet.id).in_(wallet_ids))
    )
    rows = (await session.exec(statement)).all()
    return {wallet.id: _balance(wallet, account, report) for wallet, account, report in rows}


def _balance(wallet: Wallet, account: Account | None, report: BalanceReport | None) -> _Balance:
    if wallet.kept == Kept.ELSEWHERE:
        return Money(wallet.currency, report.balance if report else 0), report is not None
    return Money(wallet.currency, account.posted - account.held if account else 0), True


async def _read_available(session: AsyncSession, asked: Sequence[Asked]) -> _Available:
    statement = select(Account).where(
        col(Account.kind).in_({one.account.value for one in asked}),
        col(Account.owner_id).in_({one.owner_id for one in asked}),
        col(Account.wallet_id).is_(None),
        col(Account.asset).in_({asset for one in asked for asset in one.sources}),
    )
    rows = (await session.exec(statement)).all()
    return {(str(row.owner_id), row.kind, row.asset): Money(row.asset, row.posted - row.held) for row in rows}
