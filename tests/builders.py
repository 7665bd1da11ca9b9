"""Builders: owners, wallets, money and rules in a few words, written straight into the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlmodel import col, select

from adapters.postgres.caps import cap_columns
from adapters.postgres.database import Database
from adapters.postgres.ids import new_id
from adapters.postgres.ledger import deposit, deposit_to, open_account, pay, pay_from
from adapters.postgres.tables import (
    Account,
    BalanceEvent,
    DecisionRow,
    DeliveryRow,
    DrawRow,
    Fault,
    Owner,
    Rule,
    TopUpRow,
    Wallet,
)
from tests.hands import by_hand
from topup.caps import Caps
from topup.money import Money
from topup.trigger import Change, Kept

_HIDDEN_EVENTS = text(
    "SELECT EXISTS (SELECT FROM event WHERE xact >= pg_snapshot_xmin(pg_current_snapshot()))"
)


@dataclass(frozen=True, slots=True)
class Household:
    """One owner with one Pay wallet."""

    database: Database
    owner_id: str
    wallet_id: str
    currency: str

    async def fund(self, amount: str, asset: str, *, account: str = "funding") -> None:
        """Put money into the exchange account."""
        async with self.database.commit() as session:
            account_id = await open_account(
                session, kind=account, owner_id=self.owner_id, wallet_id=None, asset=asset
            )
            await deposit(
                session, key=new_id("deposit"), account_id=account_id, amount=Money.parse(amount, asset)
            )

    async def take(self, amount: str, asset: str, *, account: str = "funding") -> None:
        """Take money out of the exchange account, as its owner's other business does."""
        async with self.database.commit() as session:
            account_id = await open_account(
                session, kind=account, owner_id=self.owner_id, wallet_id=None, asset=asset
            )
            await pay(
                session, key=new_id("payment"), account_id=account_id, amount=Money.parse(amount, asset)
            )

    async def add(self, amount: str) -> None:
        """Put money into the wallet by hand."""
        async with self.database.commit() as session:
            money = Money.parse(amount, self.currency)
            await deposit_to(session, key=new_id("deposit"), wallet_id=self.wallet_id, amount=money)
        await self.database.wake_watchers()

    async def spend(self, amount: str) -> bool:
        """Pay from the wallet; False when it lacks the money."""
        async with self.database.commit() as session:
            money = Money.parse(amount, self.currency)
            paid = await pay_from(session, key=new_id("payment"), wallet_id=self.wallet_id, amount=money)
        await self.database.wake_watchers()
        return paid.moved

    async def draw_up_rule(
        self,
        *,
        threshold: str = "50",
        amount: str = "100",
        account: str = "funding",
        sources: Sequence[str] = ("USDT",),
        enabled: bool = True,
        armed: bool = True,
        caps: Caps | None = None,
    ) -> str:
        """Write a rule as it is once saved and judged; the balance is not looked at."""
        rule = Rule(
            id=new_id("rule"),
            wallet_id=self.wallet_id,
            threshold=Money.parse(threshold, self.currency).units,
            amount=Money.parse(amount, self.currency).units,
            account=account,
            sources=list(sources),
            enabled=enabled,
            armed=armed and enabled,
            version=1,
        )
        for name, value in cap_columns(caps).items():
            setattr(rule, name, value)
        async with self.database.commit() as session:
            session.add(rule)
        return rule.id

    async def tell(
        self, balance: str, *, change: Change = Change.SPENT, stale: bool = False, event_id: str = ""
    ) -> None:
        """Write a balance event as if it had just happened."""
        event = BalanceEvent(
            id=event_id or new_id("event"),
            wallet_id=self.wallet_id,
            change=change.value,
            balance=Money.parse(balance, self.currency).units,
            version=0,
            stale=stale,
        )
        async with self.database.commit() as session:
            session.add(event)

    async def switch_fault(self, fault: str, asset: str, *, account: str = "funding", times: int = 1) -> None:
        """Have the next draws from a source go wrong."""
        row = Fault(owner_id=self.owner_id, account=account, asset=asset, fault=fault, times=times)
        async with self.database.commit() as session:
            session.add(row)

    async def spoil_event(self) -> None:
        """Make the wallet's unjudged events unreadable, as a defect might."""
        async with by_hand(self.database) as session:
            statement = select(BalanceEvent).where(col(BalanceEvent.wallet_id) == self.wallet_id)
            for event in (await session.exec(statement.where(~col(BalanceEvent.judged)))).all():
                event.change = "nonsense"

    async def balance(self) -> str:
        """What the wallet holds, as text."""
        async with self.database.read() as session:
            account = (
                await session.exec(select(Account).where(col(Account.wallet_id) == self.wallet_id))
            ).one()
            return Money(self.currency, account.posted - account.held).text

    async def holding(self, asset: str, *, account: str = "funding") -> str:
        """What the exchange account holds of the asset, as text."""
        async with self.database.read() as session:
            found = await session.exec(
                select(Account).where(
                    col(Account.owner_id) == self.owner_id,
                    col(Account.kind) == account,
                    col(Account.asset) == asset,
                )
            )
            row = found.one()
            return Money(asset, row.posted - row.held).text

    async def rule(self) -> Rule:
        """The wallet's rule as it stands."""
        async with self.database.read() as session:
            return (await session.exec(select(Rule).where(col(Rule.wallet_id) == self.wallet_id))).one()

    async def top_ups(self) -> Sequence[TopUpRow]:
        """The wallet's top-ups, oldest first."""
        async with self.database.read() as session:
            statement = (
                select(TopUpRow).where(col(TopUpRow.wallet_id) == self.wallet_id).order_by(col(TopUpRow.id))
            )
            return (await session.exec(statement)).all()

    async def draws(self, top_up_id: str) -> Sequence[DrawRow]:
        """The results of a top-up's draws, in rank order."""
        async with self.database.read() as session:
            statement = select(DrawRow).where(col(DrawRow.top_up_id) == top_up_id).order_by(col(DrawRow.rank))
            return (await session.exec(statement)).all()

    async def decisions(self) -> Sequence[DecisionRow]:
        """Every judgement of the wallet's events, oldest first."""
        async with self.database.read() as session:
            statement = select(DecisionRow).where(col(DecisionRow.wallet_id) == self.wallet_id)
            return (await session.exec(statement.order_by(col(DecisionRow.seq)))).all()

    async def deliveries(self) -> Sequence[DeliveryRow]:
        """What the owner was or will be told."""
        async with self.database.read() as session:
            statement = select(DeliveryRow).where(col(DeliveryRow.owner_id) == self.owner_id)
            return (await session.exec(statement.order_by(col(DeliveryRow.id)))).all()


async def open_household(
    database: Database,
    *,
    currency: str = "USDT",
    balance: str = "0",
    name: str = "Ada",
    kept: Kept = Kept.LEDGER,
) -> Household:
    """An owner with a wallet of this balance; the deposit's event is judged already."""
    owner = Owner(id=new_id("owner"), name=name, email=f"{name.lower()}@example.com")
    wallet = Wallet(id=new_id("wallet"), owner_id=owner.id, currency=currency, kept=kept.value)
    async with database.commit() as session:
        session.add(owner)
        await session.flush()
        session.add(wallet)
        await session.flush()
        account_id = await open_account(
            session, kind="wallet", owner_id=owner.id, wallet_id=wallet.id, asset=currency
        )
        money = Money.parse(balance, currency)
        if money:
            await deposit(session, key=new_id("deposit"), account_id=account_id, amount=money)
        for event in (
            await session.exec(select(BalanceEvent).where(col(BalanceEvent.wallet_id) == wallet.id))
        ).all():
            event.judged = True
    return Household(database, owner.id, wallet.id, currency)


async def events_readable(database: Database) -> None:
    """Wait until no commit that began before the public events' is under way: only then are all of them in the feed."""
    hidden = True
    while hidden:
        async with database.call() as connection:
            hidden = (await connection.execute(_HIDDEN_EVENTS)).scalar_one()


async def low_wallet(database: Database, *, amount: str = "100", caps: Caps | None = None) -> Household:
    """A wallet that has just fallen below the threshold of its rule, which one source covers."""
    home = await open_household(database, balance="80")
    await home.fund("500", "USDT")
    await home.draw_up_rule(amount=amount, caps=caps)
    await home.spend("45")
    return home
