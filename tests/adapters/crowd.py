"""Watchers as tests need them: any number, each with a clock of its own, until nothing is left to judge."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from activities.messages import DrawOrder, Patience, SettleOrder
from activities.results import result_of
from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.reports import Receipt, Report, hold_wallets_elsewhere, record_reports
from adapters.postgres.top_ups import TopUpRecords
from tests.builders import Household
from topup.keys import draw_key
from topup.money import Money
from topup.outcome import conclude
from topup.quote import Quote

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """This moment, by this program's clock."""
    return datetime.now(UTC)


async def judge_with(database: Database, *clocks: Clock) -> None:
    """One watcher for each clock, until none finds anything."""

    async def until_done(clock: Clock) -> None:
        claims, idle = Claims(database, clock=clock), 0
        while idle < 2:
            judged = await claims.judge_waiting()
            idle = 0 if judged.events else idle + 1

    await asyncio.gather(*map(until_done, clocks))


async def settle(database: Database, home: Household, *, give: str | None = None) -> None:
    """End the wallet's top-up in progress, if there is one; `give` is drawn for it first, all of it by default."""
    for top_up in await home.top_ups():
        if top_up.state == "ended":
            continue
        credit = Money(home.currency, top_up.amount) if give is None else Money.parse(give, home.currency)
        draws = []
        if credit:
            await home.fund(credit.text, home.currency)
            order = DrawOrder(
                top_up_id=top_up.id,
                rank=1,
                key=draw_key(top_up.id, 1),
                owner_id=home.owner_id,
                account="funding",
                asset=home.currency,
                currency=home.currency,
                wallet_id=home.wallet_id,
                credit=credit,
                quote=Quote(home.currency, home.currency, 1, 1),
            )
            draws = [result_of(order, await LedgerAccounts(database).draw(order))]
        ending = conclude(Money(home.currency, top_up.amount), draws)
        settled = SettleOrder(top_up_id=top_up.id, draws=tuple(draws), ending=ending)
        await TopUpRecords(database, Patience()).settle(settled)


async def report(
    home: Household, *told: tuple[int, str], at: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)
) -> Sequence[Receipt]:
    """Tell of these versions and balances, in one commit, each under the id that its version gives it."""
    reports = [
        Report(f"evt-{version}", home.wallet_id, Money.parse(balance, home.currency), version, at)
        for version, balance in told
    ]
    async with home.database.commit() as session:
        await hold_wallets_elsewhere(session, [home.wallet_id], bound_to=None)
        return await record_reports(session, reports)
