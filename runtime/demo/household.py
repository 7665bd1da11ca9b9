"""An owner of the demo with wallet, exchange account and rule, reached through the API only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx2

from runtime.demo.api import Api
from topup.rule import AccountKind

CURRENCY = "USDT"


@dataclass(frozen=True, slots=True)
class Opening:
    """How a story opens: one owner, one wallet, one rule; `holds` is the rule's sources in rank order."""

    owner: str
    wallet: str
    threshold: str
    amount: str
    holds: Mapping[str, str]
    account: AccountKind = AccountKind.FUNDING

    @property
    def email(self) -> str:
        """Where the owner's mails go."""
        return f"{self.owner.lower()}@example.com"


@dataclass(frozen=True, slots=True)
class Household:
    """The owner of an opening as the product knows them; nothing is kept here, everything is asked for."""

    api: Api
    opening: Opening
    owner_id: str
    wallet_id: str
    rule_id: str

    @classmethod
    def open(cls, api: Api, opening: Opening) -> Self:
        """Register the owner, bring in the money and draw up the rule."""
        owner = api.send("POST", "/v1/owners", {"name": opening.owner, "email": opening.email})["id"]
        wallet = api.send("POST", "/v1/wallets", {"owner_id": owner, "currency": CURRENCY})["id"]
        api.send("POST", "/v1/ledger/deposits", {"wallet_id": wallet, "amount": opening.wallet})
        for asset, amount in opening.holds.items():
            source = {"owner_id": owner, "account": opening.account, "asset": asset}
            api.send("POST", "/v1/ledger/deposits", {**source, "amount": amount})
        rule = api.send("POST", "/v1/rules", _terms(opening, wallet))["id"]
        return cls(api, opening, owner, wallet, rule)

    def wallet(self) -> dict[str, Any]:
        """The wallet as it stands."""
        return self.api.get(f"/v1/wallets/{self.wallet_id}")

    def rule(self) -> dict[str, Any]:
        """The rule as it stands."""
        return self.api.get(f"/v1/rules/{self.rule_id}")

    def preview(self) -> dict[str, Any]:
        """What would happen now."""
        return self.api.send("POST", f"/v1/rules/{self.rule_id}/preview")

    def held(self) -> dict[str, str]:
        """What the rule's account holds of each asset."""
        accounts = self.api.get(f"/v1/owners/{self.owner_id}/accounts")["data"]
        balances = next(each["balances"] for each in accounts if each["kind"] == self.opening.account)
        return {balance["asset"]: balance["available"] for balance in balances}

    def top_ups(self) -> list[dict[str, Any]]:
        """The rule's top-ups, oldest first, also when the rule is gone."""
        return list(self.api.each("/v1/top-ups", rule_id=self.rule_id))[::-1]

    def decisions(self) -> Iterator[dict[str, Any]]:
        """Why the rule fired and why not, newest first, also when the rule is gone."""
        return self.api.each(f"/v1/rules/{self.rule_id}/decisions")

    def revisions(self) -> list[dict[str, Any]]:
        """What was changed of the rule, oldest first, also when the rule is gone."""
        return list(self.api.each(f"/v1/rules/{self.rule_id}/revisions"))[::-1]

    def deliveries(self) -> list[dict[str, Any]]:
        """How far the messages to the owner are, on every channel."""
        return list(self.api.each(f"/v1/owners/{self.owner_id}/notifications"))

    def mails(self) -> list[dict[str, Any]]:
        """The mails the owner got, oldest first."""
        return self.api.letters(self.opening.email)

    def pushes(self) -> list[dict[str, Any]]:
        """What was pushed to the owner's devices, oldest first; a push knows its owner by id."""
        return self.api.letters(self.owner_id)

    def pay(self, amount: str) -> dict[str, Any]:
        """Spend from the wallet, and give what the API says of the payment."""
        return self.api.send("POST", "/v1/ledger/payments", {"wallet_id": self.wallet_id, "amount": amount})

    def add_by_hand(self, amount: str) -> None:
        """Put money into the wallet from outside."""
        self.api.send("POST", "/v1/ledger/deposits", {"wallet_id": self.wallet_id, "amount": amount})

    def switch_fault(self, asset: str, fault: str) -> None:
        """Make the next draw from a source go wrong."""
        source = {"owner_id": self.owner_id, "account": self.opening.account, "asset": asset}
        self.api.send("PUT", "/v1/ledger/faults", {**source, "fault": fault, "times": 1})

    def change_rule(self, method: str, way: str = "", body: dict[str, Any] | None = None) -> httpx2.Response:
        """Ask for a change of the rule as it stands, and give the answer, whatever it is."""
        version = self.rule()["version"]
        return self.api.ask(method, f"/v1/rules/{self.rule_id}{way}", body, version=version)


def _terms(opening: Opening, wallet_id: str) -> dict[str, Any]:
    return {
        "wallet_id": wallet_id,
        "threshold": opening.threshold,
        "amount": opening.amount,
        "account": opening.account,
        "sources": list(opening.holds),
        "enabled": True,
    }
