"""Households whose pages have something to show: a month behind them, top-ups of every ending, one under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg
from playwright.async_api import Browser as Chromium
from psycopg import sql
from temporalio.client import Client

from activities.messages import DrawOrder, Moved, NotMoved, Refused
from activities.ports import AnswerMissing
from adapters.postgres.confirmations import burn_intent
from adapters.postgres.database import Database
from adapters.postgres.ids import new_id
from adapters.postgres.ledger import open_account
from adapters.postgres.links import create_link
from adapters.postgres.passkeys import NewPasskey, add_passkey
from adapters.postgres.people import PersonRecord, operator_named, person_of_owner
from adapters.postgres.recovery import make_codes
from adapters.postgres.rules import Author, TermsDraft, create_rule, edit_rule
from adapters.postgres.sessions import begin_session, find_visitor
from adapters.postgres.tables import Wallet
from console.visitors import CSRF_FIELD
from runtime.patience import patience_of
from tests.api.conftest import build
from tests.builders import Household, open_household
from tests.console.browser import OpenWindow, Window, windows_of
from tests.console.conftest import by_name
from tests.hands import owner_of
from tests.served import client_at, serve
from tests.stories.accounts import Gate, Unknowable
from tests.stories.town import Town, open_town
from topup.trigger import Kept

_PATIENCE_SECONDS = 90
_AGING = (
    "balance_event", "decision", "top_up", "draw", "rule", "rule_revision", "event", "delivery", "passkey", "transfer",
    "entry", "account", "wallet", "owner", "person",
)  # fmt: skip
_MOMENTS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' AND table_name = ANY(%s)
"""


class Silent(Unknowable):
    """Draws are not answered, and move nothing; nobody can say so yet."""

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Do nothing, and say nothing."""
        del order
        raise AnswerMissing


@dataclass(frozen=True, slots=True)
class Resident:
    """Somebody who lives here, and the token of the browser they are signed in with."""

    home: Household
    person: PersonRecord
    token: str
    csrf: str

    @property
    def wallet(self) -> str:
        """The address of their wallet's page."""
        return f"/wallets/{self.home.wallet_id}"


@dataclass(frozen=True, slots=True)
class Furnished:
    """The site, and who lives there."""

    site: str
    chromium: Chromium
    database: Database
    ada: Resident
    """A month of top-ups of every ending; all is well now."""
    grace: Resident
    """A top-up is under way: its first source has given, its second is being drawn from."""
    kay: Resident
    """A top-up is being checked."""
    mary: Resident
    """The last top-up failed, the balance is low, the rule waits."""
    alan: Resident
    """A new wallet without a rule."""
    edsger: Resident
    """Two wallets, in two currencies."""
    locked_out: str
    """The token of a browser that was let in with a recovery code."""
    operator_token: str
    link: str
    """A registration link nobody has used yet."""

    async def top_up(self, resident: Resident, outcome: str | None) -> str:
        """The address of their newest top-up that ended like this; None for the one under way."""
        found = [row for row in await resident.home.top_ups() if row.outcome == outcome]
        return f"/top-ups/{found[-1].id}"

    async def ask_to_confirm(self, resident: Resident) -> str:
        """Ask for a change that widens; the address of the page that waits for the passkey."""
        rule = await resident.home.rule()
        form = {
            CSRF_FIELD: resident.csrf,
            "version": str(rule.version),
            "threshold": "60.00",
            "amount": "150.00",
            "account": "funding",
            "source_1": "USDT",
            "source_2": "USDC",
            "source_3": "BTC",
            "do": "save",
        }
        headers = {"Cookie": f"__Host-tidemark={resident.token}", "Origin": self.site}
        async with client_at(self.site) as client:
            answer = await client.post(f"{resident.wallet}/auto-top-up", data=form, headers=headers)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def confirm_too_late(self, resident: Resident) -> str:
        """The address of a confirmation that has been used up."""
        location = await self.ask_to_confirm(resident)
        async with self.database.commit() as session:
            await burn_intent(session, location.rpartition("/")[2], person_id=resident.person.id)
        return location

    @asynccontextmanager
    async def window(
        self, size: tuple[int, int], *, token: str | None, dark: bool = False, **options: object
    ) -> AsyncIterator[Window]:
        """A window of somebody signed in, or of a stranger."""
        async with windows_of(self.chromium, self.site) as opening:
            window = await _open(opening, size, dark=dark, **options)
            if token is not None:
                await window.sign_in(token)
            yield window


async def _open(opening: OpenWindow, size: tuple[int, int], **options: object) -> Window:
    return await opening(size, **options)


@asynccontextmanager
async def furnish(
    client: Client, database: Database, database_url: str, chromium: Chromium
) -> AsyncIterator[Furnished]:
    """Furnish a fresh database with the help of real servers; what is under way stays so until the block ends."""
    app = build(database, url=database_url)
    async with open_town(client, database, database_url) as town:
        async with town.worker():
            ada = await _live_a_month(town, owner_of(database))
            mary = await _fail(town)
        alan = await open_household(database, balance="25", name="Alan")
        async with (
            _under_way(client, database, database_url) as grace,
            _checked(town) as kay,
            serve(app) as address,
        ):
            site = by_name(address)
            app.state.console = replace(app.state.console, public_url=site)
            token, link = await _let_in(database)
            yield Furnished(
                site=site,
                chromium=chromium,
                database=database,
                ada=await _settle(database, ada, prepared=True),
                grace=await _settle(database, grace),
                kay=await _settle(database, kay),
                mary=await _settle(database, mary),
                alan=await _settle(database, alan),
                edsger=await _settle(database, await _two_wallets(database)),
                locked_out=await _lock_out(database, mary),
                operator_token=token,
                link=link,
            )


async def _live_a_month(town: Town, owner_url: str) -> Household:
    home = await open_household(town.database, balance="180", name="Ada")
    await home.fund("160", "USDT")
    await home.fund("110", "USDC")
    await home.fund("0.0005", "BTC")
    rule_id = await _agree(home, amount="80")
    await _pass(owner_url, days=4)
    await home.spend("62.50")
    await _pass(owner_url, days=2)
    async with home.database.commit() as session:
        await edit_rule(session, rule_id, {"amount": "100"}, version=1, author=Author("Ada", home.owner_id))
    await _pass(owner_url, days=1)
    await _spend_and_see(town, home, "79.20")  # Completed, from the first source alone.
    await _pass(owner_url, days=5)
    await _spend_and_see(town, home, "96.40")  # A waterfall over two.
    await _pass(owner_url, days=4)
    await home.switch_fault("reject", "USDC")
    await _spend_and_see(town, home, "104.10")  # Partial: 30 of BTC arrive, USDC is refused.
    await _pass(owner_url, days=3)
    await home.add("40")
    await town.watch()
    await _pass(owner_url, days=2)
    await _spend_and_see(town, home, "71.30")  # Nothing left to cover it.
    await home.add("120")
    await town.watch()
    await _pass(owner_url, days=2)
    await home.fund("420", "USDT")
    await home.fund("250", "USDC")
    await home.fund("0.004", "BTC")
    await home.spend("18.25")
    await town.watch()
    await _pass(owner_url, hours=3)
    return home


async def _fail(town: Town) -> Household:
    home = await open_household(town.database, balance="80", name="Mary")
    await home.fund("12", "USDT")
    await _agree(home)
    await _spend_and_see(town, home, "45")
    return home


@asynccontextmanager
async def _under_way(client: Client, database: Database, database_url: str) -> AsyncIterator[Household]:
    """A household whose second draw waits at a gate until the block ends."""
    async with open_town(client, database, database_url) as town:
        town.settings = town.with_settings(draw_timeout=timedelta(hours=1))
        town.watcher.patience = patience_of(town.settings)
        gate = Gate(town.accounts, rank=2, after_moving=False)
        town.accounts = gate
        home = await open_household(database, balance="80", name="Grace")
        await home.fund("60", "USDT")
        await home.fund("500", "USDC")
        await _agree(home)
        await home.spend("45")
        async with town.worker():
            await town.watch()
            await asyncio.wait_for(gate.reached.wait(), _PATIENCE_SECONDS)
            try:
                yield home
            finally:
                gate.opened.set()
                await (await town.handle(home)).result()


@asynccontextmanager
async def _checked(town: Town) -> AsyncIterator[Household]:
    """A household whose first draw gave no answer, and who has been told so; nobody waits for its end."""
    town.accounts = unknowable = Silent(town.accounts)
    town.watcher.patience = patience_of(town.settings).model_copy(
        update={"tell_checking": timedelta(milliseconds=100)}
    )
    told = asyncio.Event()
    town.channels["email"].on_sent = told.set
    home = await open_household(town.database, balance="80", name="Kay")
    await home.fund("500", "USDT")
    await _agree(home)
    await home.spend("45")
    async with town.worker():
        await town.watch()
        await asyncio.wait_for(told.wait(), _PATIENCE_SECONDS)
        try:
            yield home
        finally:
            unknowable.known = True


async def _agree(home: Household, *, amount: str = "100") -> str:
    """A rule as its owner makes it; its id."""
    draft = TermsDraft(threshold="50", amount=amount, account="funding", sources=["USDT", "USDC", "BTC"])
    async with home.database.commit() as session:
        rule = await create_rule(
            session,
            wallet_id=home.wallet_id,
            draft=draft,
            enabled=True,
            author=Author("its owner", home.owner_id),
        )
    return rule.id


async def _spend_and_see(town: Town, home: Household, amount: str) -> None:
    before = len(await home.top_ups())
    assert await home.spend(amount)
    await town.see_through(home)
    assert len(await home.top_ups()) == before + 1


async def _pass(owner_url: str, **time: float) -> None:
    """Let time pass, by putting everything that has happened so much longer ago."""
    statement = sql.SQL("UPDATE {} SET {} = {} - %s::interval")
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
        await connection.execute(
            "SET session_replication_role = replica"
        )  # What is written once may not be changed.
        moments = await (await connection.execute(_MOMENTS, [list(_AGING)])).fetchall()
        for table, column in moments:
            names = sql.Identifier(table), sql.Identifier(column), sql.Identifier(column)
            await connection.execute(statement.format(*names), [timedelta(**time)])


async def _let_in(database: Database) -> tuple[str, str]:
    """An operator's session, and a link by which a new owner could register."""
    now = datetime.now(UTC)
    newcomer = await open_household(database, name="Joan")
    async with database.commit() as session:
        operator = await operator_named(session, "Rear Admiral")
        token = await begin_session(
            session, operator.id, browser="Firefox on Linux", passkey_id=None, now=now
        )
        person = await person_of_owner(session, newcomer.owner_id)
        link = await create_link(session, person.id, made_by="a test", now=now)
    return token, f"/join/{link.token}"


async def _two_wallets(database: Database) -> Household:
    home = await open_household(database, balance="310.75", name="Edsger")
    async with database.commit() as session:
        other = Wallet(id=new_id("wallet"), owner_id=home.owner_id, currency="EUR", kept=Kept.LEDGER.value)
        session.add(other)
        await session.flush()
        await open_account(session, kind="wallet", owner_id=home.owner_id, wallet_id=other.id, asset="EUR")
    return home


async def _lock_out(database: Database, home: Household) -> str:
    """Somebody who has lost every passkey, let in with a code to make a new one: the token of their browser."""
    now = datetime.now(UTC)
    async with database.commit() as session:
        person = await person_of_owner(session, home.owner_id)
        return await begin_session(
            session, person.id, browser="Safari on iPhone", passkey_id=None, now=now, recovering=True
        )


async def _settle(database: Database, home: Household, *, prepared: bool = False) -> Resident:
    """Give the household a person with a passkey, signed in on a phone and on a desk; prepared for losing either."""
    now = datetime.now(UTC)
    async with database.commit() as session:
        person = await person_of_owner(session, home.owner_id)
        passkey_id = await add_passkey(session, person.id, _new_passkey(), name="Phone")
        if prepared:
            await add_passkey(session, person.id, _new_passkey(), name="Security key")
            await make_codes(session, person.id)
        _, token = [
            await begin_session(session, person.id, browser=browser, passkey_id=passkey_id, now=now)
            for browser in ("Safari on iPhone", "Chrome on Windows")
        ]
    visitor = await find_visitor(database, token)
    assert visitor is not None
    return Resident(home, person, token, visitor.csrf)


def _new_passkey() -> NewPasskey:
    return NewPasskey(new_id("credential").encode(), b"\x01" * 77, 0, ["internal"], backed_up=True)
