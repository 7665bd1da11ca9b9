"""Rules driven through the API step by step at random, beside a model of the rules: both must say the same."""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import pytest
from httpx2 import Response
from hypothesis import HealthCheck, Phase, seed, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition

from tests.api.chances import (
    FAULTS,
    RATES,
    Size,
    Tale,
    changes,
    currencies,
    drafts,
    gaps,
    rivals,
    sizes,
    tales,
    versions,
    which,
)
from tests.api.conftest import Json
from tests.api.model import Decision, Report, Rule, Terms, Told, TopUp, Wallet, World
from tests.api.story import Story
from tests.api.town import Server, open_town, utc_now
from tests.builders import Household
from tests.outages.invariants import assert_invariants
from topup.money import Money

PARTS, EXAMPLES, STEPS = 3, 5, 30
"""How much the tests try, the same each time; `FUZZ_EXAMPLES` asks for more, and for others each time."""
FUZZED = os.environ.get("FUZZ_EXAMPLES")

Moved = TypeVar("Moved")


class RulesThroughTheApi(stateful.RuleBasedStateMachine):
    """Whoever uses a rule, the watcher and the deeds, in any order; after each step the API says what the model says.

    A failure prints the steps, and what to decorate this class with so that they are taken again.
    """

    server: ClassVar[Server]

    def __init__(self) -> None:
        """Open a town of its own."""
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.exits = AsyncExitStack()
        self.url = self.exits.enter_context(self.server.database())
        self.town = self._do(open_town(self.url, self.exits))
        self.world = World([])
        self.since: datetime | None = None
        self.told = count(1)
        self.held: dict[tuple[str, str], int] = {}
        self.decided: dict[str, int] = {}
        self.top_ups = ""
        """What was compared last; it is compared again when the model has it changed, and in the end."""
        self.watched = self.worked = False
        """A watcher is at work, which judges what is told at once, and a worker, which sees top-ups through."""
        self.rival: int | None = None
        """The source that the owner's other business takes half of while the worker is between check and draw."""
        self.sound = False

    # ------------------------------------------------------------------------------------------ how it begins

    @initialize(
        currencies=st.tuples(currencies, currencies),
        balance=sizes(2, 10),
        funded=st.lists(sizes(0, 12), min_size=6, max_size=6),
        drafted=st.tuples(drafts, drafts),
        watched=st.sampled_from((True, True, False)),
        worked=st.booleans(),
        rival=rivals,
    )
    def begin(
        self,
        currencies: tuple[str, str],
        balance: Size,
        funded: list[Size],
        drafted: tuple[Json, Json],
        *,
        watched: bool,
        worked: bool,
        rival: int | None,
    ) -> None:
        self.watched, self.worked, self.rival = watched, worked, rival
        for currency, kept in zip(currencies, ("ledger", "elsewhere"), strict=True):
            body = {"owner_id": self.town.owner_id, "currency": currency, "kept": kept}
            opened = self._do(self.town.caller.post("/v1/wallets", body)).json()
            self.world.wallets.append(Wallet(currency, kept == "elsewhere", opened["id"]))
        self._deposit(self.world.wallets[0], balance.of(currencies[0]))
        for place, draft in enumerate(drafted):
            self.create_rule(place, draft, enabled=True)
        for place, size in enumerate(funded):
            self.fund(place, place // 2, size)

    # ---------------------------------------------------------------------------------------- what owners do

    @stateful.rule(which=which, draft=drafts, enabled=st.booleans())
    def create_rule(self, which: int, draft: Json, *, enabled: bool) -> None:
        wallet = self.world.wallets[which]
        body = {"wallet_id": wallet.id, "enabled": enabled, **self._written(draft, wallet)}
        before = wallet.rule
        answer = self._do(self.town.caller.post("/v1/rules", body))
        self._same(answer, wallet.create_rule(self._terms(draft, wallet), enabled=enabled))
        if answer.status_code == 201 and wallet.rule:
            wallet.rule.id = answer.json()["id"]
            self._tagged(answer, wallet.rule)
        elif answer.status_code == 409 and before:
            assert answer.json()["rule_id"] == before.id

    def some_rule(self) -> bool:
        """Whether any wallet has or had a rule."""
        return any(wallet.newest_rule for wallet in self.world.wallets)

    @precondition(some_rule)
    @stateful.rule(which=which, changed=changes, version=versions)
    def edit(self, which: int, changed: Json, version: str) -> None:
        wallet, found = self._ruled(which)
        wanted = self._version(found, version)
        answer = self._change("PATCH", found, "", wanted, self._written(changed, wallet))
        terms = self._terms({**self._drafted(found.terms), **self._resolved(changed, wallet)}, wallet)
        new = {name: getattr(terms, name) for name in changed}
        self._answered(answer, wallet, wallet.edit(new, wanted))

    @precondition(some_rule)
    @stateful.rule(which=which, deed=st.sampled_from(("enable", "enable", "disable")), version=versions)
    def switch(self, which: int, deed: str, version: str) -> None:
        wallet, found = self._ruled(which)
        wanted = self._version(found, version)
        answer = self._change("POST", found, f"/{deed}", wanted)
        self._answered(answer, wallet, wallet.switch(on=deed == "enable", version=wanted))

    @precondition(some_rule)
    @stateful.rule(which=which, draft=drafts, version=versions)
    def replace(self, which: int, draft: Json, version: str) -> None:
        """Delete the rule, and give the wallet another one."""
        wallet, found = self._ruled(which)
        wanted = self._version(found, version)
        answer = self._change("DELETE", found, "", wanted)
        self._answered(answer, wallet, wallet.delete(wanted))
        if answer.status_code == 204:
            gone = self._change("PATCH", found, "", wanted, self._written(draft, wallet))
            self._answered(gone, wallet, wallet.edit({}, wanted))
            self.create_rule(self.world.wallets.index(wallet), draft, enabled=True)

    @precondition(some_rule)
    @stateful.rule(which=which)
    def preview(self, which: int) -> None:
        wallet, found = self._ruled(which)
        answer = self._do(self.town.caller.post(f"/v1/rules/{found.id}/preview"))
        if wallet.rule is None:
            assert answer.status_code == 404
            return
        shares, missing = self.world.plan(wallet, found.terms)
        state, _, _ = wallet.state(utc_now())
        shown = answer.json()
        assert shown["would_fire"] == (state == "armed" and wallet.known and _is_below(wallet))
        assert (shown["outcome"], shown["reason"]) == (
            ("failed", "insufficient_balance") if missing else ("completed", "full")
        )
        assert shown["draws"] == [
            {
                "rank": share.rank,
                "asset": share.asset,
                "debit": Money(share.asset, share.debit).text,
                "credit": wallet.text(share.credit),
            }
            for share in shares
            if not missing
        ]

    # --------------------------------------------------------------------------------------- money, and the world

    @stateful.rule(which=which, size=sizes(1, 6), again=st.booleans())
    def deposit(self, which: int, size: Size, *, again: bool) -> None:
        wallet = self.world.wallets[which]
        self._deposit(wallet, size.of(wallet.currency), again=again)

    @stateful.rule(which=st.sampled_from((0, 0, 0, 1)), size=sizes(1, 6), again=st.booleans())
    def pay(self, which: int, size: Size, *, again: bool) -> None:
        wallet = self.world.wallets[which]
        self._pay(wallet, size.of(wallet.currency), again=again)

    @precondition(some_rule)
    @stateful.rule(which=which, gaps=st.lists(gaps, min_size=1, max_size=3))
    def dip(self, which: int, gaps: list[Size]) -> None:
        """Go down to the line, just below it, or far below; money comes in first where there is less."""
        wallet, found = self._ruled(which)
        for gap in gaps:
            left = max(0, found.terms.threshold - gap.of(wallet.currency, least=-1))
            if wallet.elsewhere:
                newest = wallet.last.version if wallet.last else 0
                self._report(wallet, [Report(f"evt-{next(self.told)}", newest + 1, left)])
                continue
            if wallet.balance <= left:
                self._deposit(wallet, left + 1 - wallet.balance)
            self._pay(wallet, wallet.balance - left)

    @stateful.rule(tales=st.lists(tales, min_size=1, max_size=3), backwards=st.booleans())
    def report(self, tales: list[Tale], *, backwards: bool) -> None:
        wallet = self.world.wallets[1]
        reports = self._made_up(wallet, tales)
        self._report(wallet, reports[::-1] if backwards else reports)

    @precondition(some_rule)
    @stateful.rule(which=which, place=st.integers(0, 2), size=sizes(0, 8))
    def fund(self, which: int, place: int, size: Size) -> None:
        account, asset = self._source(which, place)
        self._do(self.town.caller.fund(self.town.owner_id, asset, size.text(asset), account))
        self.world.fund(account, asset, size.of(asset))

    @precondition(some_rule)
    @stateful.rule(which=which, place=st.integers(0, 2), size=sizes(1, 6))
    def take(self, which: int, place: int, size: Size) -> None:
        """The owner's other business takes from the exchange account."""
        account, asset = self._source(which, place)
        self._take(account, asset, size.of(asset))

    @stateful.rule(rate=st.sampled_from(RATES))
    def set_rate(self, rate: tuple[str, str, str]) -> None:
        body = dict(zip(("asset", "currency", "rate"), rate, strict=True))
        answer = self._do(self.town.caller.change("PUT", "/v1/ledger/rates", body))
        assert answer.json() == body
        self.world.set_rate(*rate)

    @precondition(some_rule)
    @stateful.rule(
        which=which, place=st.integers(0, 2), fault=st.sampled_from(FAULTS), times=st.integers(1, 2)
    )
    def switch_fault(self, which: int, place: int, fault: str | None, times: int) -> None:
        account, asset = self._source(which, place)
        body = {"owner_id": self.town.owner_id, "account": account, "asset": asset}
        answer = self._do(
            self.town.caller.change("PUT", "/v1/ledger/faults", {**body, "fault": fault, "times": times})
        )
        assert answer.status_code == 200
        self.world.faults[account, asset] = (fault or "", times if fault else 0)

    # ---------------------------------------------------------------------------------- the watcher and the deeds

    def something_waits(self) -> bool:
        return any(wallet.waiting for wallet in self.world.wallets)

    @precondition(something_waits)
    @stateful.rule(
        days_ago=st.sampled_from((0, 0, 0, 1, 40)),
        events_max=st.sampled_from((1, 2, 1000)),
        watchers=st.integers(1, 2),
    )
    def judge(self, days_ago: int, events_max: int, watchers: int) -> None:
        """Top-ups may have begun on another day, or in another month: that is what caps go by."""
        self._judge(utc_now() - timedelta(days=days_ago), events_max, watchers)

    def _judge(self, at: datetime, events_max: int, watchers: int) -> None:
        claimed = self._do(self.town.judge(at, events_max=events_max, watchers=watchers))
        fired = sum(wallet.judge_all(at) for wallet in self.world.wallets)
        assert len(claimed) == fired

    @stateful.rule(watched=st.booleans(), worked=st.booleans(), rival=rivals)
    def change_shifts(self, *, watched: bool, worked: bool, rival: int | None) -> None:
        """A watcher or a worker stops or starts."""
        self.watched, self.worked, self.rival = watched, worked, rival

    @precondition(something_waits)
    @stateful.rule()
    def neglect(self) -> None:
        """A minute passes in which no watcher looks."""
        self._do(self.town.neglect_a_minute())
        self.world.neglect(timedelta(minutes=1))

    def some_unchecked(self) -> bool:
        return bool(self._unchecked())

    def some_undrawn(self) -> bool:
        return bool(self._undrawn())

    def some_unsettled(self) -> bool:
        return bool(self._unsettled())

    def some_open(self) -> bool:
        return bool(self._open())

    @precondition(some_unchecked)
    @stateful.rule(which=which, again=st.booleans())
    def check(self, which: int, *, again: bool) -> None:
        self._check(_pick(self._unchecked(), which), again=again)

    def _check(self, wallet: Wallet, *, again: bool) -> None:
        story = self._story(wallet)
        assert self._do(story.holds_lock())
        self._do(story.check(again=again))
        self.world.check(wallet)

    @precondition(some_undrawn)
    @stateful.rule(which=which, again=st.booleans())
    def draw(self, which: int, *, again: bool) -> None:
        self._draw(_pick(self._undrawn(), which), again=again)

    def _draw(self, wallet: Wallet, *, again: bool) -> None:
        faulty = self.world.faults_left(wallet)
        self._do(self._story(wallet).draw_next(again=again and not faulty))
        self.world.draw_next(wallet)

    @precondition(some_unsettled)
    @stateful.rule(which=which, again=st.booleans())
    def settle(self, which: int, *, again: bool) -> None:
        self._settle(_pick(self._unsettled(), which), again=again)

    def _settle(self, wallet: Wallet, *, again: bool) -> None:
        story = self._story(wallet)
        self._do(story.settle(again=again))
        self.world.settle(wallet, utc_now())
        assert not self._do(story.holds_lock())

    def _see_through(self, wallet: Wallet) -> None:
        """Nothing comes between but a rival, if there is one (R17)."""
        if wallet.in_hand.shares is None:
            self._check(wallet, again=False)
            self._compete(wallet.in_hand.terms)
        while wallet.in_hand.may_draw:
            self._draw(wallet, again=False)
        self._settle(wallet, again=False)

    @precondition(some_open)
    @stateful.rule(which=which)
    def sweep(self, which: int) -> None:
        """The run is gone, wherever it was."""
        wallet = _pick(self._open(), which)
        self._do(self._story(wallet).sweep())
        self.world.sweep(wallet, utc_now())

    # -------------------------------------------------------------------------------- both say the same

    @invariant()
    def says_what_the_model_says(self) -> None:
        self._work()
        self.world.record((self.since or utc_now(), utc_now()))
        self._do(self._compare())
        self.since, self.sound = None, True

    def _work(self) -> None:
        """Whoever is at work does what there is to do."""
        while (self.watched and self.something_waits()) or (self.worked and self._open()):
            if self.watched and self.something_waits():
                self._judge(utc_now(), events_max=1000, watchers=1)
            if self.worked:
                self._do(self._name_top_ups())
                for wallet in self._open():
                    self._see_through(wallet)

    def teardown(self) -> None:
        """Bring all to rest; what was said all along is still so, on every page, and money is conserved."""
        try:
            if self.sound:
                self._do(self._compare_the_past())
                self._do(assert_invariants(self.town.database))
        finally:
            self.loop.run_until_complete(self.exits.aclose())
            self.loop.close()

    def _open(self) -> list[Wallet]:
        return [wallet for wallet in self.world.wallets if wallet.open_top_up]

    def _unchecked(self) -> list[Wallet]:
        return [wallet for wallet in self._open() if wallet.in_hand.shares is None]

    def _undrawn(self) -> list[Wallet]:
        return [wallet for wallet in self._open() if wallet.in_hand.may_draw]

    def _unsettled(self) -> list[Wallet]:
        done = (self._unchecked(), self._undrawn())
        return [wallet for wallet in self._open() if not any(wallet in some for some in done)]

    async def _compare(self) -> None:
        """Read everything; anew where a day ended while it was read."""
        while True:
            began = utc_now()
            wallets = await self.town.list_all("/v1/wallets")
            rules = await self.town.list_all("/v1/rules")
            ended = utc_now()
            if began.date() == ended.date():
                break
        self._compare_wallets(wallets, (began, ended))
        self._compare_rules(rules, ended)
        if self._known_of_top_ups() != self.top_ups:
            await self._compare_top_ups()
        if self.world.held != self.held:
            await self._compare_accounts()
        await self._compare_top_ups()
        for wallet in self.world.wallets:
            if wallet.rule and len(wallet.rule.decisions) != self.decided.get(wallet.rule.id, 0):
                await self._compare_decisions(wallet, wallet.rule, limit=100)

    def _compare_wallets(self, shown: Sequence[Json], read: tuple[datetime, datetime]) -> None:
        assert [wallet["id"] for wallet in shown] == [wallet.id for wallet in reversed(self.world.wallets)]
        for told, wallet in zip(shown, reversed(self.world.wallets), strict=True):
            assert told["balance"] == wallet.text(wallet.balance)
            assert told["rule_id"] == (wallet.rule.id if wallet.rule else None)
            assert (told["alert"] or {}).get("code") in wallet.alerts(read)
            last = told["last_report"] and (told["last_report"]["event_id"], told["last_report"]["version"])
            assert last == (wallet.last and (wallet.last.event_id, wallet.last.version))

    def _compare_rules(self, shown: Sequence[Json], at: datetime) -> None:
        told = {rule["wallet_id"]: rule for rule in shown}
        assert len(shown) == len(told)
        assert set(told) == {wallet.id for wallet in self.world.wallets if wallet.rule}
        for wallet in self.world.wallets:
            if wallet.rule:
                _compare_rule(told[wallet.id], wallet, wallet.rule, at)
                codes = [warning["code"] for warning in told[wallet.id]["warnings"]]
                assert codes == self.world.warnings(wallet, at)

    def _all_top_ups(self) -> list[tuple[Wallet, TopUp]]:
        return [(wallet, top_up) for wallet in self.world.wallets for top_up in wallet.top_ups]

    def _known_of_top_ups(self) -> str:
        return repr([top_up for _, top_up in self._all_top_ups()])

    async def _name_top_ups(self) -> list[Json]:
        """All top-ups as they are shown; the model learns their names."""
        shown = await self.town.list_all("/v1/top-ups")
        for wallet in self.world.wallets:
            told = [top_up for top_up in shown if top_up["wallet_id"] == wallet.id]
            for one, top_up in zip(reversed(told), wallet.top_ups, strict=True):
                top_up.id = top_up.id or one["id"]
        return shown

    async def _compare_top_ups(self) -> None:
        shown = await self._name_top_ups()
        told = {top_up["id"]: top_up for top_up in shown}
        for wallet, top_up in self._all_top_ups():
            _compare_top_up(told[top_up.id], wallet, top_up)
        assert len(told) == len(self._all_top_ups())
        in_progress = [top_up["rule_id"] for top_up in shown if top_up["state"] == "in_progress"]
        assert len(set(in_progress)) == len(in_progress)
        self.top_ups = self._known_of_top_ups()

    async def _compare_decisions(self, wallet: Wallet, found: Rule, *, limit: int) -> None:
        decisions = await self.town.list_all(f"/v1/rules/{found.id}/decisions", limit=limit)
        _compare_decisions(decisions, wallet, found.decisions)
        self.decided[found.id] = len(found.decisions)

    async def _compare_accounts(self) -> None:
        shown = (await self.town.caller.get(f"/v1/owners/{self.town.owner_id}/accounts")).json()
        self.held = dict(self.world.held)
        told = {
            (account["kind"], balance["asset"]): balance["available"]
            for account in shown["data"]
            for balance in account["balances"]
        }
        held = {(kind, asset): Money(asset, units).text for (kind, asset), units in self.world.held.items()}
        empty = {(kind, asset): Money(asset, 0).text for kind, asset in told}
        assert told == {**empty, **held}

    async def _compare_the_past(self) -> None:
        """What the accounts hold; every decision and every revision of every rule there ever was, page by page."""
        await self._compare_accounts()
        await self._compare_top_ups()
        for wallet in self.world.wallets:
            for found in [*wallet.past_rules, *([wallet.rule] if wallet.rule else [])]:
                await self._compare_decisions(wallet, found, limit=3)
                revisions = await self.town.list_all(f"/v1/rules/{found.id}/revisions", limit=3)
                told = [(revision["version"], revision["change"]) for revision in reversed(revisions)]
                assert told == list(enumerate(found.revisions, 1))

    # ------------------------------------------------------------------------------------------------ how

    def _do(self, deed: Coroutine[Any, Any, Moved]) -> Moved:
        self.sound = False
        self.since = getattr(self, "since", None) or utc_now()
        return self.loop.run_until_complete(deed)

    def _post_once(self, path: str, body: Json, *, again: bool) -> Response:
        """Send it, twice if so told: the second time changes nothing."""
        post = partial(self.town.caller.post, path, body, key=str(uuid4()))
        answer = self._do(post())
        if again:
            repeated = self._do(post())
            assert repeated.status_code == answer.status_code
            assert {**repeated.json(), "request_id": 0} == {**answer.json(), "request_id": 0}
        return answer

    def _deposit(self, wallet: Wallet, amount: int, *, again: bool = False) -> None:
        body = {"wallet_id": wallet.id, "amount": wallet.text(amount)}
        answer = self._post_once("/v1/ledger/deposits", body, again=again)
        self._same(answer, wallet.deposit(amount))

    def _pay(self, wallet: Wallet, amount: int, *, again: bool = False) -> None:
        body = {"wallet_id": wallet.id, "amount": wallet.text(amount)}
        answer = self._post_once("/v1/ledger/payments", body, again=again)
        self._same(answer, wallet.pay(amount))

    def _compete(self, terms: Terms) -> None:
        if self.rival is not None:
            asset = terms.sources[self.rival % len(terms.sources)]
            half = self.world.held.get((terms.account, asset), 0) // 2
            if half:
                self._take(terms.account, asset, half)

    def _take(self, account: str, asset: str, amount: int) -> None:
        wallet = self.world.wallets[0]
        home = Household(self.town.database, self.town.owner_id, wallet.id, wallet.currency)
        self._do(home.take(Money(asset, amount).text, asset, account=account))
        self.world.take(account, asset, amount)

    def _report(self, wallet: Wallet, reports: Sequence[Report]) -> None:
        events = [
            {
                "event_id": report.event_id,
                "wallet_id": wallet.id,
                "balance": wallet.text(report.balance),
                "version": report.version,
                "occurred_at": f"2026-01-{report.version % 28 + 1:02}T00:00:00Z",
            }
            for report in reports
        ]
        body = events[0] if len(events) == 1 else {"events": events}
        answer = self._do(self.town.caller.post("/v1/balance-events", body))
        taken = wallet.take_reports(reports)
        if taken is None:
            self._same(answer, (409, "event_id_reused"))
            return
        receipts = [{"accepted": True, "duplicate": again, "stale": stale} for again, stale in taken]
        assert answer.json() == (receipts[0] if len(receipts) == 1 else {"data": receipts})

    def _source(self, which: int, place: int) -> tuple[str, str]:
        """One source of the rule of a wallet, as it is or was last."""
        _, found = self._ruled(which)
        return found.terms.account, found.terms.sources[place % len(found.terms.sources)]

    def _change(
        self, method: str, found: Rule, deed: str, version: int | None, body: Json = None
    ) -> Response:
        path = f"/v1/rules/{found.id}{deed}"
        return self._do(self.town.caller.change(method, path, body, version=version))

    def _same(self, answer: Response, expected: Told) -> None:
        problem = answer.json() if answer.content else {}
        assert (answer.status_code, problem.get("code")) == expected, answer.text

    def _answered(self, answer: Response, wallet: Wallet, expected: Told) -> None:
        """A change went as it should; a refused one of a locked rule names the top-up."""
        self._same(answer, expected)
        if expected[0] == 200 and wallet.rule:
            self._tagged(answer, wallet.rule)
        if expected[1] == "rule_locked":
            assert wallet.open_top_up
            assert answer.json()["top_up_id"] == wallet.open_top_up.id
            assert "Retry-After" in answer.headers

    def _tagged(self, answer: Response, found: Rule) -> None:
        assert answer.headers["ETag"] == f'"{found.version}"'
        shown = self._do(self.town.caller.get(f"/v1/rules/{found.id}"))
        assert shown.headers["ETag"] == f'"{found.version}"'
        assert shown.json()["version"] == answer.json()["version"] == found.version

    def _ruled(self, which: int) -> tuple[Wallet, Rule]:
        wallet = _pick([wallet for wallet in self.world.wallets if wallet.newest_rule], which)
        assert wallet.newest_rule
        return wallet, wallet.newest_rule

    def _version(self, found: Rule, wanted: str) -> int | None:
        return {"good": found.version, "stale": found.version - 1}.get(wanted)

    def _story(self, wallet: Wallet) -> Story:
        return self._do(self.town.story(wallet.in_hand))

    def _made_up(self, wallet: Wallet, tales: Sequence[Tale]) -> list[Report]:
        """The reports, in the order of their versions where they are new."""
        newest = wallet.last.version if wallet.last else 0
        past = [report for report, _ in wallet.reports.values()]
        reports: list[Report] = []
        for tale in tales:
            balance = tale.size.of(wallet.currency, least=0)
            before = past[-tale.jump % len(past)] if past else None
            if before and tale.kind == "again":
                reports.append(before)
            elif before and tale.kind == "reused":
                reports.append(Report(before.event_id, before.version, before.balance + 1))
            elif tale.kind == "late":
                late = max(0, newest - tale.jump + 1)
                reports.append(Report(f"evt-{next(self.told)}", late, balance))
            else:
                newest += tale.jump
                reports.append(Report(f"evt-{next(self.told)}", newest, balance))
        return reports

    def _resolved(self, draft: Json, wallet: Wallet) -> Json:
        """The draft with its amounts in smallest units."""

        def units(value: Json) -> Json:
            return value.of(wallet.currency) if isinstance(value, Size) else value

        given = {name: units(value) for name, value in draft.items() if name != "caps"}
        if "caps" in draft:
            given["caps"] = {
                period: (units(bounds["amount"]), bounds["count"])
                for period, bounds in (draft["caps"] or {}).items()
            }
        return given

    def _terms(self, draft: Json, wallet: Wallet) -> Terms:
        given = {"caps": {}, **draft}
        if isinstance(given["threshold"], Size):
            given = {"caps": {}, **self._resolved(draft, wallet)}
        return Terms(**{**given, "sources": tuple(given["sources"])})

    def _drafted(self, terms: Terms) -> Json:
        names = ("threshold", "amount", "account", "sources", "caps")
        return {name: getattr(terms, name) for name in names}

    def _written(self, draft: Json, wallet: Wallet) -> Json:
        """The draft as an owner writes it."""
        return {
            name: _caps_text(value, wallet)
            if name == "caps"
            else value.text(wallet.currency)
            if isinstance(value, Size)
            else value
            for name, value in draft.items()
        }


def _pick(wallets: Sequence[Wallet], which: int) -> Wallet:
    return wallets[which % len(wallets)]


def _is_below(wallet: Wallet) -> bool:
    return wallet.rule is not None and wallet.balance < wallet.rule.terms.threshold


def _caps_text(drafted: Json, wallet: Wallet) -> Json:
    return drafted and {
        period: {**bounds, "amount": bounds["amount"] and bounds["amount"].text(wallet.currency)}
        for period, bounds in drafted.items()
    }


def _compare_rule(told: Json, wallet: Wallet, found: Rule, at: datetime) -> None:
    terms = found.terms
    assert told["id"] == found.id
    assert (told["threshold"], told["amount"]) == (wallet.text(terms.threshold), wallet.text(terms.amount))
    assert (told["account"], told["enabled"], told["version"]) == (
        terms.account,
        found.enabled,
        found.version,
    )
    assert [source["asset"] for source in told["sources"]] == list(terms.sources)
    state, waiting_for, until = wallet.state(at)
    assert (told["state"], told["waiting_for"]) == (state, waiting_for)
    assert (told["waiting_until"] and datetime.fromisoformat(told["waiting_until"])) == until
    assert (told["locked_by"] is not None) == (found.holder is not None)
    if found.holder and found.holder.id:
        assert told["locked_by"] == found.holder.id
    bounds = {period: (amount and wallet.text(amount), most) for period, (amount, most) in terms.caps.items()}
    shown = {period: (one["amount"], one["count"]) for period, one in (told["caps"] or {}).items() if one}
    assert shown == bounds


def _compare_top_up(told: Json, wallet: Wallet, top_up: TopUp) -> None:
    assert (told["id"], told["rule_id"], told["rule_version"]) == (top_up.id, top_up.rule.id, top_up.version)
    assert (told["state"] == "ended") == (top_up.outcome is not None)
    assert (told["outcome"], told["reason"]) == (top_up.outcome, top_up.reason)
    assert (told["amount"], told["credited"]) == (
        wallet.text(top_up.terms.amount),
        wallet.text(top_up.credited),
    )
    assert top_up.credited <= top_up.terms.amount
    assert told["trigger"]["balance"] == wallet.text(top_up.trigger.balance)
    assert told["trigger"]["threshold"] == wallet.text(top_up.terms.threshold)
    assert datetime.fromisoformat(told["started_at"]) == top_up.started_at
    assert told["draws"] == [
        {
            "rank": result.rank,
            "asset": result.asset,
            "status": result.status,
            "reason": result.reason,
            "debited": Money(result.asset, result.debited).text,
            "credited": wallet.text(result.credited),
        }
        for result in top_up.shown
    ]
    notified = sorted(notification["channel"] for notification in told["notifications"])
    assert notified == (["email", "push"] if top_up.outcome not in (None, "not_needed") else [])


def _compare_decisions(shown: Sequence[Json], wallet: Wallet, decisions: Sequence[Decision]) -> None:
    """Newest first over HTTP, oldest first in the model."""
    told = [(one["balance"], one["fired"], one["reason"], one["top_up_id"]) for one in reversed(shown)]
    assert told == [
        (
            wallet.text(made.event.balance),
            made.reason == "below_threshold",
            made.reason,
            made.top_up.id if made.top_up else None,
        )
        for made in decisions
    ]
    for one, made in zip(reversed(shown), decisions, strict=True):
        assert one["event_id"] == (made.event.event_id or one["event_id"])


def machine_of(part: int) -> type[RulesThroughTheApi]:
    """The machine, with examples of its own for this part; others each time when more is asked for."""
    machine = type(f"Part{part}", (RulesThroughTheApi,), {})
    return machine if FUZZED else seed(part)(machine)


@pytest.mark.rule("R5")
@pytest.mark.rule("R6")
@pytest.mark.rule("R7")
@pytest.mark.rule("R8")
@pytest.mark.rule("R9")
@pytest.mark.rule("R10")
@pytest.mark.rule("R12")
@pytest.mark.rule("R13")
@pytest.mark.rule("R16")
@pytest.mark.rule("R17")
@pytest.mark.rule("R18")
@pytest.mark.rule("R19")
@pytest.mark.rule("R25")
@pytest.mark.rule("R26")
class TestRulesThroughTheApi:
    @pytest.mark.parametrize("part", range(1 if FUZZED else PARTS))
    def test_do_what_the_model_does_whatever_comes_between(
        self, postgres_url: str, template: str, part: int
    ) -> None:
        RulesThroughTheApi.server = Server(postgres_url, template)

        tried = settings(
            max_examples=int(FUZZED or EXAMPLES),
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        stateful.run_state_machine_as_test(
            machine_of(part), settings=tried if FUZZED else settings(tried, database=None)
        )
