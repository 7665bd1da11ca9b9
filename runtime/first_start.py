"""The first start of a development run: an API key, and a demo owner whose wallet can be spent from."""

from collections.abc import Callable
from typing import Any

import httpx2

from runtime.cannot_run import CannotRun

KEY_SCOPES = "admin,rules:read,rules:write,wallets:read,events:write"
KEY_NAME = "development"

OWNER = {"name": "Ada Demo", "email": "ada@example.com"}
OPERATOR = "Demo operator"
CURRENCY = "USDT"
WALLET_BALANCE = "80.00"
FUNDING = (("USDT", "60.00"), ("USDC", "500.00"), ("BTC", "0.01"))
RULE = {
    "threshold": "50.00",
    "amount": "100.00",
    "account": "funding",
    "sources": ["USDT", "USDC", "BTC"],
    "enabled": True,
}
SPENT = "45.00"

_SECONDS = 30.0


class DemoOwnerFailed(CannotRun):
    """The API refused a step of setting up the demo owner."""


class DevelopmentApi:
    """The few calls of the HTTP API that a development run needs, with its key."""

    def __init__(self, address: str, key: str) -> None:
        """Open a client; proxies of the environment are left aside."""
        self._client = httpx2.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_SECONDS,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def accepts_key(self) -> bool:
        """Tell whether the API still knows the key."""
        return self._client.get("/v1/wallets", params={"limit": 1}).status_code == httpx2.codes.OK

    def find(self, path: str) -> dict[str, Any] | None:
        """Read one thing; none when it does not exist."""
        answer = self._client.get(path)
        if answer.status_code == httpx2.codes.NOT_FOUND:
            return None
        return self._body(answer)

    def post(self, path: str, body: dict[str, Any], *, once: str) -> dict[str, Any]:
        """Make something; the same `once` makes it once, however often the start is repeated."""
        return self._body(self._client.post(path, json=body, headers={"Idempotency-Key": once}))

    def _body(self, answer: httpx2.Response) -> dict[str, Any]:
        if answer.is_success:
            body: dict[str, Any] = answer.json()
            return body
        msg = f"{answer.request.method} {answer.request.url} was answered {answer.status_code}: {answer.text[:400]}"
        raise DemoOwnerFailed(msg)


def make_demo_owner(
    api: DevelopmentApi, known: dict[str, Any], *, remember: Callable[[str, str], None]
) -> None:
    """Make what of the demo owner is not there yet; `remember` is told each id as soon as it exists.

    Raises `DemoOwnerFailed`.
    """
    owner_id = str(known.get("owner_id") or _make(api, "owner_id", "/v1/owners", OWNER, "owner", remember))
    wallet = {"owner_id": owner_id, "currency": CURRENCY}
    wallet_id = str(
        known.get("wallet_id") or _make(api, "wallet_id", "/v1/wallets", wallet, owner_id, remember)
    )
    if known.get("rule_id") is None:
        _deposit(api, {"wallet_id": wallet_id, "amount": WALLET_BALANCE}, owner_id)
        for asset, amount in FUNDING:
            _deposit(
                api, {"owner_id": owner_id, "account": "funding", "asset": asset, "amount": amount}, owner_id
            )
        _make(api, "rule_id", "/v1/rules", {"wallet_id": wallet_id, **RULE}, owner_id, remember)


def _make(
    api: DevelopmentApi,
    name: str,
    path: str,
    body: dict[str, Any],
    once: str,
    remember: Callable[[str, str], None],
) -> str:
    made = str(api.post(path, body, once=f"demo-{name}-{once}")["id"])
    remember(name, made)
    return made


def _deposit(api: DevelopmentApi, body: dict[str, Any], owner_id: str) -> None:
    api.post("/v1/ledger/deposits", body, once=f"demo-{owner_id}-{body.get('asset', 'wallet')}")
