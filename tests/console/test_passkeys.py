"""Assertions: an honest one proves who was there, and nothing that is not one proves anything."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.postgres.database import Database
from adapters.postgres.ids import new_id
from adapters.postgres.passkeys import PasskeyRecord, add_passkey, find_passkey, list_passkeys
from adapters.postgres.sessions import begin_session, find_visitor
from adapters.postgres.tables import Person
from console.passkeys import (
    Assertion,
    Fault,
    PasskeyRefused,
    _check_assertion,
    creation_options,
    new_challenge,
    read_credential,
    request_options,
    verify_assertion,
    verify_registration,
)
from console.wiring import Wiring
from tests.api.conftest import build
from tests.console.authenticator import Passkey, Way, encode, make_passkey

ORIGIN = "https://pay.example.com"
HONEST = Way(ORIGIN)


@pytest.fixture
def wiring(database: Database) -> Wiring:
    found: Wiring = build(database).state.console
    return replace(found, public_url=ORIGIN)


async def register(database: Database, wiring: Wiring, *, synced: bool = False) -> tuple[str, Passkey]:
    """A person, and the passkey they have registered."""
    challenge = new_challenge()
    handle = new_id("handle").encode()
    options = creation_options(wiring, challenge=challenge, name="Ada", handle=handle, passkeys=())
    passkey, credential = make_passkey(options, HONEST, synced=synced)
    new = verify_registration(credential, challenge=challenge, wiring=wiring)
    async with database.commit() as session:
        person = Person(id=new_id("user"), kind="operator", name="Ada", handle=handle)
        session.add(person)
        await session.flush()
        await add_passkey(session, person.id, new, name="a test")
    return person.id, passkey


@pytest_asyncio.fixture
async def person(database: Database, wiring: Wiring) -> tuple[str, Passkey]:
    return await register(database, wiring)


async def answer(
    wiring: Wiring, passkey: Passkey, way: Way = HONEST, *, person_id: str | None = None
) -> Assertion:
    """Ask for the passkey, and verify what it answers."""
    challenge = new_challenge()
    options = request_options(wiring, challenge=challenge)
    return await verify_assertion(
        passkey.sign(options, way), challenge=challenge, wiring=wiring, person_id=person_id
    )


class TestAnAssertion:
    async def test_says_whose_passkey_it_was(self, wiring: Wiring, person: tuple[str, Passkey]) -> None:
        person_id, passkey = person

        by_itself = await answer(wiring, passkey)
        asked_for = await answer(wiring, passkey, person_id=person_id)

        assert by_itself.person_id == asked_for.person_id == person_id
        assert by_itself.credential_id == passkey.credential_id

    async def test_of_a_passkey_that_several_devices_keep_needs_no_counter(
        self, wiring: Wiring, database: Database
    ) -> None:
        _, passkey = await register(database, wiring, synced=True)

        for _ in range(3):
            await answer(wiring, passkey)

        kept = await find_passkey(database, passkey.credential_id)
        assert kept is not None
        assert (kept.usable, kept.backed_up) == (True, True)
        assert kept.last_used_at is not None

    @pytest.mark.parametrize(
        ("way", "fault"),
        [
            (replace(HONEST, verified=False), Fault.NOT_VERIFIED),
            (replace(HONEST, origin="https://pay.example.com.evil.example"), Fault.ELSEWHERE),
            (replace(HONEST, origin="http://pay.example.com"), Fault.ELSEWHERE),
            (replace(HONEST, cross_origin=True), Fault.ELSEWHERE),
            (replace(HONEST, extra={"topOrigin": ORIGIN}), Fault.ELSEWHERE),
            (replace(HONEST, challenge="AAAA"), Fault.FORGED),
            (replace(HONEST, signature=b"forged"), Fault.FORGED),
            (replace(HONEST, user_handle=b"somebody else"), Fault.FORGED),
            (replace(HONEST, extra={"type": "webauthn.create"}), Fault.FORGED),
        ],
    )
    async def test_that_is_not_what_was_asked_for_is_refused(
        self, wiring: Wiring, person: tuple[str, Passkey], way: Way, fault: Fault
    ) -> None:
        person_id, passkey = person

        with pytest.raises(PasskeyRefused) as refused:
            await answer(wiring, passkey, way, person_id=person_id)

        assert refused.value.fault is fault
        assert "nothing was changed" in str(refused.value).lower()

    async def test_of_another_party_is_refused(self, wiring: Wiring, person: tuple[str, Passkey]) -> None:
        _, passkey = person
        passkey.party = "example.com"

        with pytest.raises(PasskeyRefused) as refused:
            await answer(wiring, passkey)

        assert refused.value.fault is Fault.FORGED

    async def test_with_somebody_elses_passkey_is_refused(
        self, wiring: Wiring, database: Database, person: tuple[str, Passkey]
    ) -> None:
        person_id, _ = person
        _, theirs = await register(database, wiring)

        with pytest.raises(PasskeyRefused) as refused:
            await answer(wiring, theirs, person_id=person_id)

        assert refused.value.fault is Fault.NOT_YOURS

    async def test_with_a_passkey_that_nobody_registered_is_refused(
        self, wiring: Wiring, person: tuple[str, Passkey]
    ) -> None:
        _, passkey = person
        passkey.credential_id = b"unheard of"

        with pytest.raises(PasskeyRefused) as refused:
            await answer(wiring, passkey)

        assert refused.value.fault is Fault.UNKNOWN


class TestACopiedPasskey:
    async def test_is_refused_for_good_once_its_counter_goes_backwards(
        self, wiring: Wiring, database: Database, person: tuple[str, Passkey]
    ) -> None:
        person_id, passkey = person
        copied = passkey.copy()
        await answer(wiring, passkey)
        await answer(wiring, passkey)
        async with database.commit() as session:
            kept = (await list_passkeys(session, person_id))[0]
            now = datetime.now(UTC)
            token = await begin_session(session, person_id, browser="a test", passkey_id=kept.id, now=now)

        for one in (copied, passkey):
            with pytest.raises(PasskeyRefused) as refused:
                await answer(wiring, one)
            assert refused.value.fault is Fault.SUSPECT

        assert await find_visitor(database, token) is None

    async def test_cannot_be_made_suspect_without_its_key(
        self, wiring: Wiring, person: tuple[str, Passkey]
    ) -> None:
        _, passkey = person
        await answer(wiring, passkey)

        with pytest.raises(PasskeyRefused):
            await answer(wiring, passkey, replace(HONEST, count=0, signature=b"forged"))

        await answer(wiring, passkey)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["id", "rawId", "type", "response", "authenticatorAttachment"])
PARTS = st.sampled_from(
    ["clientDataJSON", "authenticatorData", "signature", "userHandle", "attestationObject", "transports"]
)
GARBLED = st.builds(
    lambda outer, inner: {
        "id": "AAAA",
        "rawId": "AAAA",
        "type": "public-key",
        **outer,
        "response": {"clientDataJSON": "e30", **inner},
    },
    st.dictionaries(NAMES, JSON, max_size=2),
    st.dictionaries(PARTS, JSON | st.binary(max_size=60).map(lambda given: given.hex()), max_size=4),
)


HONEST_WORDS = json.dumps(
    {"type": "webauthn.get", "challenge": encode(b"x" * 32), "origin": "http://localhost:8080"}
).encode()


class TestNonsense:
    @given(credential=GARBLED | st.dictionaries(NAMES, JSON))
    @settings(max_examples=200, deadline=None)
    def test_is_refused_and_breaks_nothing(self, credential: dict[str, Any]) -> None:
        wiring: Wiring = UNREACHED

        with pytest.raises(PasskeyRefused):
            verify_registration(credential, challenge=b"x" * 32, wiring=wiring)

    @given(
        client=st.just(HONEST_WORDS)
        | st.binary(max_size=80)
        | st.builds(lambda words: json.dumps(words).encode(), JSON),
        words=st.binary(max_size=120),
        signature=st.binary(max_size=80),
    )
    @settings(max_examples=200, deadline=None)
    def test_signed_with_nothing_is_refused_for_a_passkey_that_is_known(
        self, client: bytes, words: bytes, signature: bytes
    ) -> None:
        parts = {"clientDataJSON": client, "authenticatorData": words, "signature": signature}
        given_back = {"rawId": "AAAA", "id": "AAAA", "type": "public-key"}
        credential = given_back | {"response": {name: encode(part) for name, part in parts.items()}}

        with pytest.raises(PasskeyRefused):
            _check_assertion(
                credential, challenge=b"x" * 32, wiring=UNREACHED, passkey=KNOWN, named_by_itself=False
            )

    def test_is_what_a_page_without_scripts_sends(self) -> None:
        with pytest.raises(PasskeyRefused) as refused:
            read_credential("")

        assert refused.value.fault is Fault.SCRIPTLESS

    @pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 15_000, "x" * 20_000, None, 7])
    def test_is_no_answer_of_a_browser(self, text: object) -> None:
        with pytest.raises(PasskeyRefused) as refused:
            read_credential(text)

        assert refused.value.fault is Fault.UNREADABLE


def known_passkey() -> PasskeyRecord:
    """A passkey as it is kept."""
    challenge = new_challenge()
    options = creation_options(UNREACHED, challenge=challenge, name="Ada", handle=b"handle", passkeys=())
    _, credential = make_passkey(options, Way(UNREACHED.origin))
    new = verify_registration(credential, challenge=challenge, wiring=UNREACHED)
    return PasskeyRecord(
        id="passkey_1",
        person_id="user_1",
        handle=b"handle",
        name="Phone",
        credential_id=new.credential_id,
        public_key=new.public_key,
        transports=(),
        backed_up=False,
        created_at=datetime.now(UTC),
        last_used_at=None,
        suspect_at=None,
    )


UNREACHED: Wiring = build(Database.open("postgresql:///unused", pool_size=1)).state.console
KNOWN = known_passkey()
