"""Households with one of everything, so that whatever the API is asked for by an id can be there."""

from collections.abc import Mapping
from datetime import UTC, datetime

from adapters.postgres.webhooks import hand_out
from api.examples import FIELDS
from tests.api.conftest import Caller
from tests.builders import events_readable

Household = Mapping[str, str]
"""Ids by the names of the parameters that take them; `bare` is a wallet without a rule, `elsewhere` one kept there."""


async def furnish(caller: Caller) -> Household:
    """An owner with wallets, a rule, a top-up in progress, a webhook endpoint with a delivery, and a browser."""
    owner_id = await caller.register_owner()
    await caller.fund(owner_id, "USDT", "100000")
    endpoint = await caller.post(
        "/v1/webhook-endpoints", {"owner_id": owner_id, "url": "https://shop.example.com/"}
    )
    wallet_id = await caller.open_wallet(owner_id, balance="1000")
    rule = await caller.create_rule(wallet_id)
    busy = await caller.open_wallet(owner_id, balance="1000")
    await caller.create_rule(busy)
    await caller.judge()
    await caller.pay(busy, "960")
    (top_up_id,) = await caller.judge()
    elsewhere = {"owner_id": owner_id, "currency": "USDT", "kept": "elsewhere"}
    browser = {"owner_id": owner_id, "endpoint": FIELDS["endpoint"] + owner_id, "keys": KEYS}
    endpoint_id = endpoint.json()["id"]
    await events_readable(caller.database)
    await hand_out(caller.database, now=datetime.now(UTC))
    deliveries = await caller.get(f"/v1/webhook-endpoints/{endpoint_id}/deliveries")
    return {
        "owner_id": owner_id,
        "wallet_id": wallet_id,
        "rule_id": rule["id"],
        "top_up_id": top_up_id,
        "endpoint_id": endpoint_id,
        "delivery_id": deliveries.json()["data"][0]["id"],
        "subscription_id": (await caller.post("/v1/push-subscriptions", browser)).json()["id"],
        "bare": await caller.open_wallet(owner_id),
        "elsewhere": (await caller.post("/v1/wallets", elsewhere)).json()["id"],
    }


KEYS = {name: FIELDS[name] for name in ("p256dh", "auth")}
