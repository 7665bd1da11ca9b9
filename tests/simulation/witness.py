"""The witness: looks at the store after every commit, and compares it with a model of plain Python."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import ceil, floor
from typing import Any

import psycopg

from activities.messages import Checked, CheckOrder, Covered, DrawOrder, Recovered, SettleOrder, Uncovered
from activities.ports import Sight
from tests.api.model import Decision, Event, Result, Rule, TopUp, Wallet, World
from tests.simulation.programs import Act
from topup.keys import draw_key, report_key

_VIEW = """
SELECT json_build_object(
'accounts', (SELECT json_object_agg(concat_ws('/', kind, owner_id, wallet_id, asset), posted) FROM account
    WHERE posted <> 0),
'held', (SELECT count(*) FROM account WHERE held <> 0 OR posted < held AND kind NOT IN ('house', 'world')),
'reports', (SELECT json_object_agg(wallet_id, json_build_array(balance, version)) FROM balance_report),
'rules', (SELECT json_object_agg(wallet_id, json_build_array(id, threshold, amount, account, sources, enabled,
    armed, locked_by, spent_while_locked, version)) FROM rule),
'waiting', (SELECT json_agg(json_build_array(wallet_id, id, change, balance, stale) ORDER BY seq)
    FROM balance_event WHERE NOT judged),
'top_ups', (SELECT json_agg(json_build_array(id, wallet_id, rule_id, trigger_event_id, amount, rule_version, outcome,
    reason, credited, checked, handed_over_at IS NOT NULL) ORDER BY id) FROM top_up
    WHERE id = ANY(%(open)s) OR state = 'in_progress'),
'ended', (SELECT count(*) FROM top_up WHERE state = 'ended'),
'decisions', (SELECT json_agg(json_build_array(event_id, reason, top_up_id) ORDER BY seq) FROM decision
    WHERE event_id = ANY(%(waiting)s)),
'decided', (SELECT count(*) FROM decision),
'transfers', (SELECT json_agg(json_build_array(id, status, debited, credited)) FROM transfer
    WHERE id = ANY(%(keys)s)),
'moved', (SELECT count(*) FROM transfer),
'deliveries', (SELECT json_object_agg(concat_ws('/', coalesce(top_up_id, event_id), kind, channel), status)
    FROM delivery)
)
"""


class Wrong(AssertionError):
    """The store, or an answer, is not what the model says."""


@dataclass(slots=True)
class Transfer:
    """What the ledger remembers under a key."""

    status: str
    debited: int = 0
    credited: int = 0


@dataclass(slots=True)
class Look:
    """A look at wallet and sources under way, and all that it may have seen."""

    order: CheckOrder
    seen: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)


@dataclass(eq=False)
class Witness:
    """The model, and what of the store it cannot know by itself: ids, and how far a judging has come."""

    overseer: psycopg.Connection[Any]
    now: Callable[[], datetime]
    has_run: Callable[[str], bool]
    worlds: dict[str, World] = field(default_factory=dict)
    wallets: dict[str, Wallet] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """Whose wallet it is."""
    accounts: dict[str, int] = field(default_factory=dict)
    """What every account holds, by kind, owner, wallet and asset."""
    transfers: dict[str, Transfer] = field(default_factory=dict)
    top_ups: dict[str, tuple[Wallet, TopUp]] = field(default_factory=dict)
    handed_over: set[str] = field(default_factory=set)
    checked: dict[str, Any] = field(default_factory=dict)
    deliveries: dict[str, str] = field(default_factory=dict)
    told_low: dict[str, str] = field(default_factory=dict)
    """The event that each rule's owner was told a low balance by, while it is low."""
    looks: list[Look] = field(default_factory=list)
    decided: int = 0
    moved: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    """How often each kind of commit was seen."""
    complaints: list[str] = field(default_factory=list)
    """What was found wrong. Kept rather than raised: the product's code would catch it."""

    # ------------------------------------------------------------------------------------------------- looking

    def see(self, act: Act) -> None:
        """Something was committed: let the model do the same, and compare."""
        self.counted[act.kind] = self.counted.get(act.kind, 0) + 1
        try:
            view = self._read(act)
            getattr(self, f"_{act.kind}")(act.about, view)
            self._compare(act, view)
        except Exception as wrong:  # noqa: BLE001 whatever it is, the seed has failed
            self.complain(f"{type(wrong).__name__}: {wrong}")
        for look in self.looks:
            look.seen.append(self._sight(look.order))

    def complain(self, message: str) -> None:
        """Something is wrong."""
        self.complaints.append(message)

    def _read(self, act: Act) -> dict[str, Any]:
        order = act.about.get("order")
        asked = {
            "open": [top_up_id for top_up_id, (_, top_up) in self.top_ups.items() if top_up.outcome is None],
            "waiting": [event.event_id for wallet in self.wallets.values() for event in wallet.waiting],
            "keys": self._keys_of(act, order),
        }
        row = self.overseer.execute(_VIEW, asked, prepare=True).fetchone()
        assert row is not None
        view: dict[str, Any] = row[0] if isinstance(row[0], dict) else json.loads(row[0])
        return view

    @staticmethod
    def _keys_of(act: Act, order: Any) -> list[str]:
        match order:
            case SettleOrder():
                return [draw_key(order.top_up_id, rank) for rank in (1, 2, 3)]
            case DrawOrder():
                return [order.key]
            case _:
                return [act.about["key"]] if "key" in act.about else []

    def _compare(self, act: Act, view: Mapping[str, Any]) -> None:
        self._take_ids(view)
        expected = self._expected()
        found = {
            "accounts": view["accounts"] or {},
            "held": view["held"],
            "rules": view["rules"] or {},
            "waiting": _by_wallet(view["waiting"]),
            "decided": view["decided"],
            "moved": view["moved"],
            "reports": {name: tuple(told) for name, told in (view["reports"] or {}).items()},
            "ended": view["ended"],
            "open": sorted(row[0] for row in view["top_ups"] or () if row[6] is None),
            "handed over": sorted(row[0] for row in view["top_ups"] or () if row[6] is None and row[10]),
            "deliveries": view["deliveries"] or {},
        }
        wrong = {
            name: {"store": found[name], "model": value}
            for name, value in expected.items()
            if found[name] != value
        }
        if wrong:
            message = f"after {act.kind} {_brief(act)}: {json.dumps(wrong, default=str)}"
            raise Wrong(message)

    def _expected(self) -> dict[str, Any]:
        running = [top_up_id for top_up_id, (_, top_up) in self.top_ups.items() if top_up.outcome is None]
        return {
            "accounts": {name: units for name, units in self.accounts.items() if units},
            "held": 0,
            "rules": {name: _rule(wallet) for name, wallet in self.wallets.items() if wallet.rule},
            "waiting": {
                name: [(event.change, event.balance, event.stale) for event in wallet.waiting]
                for name, wallet in self.wallets.items()
                if wallet.waiting
            },
            "decided": self.decided,
            "moved": self.moved,
            "reports": {
                name: (wallet.last.balance, wallet.last.version)
                for name, wallet in self.wallets.items()
                if wallet.last
            },
            "ended": len(self.top_ups) - len(running),
            "open": sorted(running),
            "handed over": sorted(set(running) & self.handed_over),
            "deliveries": self.deliveries,
        }

    def _take_ids(self, view: Mapping[str, Any]) -> None:
        """Events and rules get their names from the store."""
        told: dict[str, list[str]] = {}
        for wallet_id, event_id, *_ in view["waiting"] or ():
            told.setdefault(wallet_id, []).append(event_id)
        for wallet_id, wallet in self.wallets.items():
            for event, event_id in zip(wallet.waiting, told.get(wallet_id, ()), strict=False):
                if event.event_id is None:
                    event.event_id = event_id
            row = (view["rules"] or {}).get(wallet_id)
            if wallet.rule and not wallet.rule.id and row:
                wallet.rule.id = row[0]

    # ------------------------------------------------------------------------------------------- money in and out

    def _pay(self, about: dict[str, Any], _: object) -> None:
        wallet, amount, key = self.wallets[about["wallet"]], about["amount"], about["key"]
        if key not in self.transfers:
            moved = wallet.pay(amount)[0] == 201
            self._book(key, "moved" if moved else "refused", amount if moved else 0)
            if moved:
                self._post(self._wallet_account(wallet), -amount)
                self._post(f"world/{wallet.currency}", amount)
        about["expected"] = self.transfers[key].status

    def _add(self, about: dict[str, Any], _: object) -> None:
        wallet, amount, key = self.wallets[about["wallet"]], about["amount"], about["key"]
        if key not in self.transfers:
            wallet.deposit(amount)
            self._book(key, "moved", amount)
            self._post(self._wallet_account(wallet), amount)
            self._post(f"world/{wallet.currency}", -amount)
        about["expected"] = self.transfers[key].status

    def _fund(self, about: dict[str, Any], _: object) -> None:
        """Money comes into the exchange account, or leaves it where there is enough."""
        owner, account, asset, amount = (about[name] for name in ("owner", "account", "asset", "amount"))
        held = self.worlds[owner].held
        if about["key"] in self.transfers:
            return
        if held.get((account, asset), 0) + amount < 0:
            self._book(about["key"], "refused", 0)
            return
        held[account, asset] = held.get((account, asset), 0) + amount
        self._book(about["key"], "moved", abs(amount))
        self._post(f"{account}/{owner}/{asset}", amount)
        self._post(f"world/{asset}", -amount)

    def _nothing(self, _: object, __: object) -> None:
        """Nothing that the model knows of."""

    def _rate(self, about: dict[str, Any], _: object) -> None:
        for world in self.worlds.values():
            world.set_rate(about["asset"], about["currency"], about["rate"])

    def _report(self, about: dict[str, Any], _: object) -> None:
        wallet = self.wallets[about["wallet"]]
        about["expected"] = wallet.take_reports(about["reports"])
        for event in wallet.waiting:
            if event.event_id and not event.event_id.startswith(("report:", "event_")):
                event.event_id = report_key(about["wallet"], event.event_id)

    # -------------------------------------------------------------------------------------------------- the owner

    def _change(self, about: dict[str, Any], _: object) -> None:
        told = self.told(about)
        if told[0] >= 400:
            message = f"{about} was done, though {told[1]}"
            raise Wrong(message)

    def told(self, about: dict[str, Any]) -> tuple[int, str | None]:
        """What the model answers to a change of a rule."""
        wallet = self.wallets[about["wallet"]]
        if about["rule"] is not None and (wallet.rule is None or wallet.rule.id != about["rule"]):
            return 404, "not_found"
        match about["what"]:
            case "create":
                return wallet.create_rule(about["terms"], enabled=about["on"])
            case "edit":
                return wallet.edit(about["changes"], about["version"])
            case "switch":
                return wallet.switch(on=about["on"], version=about["version"])
            case _:
                return wallet.delete(about["version"])

    # ----------------------------------------------------------------------------------------------------- firing

    def _judge(self, _: object, view: Mapping[str, Any]) -> None:
        """Each wallet's oldest events were judged, as many as the watcher saw."""
        left = {row[1] for row in view["waiting"] or ()}
        for wallet in self.wallets.values():
            judged = [event for event in wallet.waiting if event.event_id not in left]
            if judged != wallet.waiting[: len(judged)]:
                message = f"events of {wallet.id} were judged out of order"
                raise Wrong(message)
            self._judge_some(wallet, judged, view)

    def _judge_some(self, wallet: Wallet, judged: list[Event], view: Mapping[str, Any]) -> None:
        rest, wallet.waiting = wallet.waiting[len(judged) :], list(judged)
        began = wallet.judge_all(self.now())
        wallet.waiting = rest
        if began:
            self._name_top_up(wallet, wallet.top_ups[-1], view)
        self._compare_decisions(wallet, judged, view)

    def _name_top_up(self, wallet: Wallet, top_up: TopUp, view: Mapping[str, Any]) -> None:
        rows = [row for row in view["top_ups"] or () if row[3] == top_up.trigger.event_id]
        expected = (wallet.id, top_up.rule.id, top_up.terms.amount, top_up.version)
        if [(row[1], row[2], row[4], row[5]) for row in rows] != [expected]:
            message = f"{top_up.trigger} should have fired {expected}: {rows}"
            raise Wrong(message)
        top_up.id = rows[0][0]
        self.top_ups[top_up.id] = (wallet, top_up)

    def _compare_decisions(self, wallet: Wallet, judged: list[Event], view: Mapping[str, Any]) -> None:
        ids = {event.event_id for event in judged}
        found = [tuple(row) for row in view["decisions"] or () if row[0] in ids]
        rule = wallet.rule
        made = rule.decisions[-len(judged) :] if rule and judged else []
        expected = [(one.event.event_id, one.reason, one.top_up.id if one.top_up else None) for one in made]
        self.decided += len(expected)
        if rule:
            self._notice_low(rule, made)
        if sorted(found) != sorted(expected):
            message = f"decided {found}, not {expected}"
            raise Wrong(message)

    def _notice_low(self, rule: Rule, made: Sequence[Decision]) -> None:
        """R25: once for each dip, of a spend that leaves the balance low while no top-up follows."""
        low = None
        for decision in made:
            event, reason = decision.event, decision.reason
            below = event.balance < rule.terms.threshold
            if reason == "below_threshold" or (not below and reason != "stale_event"):
                self.told_low.pop(rule.id, None)
                low = None
            unfollowed = reason in ("off", "cap_reached") and event.change in ("spent", "released")
            if unfollowed and below and rule.id not in self.told_low:
                self.told_low[rule.id] = low = str(event.event_id)
        if low:
            self._queue(low, "low_balance")

    def _hand_over(self, _: object, view: Mapping[str, Any]) -> None:
        for row in view["top_ups"] or ():
            if row[10] and row[0] not in self.handed_over:
                if not self.has_run(row[0]):
                    message = f"{row[0]} counts as handed over, but Temporal never had it"
                    raise Wrong(message)
                self.handed_over.add(row[0])

    # -------------------------------------------------------------------------------------------------- executing

    def begin_look(self, order: CheckOrder) -> Look:
        """A look begins: from now on it may see each state there is."""
        look = Look(order, [self._sight(order)])
        self.looks.append(look)
        return look

    def end_look(self, look: Look, sight: Sight) -> None:
        """A look ends: it must have seen all of one moment."""
        self.looks.remove(look)
        found = (sight.balance.units, tuple(holding.available.units for holding in sight.holdings))
        if found not in look.seen:
            self.complain(f"the look for {look.order.top_up_id} saw {found}, which never was: {look.seen}")

    def _sight(self, order: CheckOrder) -> tuple[int, tuple[int, ...]]:
        held = self.worlds[order.owner_id].held
        kind = order.terms.account.value
        return (
            self.wallets[order.wallet_id].balance,
            tuple(held.get((kind, asset), 0) for asset in order.terms.sources),
        )

    def _check(self, about: dict[str, Any], view: Mapping[str, Any]) -> None:
        """What a check found is kept once (R19)."""
        top_up_id = about["top_up"]
        kept = next((row[9] for row in view["top_ups"] or () if row[0] == top_up_id), None)
        if top_up_id in self.checked:
            if kept is not None and kept != self.checked[top_up_id]:
                message = f"{top_up_id} was planned a second time"
                raise Wrong(message)
        elif kept is not None:
            self.checked[top_up_id] = kept

    def _draw(self, about: dict[str, Any], _: object) -> None:
        order: DrawOrder = about["order"]
        if order.key not in self.transfers:
            self._give(order)
        self._expect(about, order.key)

    def _give(self, order: DrawOrder) -> None:
        wallet, top_up = self.top_ups[order.top_up_id]
        if top_up.outcome is not None:
            message = f"{order.key} came after the end of its top-up"
            raise Wrong(message)
        self._refuse_more_than_planned(order, top_up)
        source, rate = (order.account, order.asset), Fraction(order.quote.numerator, order.quote.denominator)
        held = self.worlds[order.owner_id].held
        credited = min(order.credit.units, floor(held.get(source, 0) * rate))
        debited = ceil(credited / rate)
        status = "moved" if credited == order.credit.units else "short" if credited else "refused"
        self.transfers[order.key] = Transfer(status, debited, credited)
        self.moved += 1
        if credited:
            held[source] -= debited
            wallet.arrive(credited)
            self._post(f"{order.account}/{order.owner_id}/{order.asset}", -debited)
            self._post(self._wallet_account(wallet), credited)
            if order.asset != wallet.currency:
                self._post(f"house/{order.asset}", debited)
                self._post(f"house/{wallet.currency}", -credited)

    def _refuse_more_than_planned(self, order: DrawOrder, top_up: TopUp) -> None:
        """R16 to R18: what is asked of a source is its planned share and what a shorter one has left over."""
        finding = Checked.model_validate(self.checked[order.top_up_id]).finding
        assert isinstance(finding, Covered), "only a covered top-up draws"
        carried = asked = 0
        for planned in finding.draws:
            asked = planned.credit.units + carried
            if planned.rank == order.rank:
                break
            given = self.transfers.get(draw_key(order.top_up_id, planned.rank))
            short = given is not None and given.status in ("short", "refused")
            carried = asked - given.credited if given and short else 0
        if order.credit.units > asked or asked > top_up.terms.amount:
            message = f"{order.key} asks for {order.credit.units}, more than its share of {asked}"
            raise Wrong(message)

    def _fence(self, about: dict[str, Any], _: object) -> None:
        self._close_key(about["key"])
        self._expect(about, about["key"])

    def _close_key(self, key: str) -> None:
        if key not in self.transfers:
            self.transfers[key] = Transfer("void")
            self.moved += 1

    def _expect(self, about: dict[str, Any], key: str) -> None:
        given = self.transfers[key]
        about["expected"] = (given.status, given.debited, given.credited)

    def _note(self, about: dict[str, Any], _: object) -> None:
        """R21: the owner is told that a draw is being checked, once per channel, while it is."""
        notice = about["notice"]
        if notice.tell_owner and self.top_ups[notice.top_up_id][1].outcome is None:
            self._queue(notice.top_up_id, "being_checked")

    def _settle(self, about: dict[str, Any], view: Mapping[str, Any]) -> None:
        order: SettleOrder = about["order"]
        wallet, top_up = self.top_ups[order.top_up_id]
        if top_up.outcome is not None:
            return
        for rank in range(1, len(top_up.terms.sources) + 1):
            self._close_key(draw_key(top_up.id, rank))
        row = next(row for row in view["top_ups"] if row[0] == top_up.id)
        self._refuse_untrue(top_up, row)
        waited = list(wallet.waiting)
        self._end(wallet, top_up, row[6], row[7])
        self._compare_decisions(wallet, waited, view)
        if row[6] != "not_needed":
            self._queue(top_up.id, "ended")

    def _refuse_untrue(self, top_up: TopUp, row: Sequence[Any]) -> None:
        """R15, R18, R19: the outcome is what the ledger says moved."""
        keys = [draw_key(top_up.id, rank) for rank in range(1, len(top_up.terms.sources) + 1)]
        credited = sum(self.transfers[key].credited for key in keys)
        full = credited == top_up.terms.amount
        allowed = {"completed"} if full else {"partial"} if credited else {"failed", "not_needed"}
        if row[6] not in allowed or row[8] != credited or credited > top_up.terms.amount:
            message = f"{top_up.id} ended {row[6]} with {row[8]}, but {credited} moved"
            raise Wrong(message)
        finding = self.checked.get(top_up.id, {}).get("finding", {}).get("kind")
        because = {"not_needed": "recovered", "insufficient_balance": "uncovered"}
        if row[6] == "not_needed" and finding != because["not_needed"]:
            message = f"{top_up.id} counts as not needed, but its check found {finding}"
            raise Wrong(message)

    def _end(self, wallet: Wallet, top_up: TopUp, outcome: str, reason: str) -> None:
        for rank, asset in enumerate(top_up.terms.sources, 1):
            given = self.transfers[draw_key(top_up.id, rank)]
            result = Result(rank, asset, given.status, None, given.debited, given.credited, in_ledger=True)
            top_up.results.append(result)
        wallet.end(outcome, reason, self.now())

    # ---------------------------------------------------------------------------------------------------- telling

    def _queue(self, about: str, kind: str) -> None:
        for channel in ("push", "email"):
            self.deliveries.setdefault(f"{about}/{kind}/{channel}", "pending")

    def _deliver(self, _: object, view: Mapping[str, Any]) -> None:
        """A delivery is sent or given up, and stays so."""
        for name, status in (view["deliveries"] or {}).items():
            if self.deliveries.get(name) == "pending":
                self.deliveries[name] = status

    # ---------------------------------------------------------------------------------------------------- booking

    def _book(self, key: str, status: str, units: int) -> None:
        self.transfers[key] = Transfer(status, units, units)
        self.moved += 1

    def _post(self, account: str, units: int) -> None:
        self.accounts[account] = self.accounts.get(account, 0) + units

    def _wallet_account(self, wallet: Wallet) -> str:
        return f"wallet/{self.owners[wallet.id]}/{wallet.id}/{wallet.currency}"


def _by_wallet(rows: Sequence[Sequence[Any]] | None) -> dict[str, list[tuple[str, int, bool]]]:
    found: dict[str, list[tuple[str, int, bool]]] = {}
    for wallet_id, _, change, balance, stale in rows or ():
        found.setdefault(wallet_id, []).append((change, balance, stale))
    return found


def _rule(wallet: Wallet) -> list[Any]:
    rule = wallet.rule
    assert rule is not None
    return [
        rule.id,
        rule.terms.threshold,
        rule.terms.amount,
        rule.terms.account,
        list(rule.terms.sources),
        rule.enabled,
        rule.armed,
        rule.holder.id if rule.holder else None,
        rule.spent_meanwhile,
        rule.version,
    ]


def _brief(act: Act) -> str:
    return str({name: str(value)[:200] for name, value in act.about.items()})


__all__ = ["Recovered", "Uncovered", "Witness", "Wrong"]
