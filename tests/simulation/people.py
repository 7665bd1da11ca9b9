"""Who moves money and changes rules: owners at their pages, payers, and whoever keeps a wallet elsewhere."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sqlalchemy.exc import DBAPIError

from adapters.postgres.database import Database, DatabaseOutOfReach
from adapters.postgres.ledger import deposit, open_account, pay
from adapters.postgres.payments import BalanceInsufficient, deposit_to_wallet, pay_from_wallet
from adapters.postgres.rates import RateRecord, set_rate
from adapters.postgres.reports import Report, hold_wallets_elsewhere, record_reports
from adapters.postgres.rules import (
    Author,
    RuleExists,
    RuleLocked,
    RuleUnknown,
    TermsDraft,
    VersionStale,
    create_rule,
    delete_rule,
    disable_rule,
    edit_rule,
    enable_rule,
)
from adapters.postgres.tables import Owner
from adapters.postgres.wallets import name_wallet, open_wallet
from tests.api import model
from tests.simulation.loop import BEGINNING
from tests.simulation.ports import doing
from tests.simulation.programs import Act, Gates
from tests.simulation.witness import Witness
from topup.money import Money
from topup.trigger import Kept

_AUTHOR = Author("somebody", None)
_REFUSALS = {
    RuleExists: "rule_exists",
    RuleLocked: "rule_locked",
    RuleUnknown: "not_found",
    VersionStale: "version_stale",
}
_UNIT = 10**6
_SOURCES = (
    ("USDT",),
    ("USDC", "USDT"),
    ("USDT", "USDC", "BTC"),
    ("BTC", "USDC", "USDT"),
    ("SOL", "USDT"),
    ("USDC", "BTC", "SOL"),
)
_RATES = {
    "USDC": ("1", "0.9998", "1.001"),
    "BTC": ("60000", "57123.45", "61000.000001"),
    "SOL": ("150", "149.99"),
}
_SCALES = {"USDT": 6, "USDC": 6, "BTC": 8, "SOL": 9, "EUR": 2}
_TYPICAL = {"USDT": 1.0, "USDC": 1.0, "BTC": 1 / 60000, "SOL": 1 / 150, "EUR": 1.0}
_WALLETS = (
    ("anna", "USDT", Kept.LEDGER),
    ("anna", "EUR", Kept.LEDGER),
    ("anna", "USDT", Kept.LEDGER),
    ("bert", "USDT", Kept.ELSEWHERE),
)
Deed = Coroutine[Any, Any, None]
Doing = tuple[str, Act, Deed]


@dataclass
class People:
    """Everybody outside. What they do is decided by the dice when it begins."""

    dice: Random
    witness: Witness
    gates: Gates
    owner_ids: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    here: list[str] = field(default_factory=list)
    payments: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reports: list[tuple[str, model.Report]] = field(default_factory=list)
    last_version: int = 0
    number: int = 0

    bearable = (ConnectionError, DBAPIError, DatabaseOutOfReach)
    """What a caller sees when a connection is cut or an answer is lost."""

    # -------------------------------------------------------------------------------------------------- moving in

    async def move_in(self, database: Database) -> None:
        """Two owners, four wallets, and money in the exchange accounts."""
        for name in ("anna", "bert"):
            self.owner_ids[name] = f"owner_{name}"
            async with database.commit() as session:
                session.add(Owner(id=f"owner_{name}", name=name.title(), email=f"{name}@example.com"))
            self.witness.worlds[f"owner_{name}"] = model.World([], rates={})
        for asset, rates in _RATES.items():
            await self._set_rate(database, asset, rates[0])
        await self._set_rate(database, "EUR", "1.1")
        for name, currency, kept in _WALLETS:
            await self._open_wallet(database, self.owner_ids[name], currency, kept)
        for owner_id in self.owner_ids.values():
            for account in ("funding", "trading"):
                for asset in ("USDT", "USDC", "BTC", "SOL"):
                    await self._begin_fund(database, owner_id, account, asset, self._some(asset, 90))

    async def _open_wallet(self, database: Database, owner_id: str, currency: str, kept: Kept) -> None:
        async with database.commit() as session:
            record = await open_wallet(
                session, owner_id=owner_id, currency=currency, bound_to=None, kept=kept
            )
        wallet = model.Wallet(currency, kept is Kept.ELSEWHERE, record.id)
        self.witness.wallets[record.id] = wallet
        self.witness.owners[record.id] = owner_id
        self.witness.worlds[owner_id].wallets.append(wallet)
        (self.elsewhere if kept is Kept.ELSEWHERE else self.here).append(record.id)
        if kept is Kept.LEDGER:
            await self._add(
                database, self._named({"wallet": record.id, "amount": self._units(currency, 100)})
            )

    # --------------------------------------------------------------------------------------------------- anything

    def do_something(self, database: Database) -> Doing:
        """What somebody does next."""
        return self.dice.choices(
            (
                self._pay_some,
                self._pay_again,
                self._add_some,
                self._fund_some,
                self._report_some,
                self._change_rule,
                self._change_rate,
            ),
            (10, 1, 1, 3, 4, 6, 0.5),
        )[0](database)

    def _pay_some(self, database: Database) -> Doing:
        wallet_id = self.dice.choice(self.here)
        wallet = self.witness.wallets[wallet_id]
        share = self.dice.choice((0.05, 0.3, 0.6, 0.9, 1.1))
        about = self._named({"wallet": wallet_id, "amount": max(1, int(wallet.balance * share))})
        self.payments.append(("pay", about))
        return self._doing("pay", lambda: self._pay(database, about))

    def _add_some(self, database: Database) -> Doing:
        wallet_id = self.dice.choice(self.here)
        currency = self.witness.wallets[wallet_id].currency
        about = self._named(
            {"wallet": wallet_id, "amount": self._units(currency, self.dice.choice((1, 20, 80)))}
        )
        self.payments.append(("add", about))
        return self._doing("add", lambda: self._add(database, about))

    def _pay_again(self, database: Database) -> Doing:
        """Somebody who got no answer, or does not believe it, asks again under the same name."""
        if not self.payments:
            return self._pay_some(database)
        kind, first = self.dice.choice(self.payments[-10:])
        about = {name: first[name] for name in ("wallet", "amount", "key")}
        deed = self._pay if kind == "pay" else self._add
        return self._doing(kind, lambda: deed(database, about))

    def _fund_some(self, database: Database) -> Doing:
        owner_id = self.dice.choice(list(self.owner_ids.values()))
        account, asset = (
            self.dice.choice(("funding", "trading")),
            self.dice.choice(("USDT", "USDC", "BTC", "SOL")),
        )
        held = self.witness.worlds[owner_id].held.get((account, asset), 0)
        amount = (
            self._some(asset, 60) if self.dice.random() < 0.5 else -max(1, int(held * self.dice.random()))
        )
        about = self._named({"owner": owner_id, "account": account, "asset": asset, "amount": amount})
        return self._doing("fund", lambda: self._fund(database, about))

    def _report_some(self, database: Database) -> Doing:
        """Reports from elsewhere: in order or not, some told before, some several at once."""
        wallet_id = self.dice.choice(self.elsewhere)
        told = []
        for _ in range(self.dice.choice((1, 1, 1, 2, 3))):
            known = [report for name, report in self.reports if name == wallet_id]
            if known and self.dice.random() < 0.25:
                told.append(self.dice.choice(known[-5:]))
                continue
            self.last_version += self.dice.choice((1, 1, 2, 3))
            version = max(1, self.last_version - self.dice.choice((0, 0, 0, 2, 5)))
            balance = self._units("USDT", self.dice.choice((5, 30, 49, 50, 51, 120)))
            self.number += 1
            report = model.Report(f"told-{self.number}", version, balance)
            told.append(report)
            self.reports.append((wallet_id, report))
        about = {"wallet": wallet_id, "reports": told}
        return self._doing("report", lambda: self._report(database, about))

    def _change_rate(self, database: Database) -> Doing:
        asset = self.dice.choice(list(_RATES))
        rate = self.dice.choice(_RATES[asset])
        return self._doing("rate", lambda: self._set_rate(database, asset, rate))

    def _change_rule(self, database: Database) -> Doing:
        wallet_id = self.dice.choice(self.here + self.elsewhere)
        wallet = self.witness.wallets[wallet_id]
        if wallet.rule is None or not wallet.rule.id or self.dice.random() < 0.05:
            about: dict[str, Any] = {
                "what": "create",
                "wallet": wallet_id,
                "rule": None,
                "on": self.dice.random() < 0.9,
            }
            about["terms"] = self._terms(wallet.currency)
            return self._doing("change", lambda: self._change(database, about))
        version = wallet.rule.version - (self.dice.random() < 0.1)
        about = {"wallet": wallet_id, "rule": wallet.rule.id, "version": version}
        match self.dice.choices(("edit", "save", "on", "off", "delete"), (5, 5, 3, 2, 1))[0]:
            case "edit":
                terms = self._terms(wallet.currency)
                fields = self.dice.sample(("threshold", "amount", "account", "sources"), 2)
                about |= {"what": "edit", "changes": {name: getattr(terms, name) for name in fields}}
            case "save":
                about |= {"what": "edit", "changes": {}}
            case "on":
                about |= {"what": "switch", "on": True}
            case "off":
                about |= {"what": "switch", "on": False}
            case _:
                about |= {"what": "delete"}
        return self._doing("change", lambda: self._change(database, about))

    # ------------------------------------------------------------------------------------------------------ deeds

    async def _pay(self, database: Database, about: dict[str, Any]) -> None:
        with doing("pay", **about) as act:
            async with database.commit() as session:
                wallet = await name_wallet(session, about["wallet"], bound_to=None)
                amount = Money(wallet.currency, about["amount"])
                answer = await pay_from_wallet(session, wallet, amount, payment_id=about["key"])
        status = "refused" if isinstance(answer, BalanceInsufficient) else "moved"
        self._expect(act, status)

    async def _add(self, database: Database, about: dict[str, Any]) -> None:
        with doing("add", **about):
            async with database.commit() as session:
                wallet = await name_wallet(session, about["wallet"], bound_to=None)
                amount = Money(wallet.currency, about["amount"])
                await deposit_to_wallet(session, wallet, amount, payment_id=about["key"])

    async def _begin_fund(
        self, database: Database, owner_id: str, account: str, asset: str, amount: int
    ) -> None:
        about = self._named({"owner": owner_id, "account": account, "asset": asset, "amount": amount})
        await self._fund(database, about)

    async def _fund(self, database: Database, about: dict[str, Any]) -> None:
        asset, units = about["asset"], about["amount"]
        with doing("fund", **about):
            async with database.commit() as session:
                account_id = await open_account(
                    session, kind=about["account"], owner_id=about["owner"], wallet_id=None, asset=asset
                )
                move = deposit if units > 0 else pay
                await move(session, key=about["key"], account_id=account_id, amount=Money(asset, abs(units)))

    async def _report(self, database: Database, about: dict[str, Any]) -> None:
        reports = [
            Report(one.event_id, about["wallet"], Money("USDT", one.balance), one.version, BEGINNING)
            for one in about["reports"]
        ]
        with doing("report", **about) as act:
            async with database.commit() as session:
                await hold_wallets_elsewhere(session, [about["wallet"]], bound_to=None)
                receipts = await record_reports(session, reports)
        self._expect(act, [(receipt.duplicate, receipt.stale) for receipt in receipts])

    async def _set_rate(self, database: Database, asset: str, rate: str) -> None:
        currency = "USDT"
        with doing("rate", asset=asset, currency=currency, rate=rate):
            async with database.commit() as session:
                await set_rate(session, RateRecord(asset, currency, rate))  # type: ignore[arg-type]

    async def _change(self, database: Database, about: dict[str, Any]) -> None:
        with doing("change", **about) as act:
            try:
                async with database.commit() as session:
                    await self._change_in(session, about)
            except (RuleExists, RuleLocked, RuleUnknown, VersionStale) as refusal:
                told = self.witness.told(act.about)
                if told[1] != _REFUSALS[type(refusal)]:
                    self.witness.complain(f"{about} was refused: {refusal!r}, though the model says {told}")

    async def _change_in(self, session: Any, about: dict[str, Any]) -> None:
        given: dict[str, Any] = {"version": about.get("version"), "author": _AUTHOR}
        match about["what"]:
            case "create":
                wallet_id = about["wallet"]
                currency = self.witness.wallets[wallet_id].currency
                draft = TermsDraft(**_written(about["terms"], currency))
                await create_rule(
                    session, wallet_id=wallet_id, draft=draft, enabled=about["on"], author=_AUTHOR
                )
            case "edit":
                currency = self.witness.wallets[about["wallet"]].currency
                changes = {
                    name: Money(currency, value).text if name in ("threshold", "amount") else value
                    for name, value in about["changes"].items()
                }
                await edit_rule(session, about["rule"], changes, **given)
            case "switch":
                switch = enable_rule if about["on"] else disable_rule
                await switch(session, about["rule"], **given)
            case _:
                await delete_rule(session, about["rule"], **given)

    # ---------------------------------------------------------------------------------------------------- details

    def _doing(self, kind: str, deed: Callable[[], Deed]) -> Doing:
        return kind, Act("nothing"), deed()

    def _expect(self, act: Act, answer: object) -> None:
        expected = act.about.get("expected")
        if expected != answer:
            self.witness.complain(f"{act} was answered {answer}")

    def _named(self, about: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        return {**about, "key": f"key-{self.number}"}

    def _terms(self, currency: str) -> model.Terms:
        caps: dict[str, tuple[int | None, int | None]] = {}
        if self.dice.random() < 0.2:
            caps["month"] = (None, self.dice.choice((1, 3, 8)))
        return model.Terms(
            threshold=self._units(currency, self.dice.choice((20, 50, 80))),
            amount=self._units(currency, self.dice.choice((10, 40, 100, 250))),
            account=self.dice.choice(("funding", "funding", "trading")),
            sources=self.dice.choice(_SOURCES),
            caps=caps,
        )

    def _some(self, asset: str, worth: int) -> int:
        return max(1, int(worth * _TYPICAL[asset] * 10 ** _SCALES[asset] * (0.2 + self.dice.random())))

    def _units(self, currency: str, whole: int) -> int:
        return int(whole * 10 ** _SCALES[currency])


def _written(terms: model.Terms, currency: str) -> dict[str, Any]:
    month = terms.caps.get("month")
    return {
        "threshold": Money(currency, terms.threshold).text,
        "amount": Money(currency, terms.amount).text,
        "account": terms.account,
        "sources": list(terms.sources),
        "caps": {"month": {"count": month[1]}} if month else None,
    }
