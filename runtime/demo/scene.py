"""The scene of one story: what is done there, and what is claimed of it and looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import httpx2

from runtime.demo.api import await_until
from runtime.demo.household import CURRENCY, Household
from runtime.demo.page import Claim, Page, column_heads, from_to
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus
from topup.trigger import DecisionReason
from topup.words import decision_words, draw_line

CHANNELS = ("email", "push")
NOTHING = "nothing"

_FAULTS = {
    "reject": "The exchange is going to refuse the next transfer of {asset}.",
    "hang": "The next transfer of {asset} is going to hang.",
    "answer_lost_after_moving": "The next transfer of {asset} is going to move, and its answer to get lost.",
    "answer_lost_before_moving": "The next transfer of {asset} is going to get lost before it moves.",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What a source gives: debited in its own asset, worth so much in the wallet's currency."""

    asset: str
    status: DrawStatus = DrawStatus.TRANSFERRED
    debited: str = "0.00"
    worth: str = "0.00"
    reason: DrawReason | None = None


@dataclass(slots=True)
class Scene:
    """Where one story is played; every claim is shown and kept."""

    home: Household
    page: Page
    claims: list[Claim] = field(default_factory=list)

    def claim(self, about: str, *, told: str, seen: str) -> None:
        """Hold what was told against what was seen."""
        self.claims.append(Claim(about, told, seen))
        self.page.claim(self.claims[-1])

    def pays(self, amount: str, *, leaving: str) -> None:
        """Spend from the wallet."""
        self.page.scene(f"{self.home.opening.owner} pays {usdt(amount)}.")
        self.claim("Pay wallet", told=usdt(leaving), seen=usdt(self.home.pay(amount)["balance"]))

    def breaks(self, asset: str, fault: str) -> None:
        """Make the next draw from a source go wrong."""
        self.page.scene(_FAULTS[fault].format(asset=asset))
        self.home.switch_fault(asset, fault)

    def wallet_holds(self, balance: str) -> None:
        """Claim what is in the wallet now."""
        self.claim("Pay wallet", told=usdt(balance), seen=usdt(self.home.wallet()["balance"]))

    def rule_is(self, state: str) -> None:
        """Claim the state in which the rule is now."""
        rule = self.home.rule()
        waits = f", for {rule['waiting_for']}" if rule["waiting_for"] else ""
        self.claim("rule", told=state, seen=f"{rule['state']}{waits}")

    def stays_quiet(self, reason: DecisionReason, *, at: str) -> None:
        """Claim that the balance change to `at` was judged and did not fire the rule, for this reason."""
        decision = await_until(lambda: self._decision_at(at), awaited=f"the decision at {at}")
        seen = DecisionReason(decision["reason"])
        told_words, seen_words = _decided(reason, fired=False), _decided(seen, fired=decision["fired"])
        self.claim("decision", told=told_words, seen=seen_words)

    def fires(self, *, at: str, number: int = 1) -> dict[str, Any]:
        """Claim that the rule fired at this balance for its first, second... top-up; gives it once it has ended."""
        top_up = await_until(lambda: self._ended(number), awaited=f"the end of top-up {number}")
        trigger, threshold = top_up["trigger"], self.home.opening.threshold
        seen = f"{trigger['balance']}, below {trigger['threshold']}"
        self.claim("fired at", told=f"{at}, below {threshold}", seen=seen)
        return top_up

    def ends(self, top_up: dict[str, Any], outcome: str, arrived: str, *given: Given) -> None:
        """Claim how a top-up ended, and what each source gave to it."""
        self.claim("outcome", told=outcome, seen=f"{top_up['outcome']}: {top_up['reason']}")
        asked = usdt(top_up["amount"])
        self.claim("arrived", told=f"{arrived} of {asked}", seen=f"{top_up['credited']} of {asked}")
        told = [_told_result(rank, source) for rank, source in enumerate(given, start=1)]
        seen = [_seen_result(draw) for draw in top_up["draws"]]
        self._claim_each("source", [_words(result) for result in told], [_words(result) for result in seen])

    def refuses(self, about: str, answer: httpx2.Response, *, locked_by: str) -> None:
        """Claim that a change was refused because this top-up holds the lock."""
        problem = answer.json() if answer.is_client_error else {}
        named = "the top-up" if problem.get("top_up_id") == locked_by else "another one"
        seen = f"{answer.status_code} {problem.get('code')}, naming {named}"
        self.claim(about, told="409 rule_locked, naming the top-up", seen=seen)

    def accepts(self, about: str, answer: httpx2.Response, *, status: int = 200) -> None:
        """Claim that a change was accepted."""
        self.claim(about, told=str(status), seen=str(answer.status_code))

    def has_top_ups(self, count: int) -> None:
        """Claim how many top-ups the rule ever had."""
        self.claim("top-ups in all", told=str(count), seen=str(len(self.home.top_ups())))

    def closes(self, *, wallet: str, left: Mapping[str, str]) -> None:
        """Claim what the wallet and each source hold at the end."""
        opening, held = self.home.opening, self.home.held()
        self.page.heading("Balances", column_heads("before", "after"))
        seen = self.home.wallet()["balance"]
        self._claim_change(f"Pay wallet {CURRENCY}", opening.wallet, told=wallet, seen=seen)
        for asset, before in opening.holds.items():
            about = f"{opening.account.value} {asset}"
            self._claim_change(about, before, told=left[asset], seen=held.get(asset, NOTHING))

    def has_sent(self, messages: int) -> None:
        """Wait until so many messages were sent on every channel, so that whatever follows is newer."""
        awaited = f"{messages} mails and pushes to be sent"
        await_until(lambda: self._sent(at_least=len(CHANNELS) * messages), awaited=awaited)

    def tells(self, subjects: Sequence[str]) -> None:
        """Claim the mails and pushes the owner got, each once, and show the mails."""
        self.has_sent(len(subjects))
        mails, pushes = self.home.mails(), self.home.pushes()
        self.page.heading("Messages", f"to {self.home.opening.email}")
        self._claim_each("mail", subjects, [mail["subject"] for mail in mails])
        self._claim_each("push", subjects, [push["subject"] for push in pushes])
        for mail in mails:
            self.page.letter(mail["subject"], mail["text"])

    def _claim_each(self, about: str, told: Sequence[str], seen: Sequence[str]) -> None:
        pairs = zip_longest(told, seen, fillvalue=NOTHING)
        for place, (one_told, one_seen) in enumerate(pairs, start=1):
            self.claim(f"{about} {place}", told=one_told, seen=one_seen)

    def _claim_change(self, about: str, before: str, *, told: str, seen: str) -> None:
        self.claim(about, told=from_to(before, told), seen=from_to(before, seen))

    def _ended(self, number: int) -> dict[str, Any] | None:
        ended = [top_up for top_up in self.home.top_ups() if top_up["state"] == "ended"]
        return ended[number - 1] if len(ended) >= number else None

    def _decision_at(self, balance: str) -> dict[str, Any] | None:
        return next((each for each in self.home.decisions() if each["balance"] == balance), None)

    def _sent(self, *, at_least: int) -> list[str] | None:
        """The messages' statuses once all are sent; None while some are on their way."""
        statuses = [delivery["status"] for delivery in self.home.deliveries()]
        return statuses if len(statuses) >= at_least and set(statuses) <= {"sent"} else None


def usdt(amount: str) -> str:
    """An amount of the wallets' currency."""
    return f"{amount} {CURRENCY}"


def _decided(reason: DecisionReason, *, fired: bool) -> str:
    return f"{'fired' if fired else 'not fired'}, {reason.value}: {decision_words(reason)}"


def _told_result(rank: int, given: Given) -> DrawResult:
    return DrawResult(
        rank=rank,
        asset=given.asset,
        status=given.status,
        reason=given.reason,
        debited=Money.parse(given.debited, given.asset),
        credited=Money.parse(given.worth, CURRENCY),
    )


def _seen_result(draw: Mapping[str, Any]) -> DrawResult:
    return DrawResult(
        rank=draw["rank"],
        asset=draw["asset"],
        status=DrawStatus(draw["status"]),
        reason=DrawReason(draw["reason"]) if draw["reason"] else None,
        debited=Money.parse(draw["debited"], draw["asset"]),
        credited=Money.parse(draw["credited"], CURRENCY),
    )


def _words(result: DrawResult) -> str:
    """What a source gave: the status and the reason that the API has for it, then the words an owner reads."""
    status = f"{result.status.value}, {result.reason.value}" if result.reason else result.status.value
    _source, _, words = draw_line(result).partition(": ")
    return f"{result.asset} {status}: {words}"
