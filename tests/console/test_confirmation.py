"""Confirmation: exactly these terms, by this person, once, in time; and a proof that anybody can check again."""

import asyncio
import hashlib
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import httpx2
import pytest
import pytest_asyncio
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import text

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database, run_sql
from adapters.postgres.history import RevisionRecord, list_revisions
from adapters.postgres.rules import RuleRecord, find_rule
from tests.builders import Household, open_household
from tests.console.authenticator import Passkey, Way
from tests.console.test_balance import judge, words_of
from tests.console.visits import Visit, given_in, link_for, visiting
from tests.hands import by_hand
from topup.confirming import challenge_of, read_snapshot, write_snapshot

TERMS = {"threshold": "50", "amount": "100", "account": "funding", "source_1": "USDT", "source_2": "USDC"}


@dataclass(frozen=True, slots=True)
class Signer:
    """An owner with their browser and their passkey."""

    visit: Visit
    passkey: Passkey
    home: Household

    async def ask(self, **fields: Any) -> str:
        """Ask for a rule that is on; the confirmation's address."""
        form = {**TERMS, "version": "", "do": "save-on", **fields}
        answer = await self.visit.send(f"/wallets/{self.home.wallet_id}/auto-top-up", **form)
        assert answer.status_code == 303, answer.text
        location: str = answer.headers["location"]
        assert location.startswith("/confirmations/")
        return location

    async def sign(
        self, path: str, *, passkey: Passkey | None = None, way: Way | None = None
    ) -> dict[str, Any]:
        """Look at the page, and have a passkey answer it."""
        options = given_in(await self.visit.get(path))
        return (passkey or self.passkey).sign(options, way or self.visit.way)

    async def confirm(self, path: str) -> httpx2.Response:
        return await self.visit.answer(path, await self.sign(path))

    async def rule(self) -> RuleRecord | None:
        async with self.home.database.read() as session:
            return await find_rule(session, self.home.wallet_id, bound_to=None)

    async def revisions(self) -> tuple[RevisionRecord, ...]:
        rule = await self.rule()
        assert rule is not None
        async with self.home.database.read() as session:
            return await list_revisions(session, rule.id, after=None, most=10)


@pytest_asyncio.fixture
async def signer(site: str, database: Database) -> AsyncIterator[Signer]:
    """An owner whose wallet holds 80 USDT, with 60 USDT and 500 USDC to draw from."""
    async with visiting(site) as visit:
        yield await register(visit, database)


async def register(visit: Visit, database: Database, *, balance: str = "80") -> Signer:
    home = await open_household(database, balance=balance)
    await home.fund("60", "USDT")
    await home.fund("500", "USDC")
    passkey, _ = await visit.join(await link_for(database, owner_id=home.owner_id))
    await visit.get("/account")
    return Signer(visit, passkey, home)


async def change(database: Database, statement: str, **arguments: Any) -> None:
    """Lay hands on the database."""
    async with by_hand(database) as session:
        await run_sql(session, text(statement), **arguments)


def is_refused(answer: httpx2.Response, status: int, words: str) -> bool:
    """Whether it is a page that says why, and offers to begin anew."""
    page = words_of(answer.text)
    return answer.status_code == status and "Not confirmed" in page and words in page


@pytest.mark.rule("R3")
class TestThePage:
    async def test_says_exactly_the_terms(self, signer: Signer) -> None:
        path = await signer.ask(threshold="50.5", cap_day_count="3", cap_month_amount="1000")

        answer = await signer.visit.get(path)

        page = words_of(answer.text)
        assert "When the balance drops below 50.50 USDT Top up by 100.00 USDT" in page
        assert "From Funding account Drawn from in this order USDT USDC" in page
        assert "At most in a day 3 top-ups At most in a month 1,000.00 USDT" in page
        assert "Good for two minutes, and for one try." in page
        assert answer.headers["cache-control"] == "no-store"

    async def test_comes_from_what_was_kept_and_not_from_the_rule(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(sources=("USDT",))
        path = await signer.ask(version="1", do="save", threshold="70")
        await change(signer.home.database, "UPDATE rule SET threshold = 60000000, amount = 7000000")

        page = words_of((await signer.visit.get(path)).text)

        assert "When the balance drops below 70.00 USDT" in page
        assert "Top up by 100.00 USDT" in page

    async def test_says_what_was_until_now_where_it_widens(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(sources=("USDT",))

        page = words_of((await signer.visit.get(await signer.ask(version="1", do="save"))).text)

        assert "Change auto top-up" in page
        assert "USDT USDC (until now USDT)" in page
        assert "below 50.00 USDT Top up" in page

    async def test_asks_for_the_persons_own_passkeys_and_their_verification(self, signer: Signer) -> None:
        options = given_in(await signer.visit.get(await signer.ask()))

        assert options["userVerification"] == "required"
        assert [b64(each["id"]) for each in options["allowCredentials"]] == [signer.passkey.credential_id]

    @pytest.mark.rule("R11")
    async def test_says_that_nothing_moves_yet(self, signer: Signer) -> None:
        page = words_of((await signer.visit.get(await signer.ask())).text)

        assert "Nothing moves now. It waits for the next payment that leaves less than 50.00 USDT." in page

    @pytest.mark.rule("R11")
    async def test_says_what_happens_at_once(self, site: str, database: Database) -> None:
        async with visiting(site) as visit:
            signer = await register(visit, database, balance="30")
            await signer.home.fund("40", "USDT")

            page = words_of((await visit.get(await signer.ask())).text)
            await signer.confirm(await signer.ask())
            judged = await Claims(database).judge_waiting()

        assert (
            "Your balance of 30.00 USDT is below the threshold of 50.00 USDT, so this tops up 100.00 USDT at once: "
            "100.00 USDT from USDT." in page
        )
        assert len(judged.claimed) == 1


def b64(given: str) -> bytes:
    return urlsafe_b64decode(given + "===")


@pytest.mark.rule("R3", "R5")
class TestConfirming:
    async def test_makes_the_rule_as_shown_and_arms_it(self, signer: Signer) -> None:
        answer = await signer.confirm(await signer.ask(cap_day_count="3"))

        rule = await signer.rule()
        assert answer.headers["location"] == f"/wallets/{signer.home.wallet_id}?done=rule-confirmed"
        assert rule is not None
        assert (rule.enabled, rule.armed, rule.version) == (True, True, 1)
        assert (rule.terms.amount.text, rule.terms.sources) == ("100.00", ("USDT", "USDC"))
        (revision,) = await signer.revisions()
        assert revision.by.startswith("Ada (user_")

    async def test_changes_a_rule_that_is_on(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(sources=("USDT",))

        await signer.confirm(await signer.ask(version="1", do="save", amount="200"))

        rule = await signer.rule()
        assert rule is not None
        assert (rule.version, rule.terms.amount.text) == (2, "200.00")
        assert (await signer.revisions())[0].proof is not None

    async def test_turns_a_rule_on_with_the_terms_it_shows(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(enabled=False, armed=False)

        await signer.confirm(await signer.ask(version="1", threshold="55"))

        rule = await signer.rule()
        assert rule is not None
        assert (rule.enabled, rule.terms.threshold.text) == (True, "55.00")
        assert [each.change for each in await signer.revisions()] == ["enabled", "edited"]
        assert all(each.proof for each in await signer.revisions())

    async def test_leaves_a_proof_that_the_database_alone_can_show(self, signer: Signer) -> None:
        await signer.confirm(await signer.ask())

        (revision,) = await signer.revisions()

        assert revision.proof is not None
        snapshot = verify(revision.proof, origin=signer.visit.origin)
        assert snapshot["terms"] == {name: revision.terms[name] for name in snapshot["terms"]}
        assert snapshot["caps"] == revision.terms["caps"]
        assert revision.by.endswith(f"({snapshot['person_id']})")
        with pytest.raises(InvalidSignature):
            verify({**revision.proof, "authenticator_data": revision.proof["signature"]}, origin="")

    async def test_is_not_there_for_narrowing(self, signer: Signer) -> None:
        await signer.confirm(await signer.ask())
        form = {**TERMS, "version": "1", "do": "save", "amount": "90"}

        await signer.visit.send(f"/wallets/{signer.home.wallet_id}/auto-top-up", **form)

        assert [bool(each.proof) for each in await signer.revisions()] == [False, True]


def verify(proof: Any, *, origin: str) -> dict[str, Any]:
    """Check a proof as an auditor would, with nothing but it and the site's name; what was agreed to."""
    key = cbor2.loads(b64(proof["public_key"]))
    public = ec.EllipticCurvePublicNumbers(
        int.from_bytes(key[-2]), int.from_bytes(key[-3]), ec.SECP256R1()
    ).public_key()
    client, authenticator = b64(proof["client_data_json"]), b64(proof["authenticator_data"])
    signed = authenticator + hashlib.sha256(client).digest()
    public.verify(b64(proof["signature"]), signed, ec.ECDSA(SHA256()))
    said, snapshot = json.loads(client), json.loads(proof["snapshot"])
    challenge = hashlib.sha256(b"tidemark/confirm/v1\x00" + proof["snapshot"].encode()).digest()
    assert (said["type"], b64(said["challenge"]), said["origin"]) == ("webauthn.get", challenge, origin)
    assert authenticator[:32] == hashlib.sha256(snapshot["party_id"].encode()).digest()
    assert authenticator[32] & 0b101 == 0b101, "present and verified"
    confirmed = datetime.fromisoformat(proof["confirmed_at"])
    assert confirmed < datetime.fromisoformat(snapshot["expires_at"])
    return dict(snapshot)


@pytest.mark.rule("R3")
class TestAConfirmationThatIsNone:
    async def test_was_replayed(self, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)
        await signer.visit.answer(path, credential)

        again = await signer.visit.answer(path, credential)
        page = await signer.visit.get(path)

        assert is_refused(again, 409, "has been used already")
        assert is_refused(page, 409, "has been used already")
        assert len(await signer.revisions()) == 1

    async def test_was_sent_many_times_at_once(self, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)

        answers = await asyncio.gather(*[signer.visit.answer(path, credential) for _ in range(5)])

        assert sorted(answer.status_code for answer in answers) == [303, 409, 409, 409, 409]
        assert len(await signer.revisions()) == 1

    async def test_signs_another_intent(self, signer: Signer) -> None:
        lower, higher = await signer.ask(amount="10"), await signer.ask(amount="1000")
        credential = await signer.sign(lower)

        answer = await signer.visit.answer(higher, credential)

        assert is_refused(answer, 403, "does not fit what was asked")
        assert await signer.rule() is None

    async def test_came_too_late(self, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)
        await rewind(signer, path)

        answer = await signer.visit.answer(path, credential)
        page = await signer.visit.get(path)

        assert is_refused(answer, 410, "good for two minutes, and these are over")
        assert is_refused(page, 410, "good for two minutes, and these are over")
        assert await signer.rule() is None

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE confirmation SET snapshot = replace(snapshot, '\"100.00\"', '\"900.00\"')",
            "UPDATE confirmation SET expires_at = expires_at + interval '1 hour'",
            "UPDATE confirmation SET challenge = sha256('other')",
            "UPDATE confirmation SET snapshot = '{}'",
        ],
    )
    async def test_was_tampered_with_after_it_was_signed(self, statement: str, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)
        await change(signer.home.database, statement)

        answer = await signer.visit.answer(path, credential)
        page = await signer.visit.get(path)
        again = await signer.visit.send(f"{path}/again")

        for refused in (answer, page, again):
            assert is_refused(refused, 409, "is not what was written")
        assert await signer.rule() is None

    async def test_was_tampered_with_by_somebody_who_knows_how(self, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)
        await change(
            signer.home.database,
            "WITH other AS (SELECT id, replace(snapshot, '\"100.00\"', '\"900.00\"') AS snapshot FROM confirmation) "
            "UPDATE confirmation c SET snapshot = o.snapshot, "
            "challenge = sha256('tidemark/confirm/v1'::bytea || '\\x00'::bytea || convert_to(o.snapshot, 'UTF8')) "
            "FROM other o WHERE o.id = c.id",
        )

        answer = await signer.visit.answer(path, credential)

        assert is_refused(answer, 403, "does not fit what was asked")
        assert await signer.rule() is None

    async def test_was_sent_without_any_script(self, signer: Signer) -> None:
        path = await signer.ask()

        answer = await signer.visit.send(path, credential="")

        assert is_refused(answer, 403, "Allow JavaScript for this page")
        assert await signer.rule() is None

    @pytest.mark.parametrize("credential", ["{}", "[]", "nothing", '{"rawId": 7}', "{" * 20_000])
    async def test_is_no_answer_of_a_passkey(self, credential: str, signer: Signer) -> None:
        path = await signer.ask()

        answer = await signer.visit.send(path, credential=credential)

        assert is_refused(answer, 403, "could not be read")
        assert await signer.rule() is None

    async def test_was_forged_in_one_of_its_parts(self, signer: Signer) -> None:
        way = signer.visit.way
        ways = {
            "did not check that it is you": replace(way, verified=False),
            "used on another page": replace(way, origin="https://evil.example"),
            "does not fit": replace(way, signature=b"0" * 70),
            "does not fit what was asked": replace(way, challenge="AAAA"),
        }

        for words, forged in ways.items():
            path = await signer.ask()
            answer = await signer.visit.answer(path, await signer.sign(path, way=forged))
            assert is_refused(answer, 403, words)
        assert await signer.rule() is None

    async def test_is_used_up_by_one_failed_try(self, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)
        await signer.visit.send(path, credential="{}")

        answer = await signer.visit.answer(path, credential)

        assert is_refused(answer, 409, "has been used already")
        assert await signer.rule() is None

    async def test_is_signed_by_somebody_else(self, signer: Signer, site: str, database: Database) -> None:
        async with visiting(site) as visit:
            other = await register(visit, database)
            path = await signer.ask()

            mine = await signer.visit.answer(path, await signer.sign(path, passkey=other.passkey))
            theirs = await other.visit.get(path)
            sent = await other.visit.answer(path, {})
            again = await other.visit.send(f"{path}/again")

        assert is_refused(mine, 403, "belongs to somebody else")
        assert [answer.status_code for answer in (theirs, sent, again)] == [404, 404, 404]
        assert await signer.rule() is None

    async def test_comes_from_a_copied_passkey(self, signer: Signer) -> None:
        thief = signer.passkey.copy()
        await signer.confirm(await signer.ask())
        path = await signer.ask(version="1", do="save", amount="900")
        thief.count = 0

        answer = await signer.visit.answer(path, await signer.sign(path, passkey=thief))

        rule = await signer.rule()
        assert is_refused(answer, 403, "may have been copied")
        assert rule is not None
        assert rule.terms.amount.text == "100.00"

    async def test_comes_without_the_pages_own_token(self, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)

        forged = await signer.visit.answer(path, credential, csrf="wrong")

        assert forged.status_code == 403
        assert "This form has expired" in forged.text
        assert (await signer.visit.answer(path, credential)).status_code == 303

    async def test_comes_from_somebody_signed_out(self, signer: Signer) -> None:
        path = await signer.ask()
        credential = await signer.sign(path)
        await change(signer.home.database, "DELETE FROM page_session")

        answer = await signer.visit.answer(path, credential)

        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")
        assert await signer.rule() is None


async def rewind(signer: Signer, path: str) -> None:
    """Let an intent have been written three minutes earlier, in all its parts."""
    intent_id = path.rpartition("/")[2]
    async with signer.home.database.read() as session:
        found = await run_sql(session, text("SELECT snapshot FROM confirmation WHERE id = :id"), id=intent_id)
        intent = read_snapshot(found.scalar_one())
    earlier = replace(intent, expires_at=intent.expires_at - timedelta(minutes=3))
    snapshot = write_snapshot(earlier)
    await change(
        signer.home.database,
        "UPDATE confirmation SET snapshot = :snapshot, challenge = :challenge, expires_at = :at WHERE id = :id",
        snapshot=snapshot,
        challenge=challenge_of(snapshot),
        at=earlier.expires_at,
        id=intent_id,
    )


@pytest.mark.rule("R3")
class TestARuleThatChangedMeanwhile:
    async def test_is_not_changed_by_what_was_shown_for_another(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(sources=("USDT",))
        path = await signer.ask(version="1", do="save", amount="200")
        await change(signer.home.database, "UPDATE rule SET version = 2, threshold = 60000000")

        answer = await signer.confirm(path)

        rule = await signer.rule()
        assert is_refused(answer, 409, "The rule was changed meanwhile")
        assert rule is not None
        assert (rule.terms.amount.text, rule.version) == ("100.00", 2)

    async def test_is_asked_for_anew_by_one_button(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(sources=("USDT",))
        path = await signer.ask(version="1", do="save", amount="200")
        await change(signer.home.database, "UPDATE rule SET version = 2, threshold = 60000000")
        await signer.confirm(path)

        anew = (await signer.visit.send(f"{path}/again")).headers["location"]
        page = words_of((await signer.visit.get(anew)).text)
        answer = await signer.confirm(anew)

        rule = await signer.rule()
        assert "Top up by 200.00 USDT" in page
        assert answer.headers["location"].endswith("?done=rule-confirmed")
        assert rule is not None
        assert (rule.terms.amount.text, rule.terms.threshold.text, rule.version) == ("200.00", "50.00", 3)

    async def test_was_made_by_another_browser(self, signer: Signer) -> None:
        first, second = await signer.ask(), await signer.ask(amount="70")
        await signer.confirm(first)

        answer = await signer.confirm(second)

        assert is_refused(answer, 409, "This wallet was given a rule meanwhile.")
        assert len(await signer.revisions()) == 1

    @pytest.mark.rule("R7")
    async def test_was_locked_by_a_top_up(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(sources=("USDT",))
        path = await signer.ask(version="1", do="save", amount="200")
        await signer.home.spend("40")
        await judge(signer.home.database)

        answer = await signer.confirm(path)
        again = await signer.visit.send(f"{path}/again")

        rule = await signer.rule()
        assert is_refused(answer, 409, "A top-up is in progress")
        assert again.status_code == 409
        assert rule is not None
        assert rule.terms.amount.text == "100.00"

    async def test_was_deleted(self, signer: Signer) -> None:
        await signer.home.draw_up_rule(sources=("USDT",))
        path = await signer.ask(version="1", do="save", amount="200")
        await signer.visit.send(f"/wallets/{signer.home.wallet_id}/auto-top-up/delete", version="1")

        answer = await signer.confirm(path)
        anew = (await signer.visit.send(f"{path}/again")).headers["location"]
        await signer.confirm(anew)

        rule = await signer.rule()
        assert is_refused(answer, 409, "The rule was deleted meanwhile")
        assert rule is not None
        assert (rule.version, rule.terms.amount.text) == (1, "200.00")


class TestTheTime:
    async def test_is_two_minutes(self, signer: Signer) -> None:
        await signer.ask()

        async with signer.home.database.read() as session:
            left = (await run_sql(session, text("SELECT expires_at FROM confirmation"))).scalar_one()

        assert timedelta(seconds=60) < left - datetime.now(UTC) <= timedelta(minutes=2)
