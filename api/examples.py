"""Examples: one household, of whose story every request and every answer in the description tells a part."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from api.schemas import Schema, resolve

UNTOLD = "untold"
"""Stands where the story has no word for a field yet; a test of the description finds it."""

OWNER_ID = "owner_019aa4c3f1d07b2e64d9c05a3f18e6b2"
WALLET_ID = "wallet_019aa4c40b7a91d35ce84f7702b6a1c8"
RULE_ID = "rule_019aa4c41e9c5a08f7b3d2619ce4702d"
TOP_UP_ID = "topup_019aa4d2c6b83e1f90a75b4cd8e2137a"
EVENT_ID = "event_019aa4d2c5e10f4b8a936d27c1b05e94"
ENDPOINT_ID = "endpoint_019aa4c4d3a57e90b1f6284c3e07d59a"
DELIVERY_ID = "msg_019aa4d2ee5c43b7a8f10d962c4e75b3"
SUBSCRIPTION_ID = "push_019aa4c4e81b6f2d90a7c35e14d8b607"
REQUEST_ID = "req_5f0c2a9d7be14380c6a1d94e"
CURSOR = "YWZ0ZXI6NDI"
KEY = "4b9f6c1e-8c57-4f0d-9a63-2f1d5b7e0c38"
AT = "2026-01-15T09:30:00Z"

FIELDS: Mapping[str, Any] = MappingProxyType(
    {
        "account": "funding",
        "after": CURSOR,
        "amount": "100.00",
        "asset": "USDT",
        "at": AT,
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
        "attempts": 1,
        "available": "70.00",
        "balance": "42.50",
        "balance_after": "142.50",
        "balance_before": "42.50",
        "by": "shop (key_019aa4c3a04d6f1b82c957e0d31fa4b6)",
        "caps": {"day": {"amount": "500.00", "count": 5}, "month": None},
        "channel": "email",
        "credit": "70.00",
        "credited": "100.00",
        "currency": "USDT",
        "delivery_id": DELIVERY_ID,
        "debit": "70.00",
        "debited": "70.00",
        "description": "The shop's listener.",
        "disabled_reason": None,
        "email": "ada@example.com",
        "enabled": True,
        "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABn0Qx7",
        "endpoint_id": ENDPOINT_ID,
        "event_id": EVENT_ID,
        "expires_at": "2036-01-15T00:00:00Z",
        "final_balance": "142.50",
        "failing_since": None,
        "fault": "reject",
        "has_more": False,
        "idempotency-key": KEY,
        "if-match": '"3"',
        "last_event_id": "2f1-9",
        "last-event-id": "2f1-9",
        "last_failure": None,
        "limit": 20,
        "locked_by": None,
        "lowest_balance": "42.50",
        "message": "must be more than zero",
        "name": "Ada Lovelace",
        "next_attempt_at": None,
        "next_cursor": None,
        "ok": True,
        "owner_id": OWNER_ID,
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "pointer": "/amount",
        "previous_secret_until": None,
        "host": "updates.push.services.mozilla.com",
        "rank": 1,
        "rate": "60000",
        "request_id": REQUEST_ID,
        "rule_id": RULE_ID,
        "rule_version": 3,
        "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "subject": "Your Pay wallet was topped up with 100.00 USDT",
        "subscription_id": SUBSCRIPTION_ID,
        "threshold": "50.00",
        "times": 1,
        "top_up_id": TOP_UP_ID,
        "url": "https://shop.example.com/tidemark",
        "version": 3,
        "waiting_for": None,
        "waiting_until": None,
        "wallet_id": WALLET_ID,
        "warnings": [],
        "workflow_id": f"top-up/{TOP_UP_ID}",
    }
)
"""What a field of this name holds, wherever it is."""

_DRAWS = [
    {"rank": 1, "asset": "USDT", "status": "transferred", "reason": None, "debited": "70.00", "credited": "70.00"},
    {"rank": 2, "asset": "BTC", "status": "transferred", "reason": None, "debited": "0.0005", "credited": "30.00"},
]  # fmt: skip
_STARTED = {
    "state": "in_progress",
    "outcome": None,
    "reason": None,
    "credited": "0.00",
    "draws": [
        {
            "rank": 1,
            "asset": "USDT",
            "status": "not_reached",
            "reason": None,
            "debited": "0.00",
            "credited": "0.00",
        },
        {
            "rank": 2,
            "asset": "BTC",
            "status": "not_reached",
            "reason": None,
            "debited": "0.00",
            "credited": "0.00",
        },
    ],
    "notifications": [],
    "ended_at": None,
}
_KINDS = ["top_up.ended", "rule.changed"]
_ENDPOINT = {"id": ENDPOINT_ID, "events": _KINDS}
_RANKED = [{"rank": 1, "asset": "USDT"}, {"rank": 2, "asset": "BTC"}]

MODELS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Account": {
            "kind": "funding",
            "balances": [
                {"asset": "USDT", "available": "70.00"},
                {"asset": "BTC", "available": "0.01"},
            ],
        },
        "AccountDeposit": {"asset": "BTC", "amount": "0.01"},
        "Accounts": {
            "data": [
                {
                    "kind": "funding",
                    "balances": [
                        {"asset": "USDT", "available": "70.00"},
                        {"asset": "BTC", "available": "0.01"},
                    ],
                },
                {"kind": "trading", "balances": []},
            ]
        },
        "Alert": {
            "code": "rule_off",
            "message": "The balance of 42.50 USDT is below your threshold of 50.00 USDT, and your rule is off. "
            "Turn it on to top up at once, or add funds by hand.",
        },
        "Alive": {"status": "alive"},
        "BacktestOrder": {"amount": "150.00", "from": "2025-12-15T00:00:00Z", "until": "2026-01-15T00:00:00Z"},
        "Decision": {"fired": True, "reason": "below_threshold"},
        "Delivery": {"id": "delivery_019aa4d2e90b47c6a1f83d52b07e9c64", "status": "sent", "sent_at": AT},
        "Fault": {"times": 1},
        "Finding": {"detail": "answers"},
        "Notification": {"status": "sent"},
        "Owner": {"id": OWNER_ID, "created_at": AT},
        "Payment": {"id": "payment_019aa4d2c4b95d07e2f18a36c0b7f15e", "amount": "20.00", "balance": "42.50"},
        "PaymentOrder": {"amount": "20.00"},
        "Preview": {
            "would_fire": False,
            "outcome": "completed",
            "reason": "full",
            "draws": [
                {"rank": 1, "asset": "USDT", "debit": "70.00", "credit": "70.00"},
                {"rank": 2, "asset": "BTC", "debit": "0.0005", "credit": "30.00"},
            ],
            "warnings": [],
        },
        "Rate": {"asset": "BTC"},
        "RateOrder": {"asset": "BTC"},
        "Ready": {
            "status": "ready",
            "checks": {
                "database": {"ok": True, "detail": "answers"},
                "migrations": {"ok": True, "detail": "at 2026_11_21_the_first_tables"},
                "temporal": {"ok": True, "detail": "answers"},
            },
        },
        "Revision": {"change": "edited", "confirmation": None},
        "RegistrationLink": {
            "url": "https://pay.example.com/join/Qm9hdHMgcmlzZSB3aXRoIHRoZSB0aWRlLCBhbHdheXM",
            "expires_at": "2026-01-16T09:30:00Z",
        },
        "Rule": {
            "id": RULE_ID,
            "sources": _RANKED,
            "state": "armed",
            "created_at": AT,
            "updated_at": AT,
        },
        "RuleEdit": {"amount": "150.00", "sources": ["USDT", "BTC"]},
        "RuleOrder": {"sources": ["USDT", "BTC"]},
        "Subscription": {"id": SUBSCRIPTION_ID, "created_at": AT},
        "Terms": {"sources": ["USDT", "BTC"]},
        "TopUp": {
            "id": TOP_UP_ID,
            "state": "ended",
            "outcome": "completed",
            "reason": "full",
            "draws": _DRAWS,
            "notifications": [{"channel": "push", "status": "sent"}, {"channel": "email", "status": "sent"}],
            "started_at": AT,
            "ended_at": "2026-01-15T09:30:01Z",
        },
        "Transfer": {
            "id": "deposit_019aa4c45a2d70f3b91e6c84d7a05b23",
            "account": None,
            "amount": "62.50",
            "balance": "62.50",
        },
        "Wallet": {"id": WALLET_ID, "balance": "142.50", "last_report": None, "alert": None},
        "WalletDeposit": {"amount": "62.50"},
        "WebhookDelivery": {"id": DELIVERY_ID, "type": "top_up.ended", "status": "delivered", "last_status": 204},
        "WebhookEndpoint": _ENDPOINT,
        "NewWebhookEndpoint": _ENDPOINT,
        "EndpointOrder": {"events": _KINDS, "description": "The shop's listener."},
        "Warning": {"code": "source_empty", "message": "Source 2, BTC, is worth nothing in the funding account now."},
    }
)  # fmt: skip
"""What the fields of one schema hold, where that is not what they hold everywhere."""

OPERATIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "disable_rule": {"enabled": False, "state": "off"},
        "open_wallet": {"balance": "0.00", "rule_id": None},
        "create_rule": {"version": 1},
        "edit_rule": {"amount": "150.00"},
        "on_top_up_started": {"data": _STARTED},
        "on_top_up_draw_settled": {"data": {**_DRAWS[0], "top_up_id": TOP_UP_ID}},
        "on_wallet_balance_changed": {"data": {"balance": "42.50", "change": "spent", "version": 7}},
        "on_rule_changed": {"data": {"sources": _RANKED, "change": "edited"}},
    }
)
"""What the answer of one operation says otherwise."""

STREAMS: Mapping[str, str] = MappingProxyType(
    {
        "stream_events": f"""id: 2f1-8
retry: 2000

event: wallet.balance_changed
data: {{"id":"evt_019aa4d2c6014f7b93d8e05a61c72b4f","type":"wallet.balance_changed","timestamp":"{AT}",
data: "data":{{"wallet_id":"{WALLET_ID}","currency":"USDT","balance":"42.50","version":7,"change":"spent"}}}}
id: 2f1-9

""",
        "get_metrics": """# HELP tidemark_top_ups_open Top-ups in progress.
# TYPE tidemark_top_ups_open gauge
tidemark_top_ups_open 1.0
""",
    }
)
"""What an answer that is text begins with."""

PARAMETERS: Mapping[str, Any] = MappingProxyType({"state": "ended", "outcome": "completed"})
"""What a parameter of this name is, where it is more than a field of its name."""


def example_of(document: Schema, schema: Schema, *, field: str = "") -> Any:
    """A value of the schema, the same at every call."""
    if "$ref" in schema:
        return _of_named(document, schema["$ref"].rpartition("/")[2], field)
    if schema.get("examples"):
        return schema["examples"][0]
    if field in FIELDS:
        return FIELDS[field]
    if "anyOf" in schema or "oneOf" in schema:
        return _of_first(document, schema.get("anyOf") or schema["oneOf"], field)
    return _of_kind(document, schema, field)


def told_otherwise(name: str, example: Any) -> Any:
    """The example as the operation of this name tells it."""
    return _merged(example, OPERATIONS.get(name, {}))


def _merged(example: Any, otherwise: Any) -> Any:
    if not isinstance(example, dict) or not isinstance(otherwise, Mapping):
        return otherwise
    changed = {name: _merged(example.get(name), value) for name, value in otherwise.items()}
    return {**example, **changed}


def _of_named(document: Schema, name: str, field: str) -> Any:
    schema = resolve(document, {"$ref": f"#/components/schemas/{name}"})
    if "enum" in schema and FIELDS.get(field) in schema["enum"]:
        return FIELDS[field]
    if schema.get("type") != "object" or "properties" not in schema:
        return example_of(document, schema)
    told = MODELS.get(name, {})
    return {
        inner: told[inner] if inner in told else example_of(document, kind, field=inner)
        for inner, kind in schema["properties"].items()
        if not told or inner in told or inner in schema.get("required", ())
    }


def _of_first(document: Schema, branches: list[Schema], field: str) -> Any:
    kinds = [branch for branch in branches if branch.get("type") != "null"]
    return example_of(document, kinds[0], field=field)


def _of_kind(document: Schema, schema: Schema, field: str) -> Any:
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    return _of_type(document, schema, field)


def _of_type(document: Schema, schema: Schema, field: str) -> Any:
    match schema.get("type"):
        case "array":
            return [example_of(document, schema.get("items", {}))]
        case "boolean":
            return True
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "object":
            properties = schema.get("properties", {})
            return {name: example_of(document, kind, field=name) for name, kind in properties.items()}
        case "string" if schema.get("format") == "date-time":
            return AT
        case _:
            return f"{UNTOLD} {field}".strip()
