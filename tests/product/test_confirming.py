"""R3: a person confirms one text, which says all of it, in one way of writing it."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import usdt
from tests.product.strategies import all_terms
from topup.caps import Cap, Caps
from topup.confirming import (
    Action,
    Intent,
    SnapshotUnreadable,
    challenge_of,
    read_snapshot,
    shown_hash,
    write_snapshot,
)
from topup.rule import AccountKind, Terms
from topup.widening import Agreement

TERMS = Terms(usdt(50), usdt("100.5"), AccountKind.FUNDING, ("USDT", "USDC"))
INTENT = Intent(
    id="intent_1",
    person_id="user_1",
    wallet_id="wallet_1",
    action=Action.EDIT,
    agreement=Agreement(TERMS, Caps(Cap(usdt(300), 3), None)),
    rule_id="rule_1",
    base_version=4,
    party_id="pay.example.com",
    expires_at=datetime(2026, 11, 21, 12, 2, tzinfo=UTC),
    nonce="n",
)
DIFFERENT = [
    {"id": "intent_2"},
    {"person_id": "user_2"},
    {"wallet_id": "wallet_2"},
    {"action": Action.ENABLE},
    {"agreement": Agreement(replace(TERMS, threshold=usdt(51)), INTENT.agreement.caps)},
    {"agreement": Agreement(replace(TERMS, amount=usdt(101)), INTENT.agreement.caps)},
    {"agreement": Agreement(replace(TERMS, account=AccountKind.TRADING), INTENT.agreement.caps)},
    {"agreement": Agreement(replace(TERMS, sources=("USDC", "USDT")), INTENT.agreement.caps)},
    {"agreement": Agreement(TERMS, None)},
    {"rule_id": "rule_2"},
    {"base_version": 5},
    {"party_id": "pay.example.org"},
    {"expires_at": INTENT.expires_at + timedelta(seconds=1)},
    {"nonce": "m"},
]


@pytest.mark.rule("R3")
class TestTheSnapshot:
    def test_is_written_in_one_way_only(self) -> None:
        assert write_snapshot(INTENT) == (
            '{"action":"edit","base_version":4,"caps":{"day":{"amount":"300.00","count":3},"month":null},'
            '"expires_at":"2026-11-21T12:02:00+00:00","id":"intent_1","nonce":"n","party_id":"pay.example.com",'
            '"person_id":"user_1","rule_id":"rule_1","terms":{"account":"funding","amount":"100.50",'
            '"currency":"USDT","sources":["USDT","USDC"],"threshold":"50.00"},"wallet_id":"wallet_1"}'
        )

    def test_says_the_moment_in_utc(self) -> None:
        there = INTENT.expires_at.astimezone(timezone(timedelta(hours=5)))

        assert write_snapshot(replace(INTENT, expires_at=there)) == write_snapshot(INTENT)

    @pytest.mark.parametrize("changed", DIFFERENT)
    def test_gives_another_challenge_for_anything_else(self, changed: dict[str, Any]) -> None:
        other = write_snapshot(replace(INTENT, **changed))

        assert challenge_of(other) != challenge_of(write_snapshot(INTENT))
        assert shown_hash(other) != shown_hash(write_snapshot(INTENT))

    @given(all_terms(), st.sampled_from(Action), st.text())
    def test_reads_back_as_it_was(self, terms: Terms, action: Action, nonce: str) -> None:
        intent = replace(INTENT, agreement=Agreement(terms, None), action=action, nonce=nonce)

        assert read_snapshot(write_snapshot(intent)) == intent

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nothing",
            "[]",
            "{}",
            write_snapshot(INTENT).replace(",", ", "),
            write_snapshot(INTENT).replace('"100.50"', '"100.5"'),
            write_snapshot(INTENT).replace('"edit"', '"destroy"'),
            write_snapshot(INTENT).replace('["USDT","USDC"]', "[]"),
            json.dumps(
                {**json.loads(write_snapshot(INTENT)), "more": 1}, sort_keys=True, separators=(",", ":")
            ),
        ],
    )
    def test_is_not_read_from_another_text(self, text: str) -> None:
        with pytest.raises(SnapshotUnreadable):
            read_snapshot(text)

    def test_is_signed_for_this_purpose_alone(self) -> None:
        snapshot = write_snapshot(INTENT)

        assert (
            challenge_of(snapshot)
            == hashlib.sha256(b"tidemark/confirm/v1" + b"\x00" + snapshot.encode()).digest()
        )

    def test_is_shown_by_the_beginning_of_its_challenge(self) -> None:
        snapshot = write_snapshot(INTENT)

        assert challenge_of(snapshot).hex().startswith(shown_hash(snapshot).replace(" ", ""))
