"""Payloads are encrypted with keys that rotate, and what was changed, moved or is of no known key is refused."""

import re
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import WorkflowSerializationContext
from temporalio.exceptions import ApplicationError

from runtime.payload_keys import PayloadKeys, new_payload_key
from runtime.payloads import (
    BOUND_TO,
    ENCODING,
    KEY_ID,
    PayloadEncryption,
    PayloadKeyMissing,
    PayloadNotGenuine,
    converter_of,
)
from runtime.settings import Settings, SettingsInvalid, read_settings
from tests.security.keys import OLD, keys, written

SETTINGS = {"database_url": "postgresql:///x"}
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"100 USDT of Ada"')


def encryption(*names: str, workflow_id: str = "") -> PayloadEncryption:
    """Encrypts with the first of these keys, for this workflow."""
    return PayloadEncryption(keys(*names), workflow_id=workflow_id)


async def sealed(*names: str, workflow_id: str = "") -> Payload:
    """The plain payload, encrypted."""
    (payload,) = await encryption(*names, workflow_id=workflow_id).encode([PLAIN])
    return payload


class TestAnEncryptedPayload:
    async def test_shows_nothing_but_which_key_and_which_workflow(self) -> None:
        payload = await sealed("2026", workflow_id="top-up/1")

        assert dict(payload.metadata) == {"encoding": ENCODING, KEY_ID: b"2026", BOUND_TO: b"top-up/1"}
        assert b"Ada" not in payload.SerializeToString()
        assert b"json/plain" not in payload.SerializeToString()

    async def test_is_read_as_it_was_written_metadata_too(self) -> None:
        assert await encryption("2026").decode([await sealed("2026")]) == [PLAIN]

    async def test_differs_each_time(self) -> None:
        assert (await sealed("2026")).data != (await sealed("2026")).data

    @pytest.mark.parametrize("place", [0, 11, 12, -1])
    async def test_is_refused_when_a_single_bit_was_changed(self, place: int) -> None:
        payload = await sealed("2026")
        changed = bytearray(payload.data)
        changed[place] ^= 1
        payload.data = bytes(changed)

        with pytest.raises(PayloadNotGenuine, match="it was changed"):
            await encryption("2026").decode([payload])

    async def test_is_refused_when_it_was_cut_short(self) -> None:
        payload = await sealed("2026")
        payload.data = payload.data[:10]

        with pytest.raises(PayloadNotGenuine):
            await encryption("2026").decode([payload])

    async def test_is_refused_in_another_workflow(self) -> None:
        with pytest.raises(PayloadNotGenuine, match="somebody has moved it"):
            await encryption("2026", workflow_id="top-up/2").decode(
                [await sealed("2026", workflow_id="top-up/1")]
            )

    async def test_is_refused_when_it_only_says_that_it_belongs_there(self) -> None:
        payload = await sealed("2026", workflow_id="top-up/1")
        payload.metadata[BOUND_TO] = b"top-up/2"

        with pytest.raises(PayloadNotGenuine, match="it was changed"):
            await encryption("2026", workflow_id="top-up/2").decode([payload])

    async def test_cannot_say_that_it_belongs_nowhere(self) -> None:
        payload = await sealed("2026", workflow_id="top-up/1")
        payload.metadata[BOUND_TO] = b""

        with pytest.raises(PayloadNotGenuine, match="it was changed"):
            await encryption("2026", workflow_id="top-up/2").decode([payload])

    async def test_is_read_in_the_runs_of_the_schedule_it_was_written_for(self) -> None:
        payload = await sealed("2026", workflow_id="tidemark-sweep")
        run = encryption("2026", workflow_id="tidemark-sweep-2026-11-21T18:00:00Z")

        assert await run.decode([payload]) == [PLAIN]

    async def test_is_bound_by_the_sdks_own_context(self) -> None:
        context = WorkflowSerializationContext(namespace="default", workflow_id="top-up/1")

        (payload,) = await encryption("2026").with_context(context).encode([PLAIN])

        assert payload.metadata[BOUND_TO] == b"top-up/1"


class TestKeys:
    async def test_rotate_the_first_writes_and_every_one_reads(self) -> None:
        before, after = await sealed("2026"), await sealed("2027", "2026")

        assert after.metadata[KEY_ID] == b"2027"
        assert await encryption("2027", "2026").decode([before, after]) == [PLAIN, PLAIN]

    async def test_that_are_missing_are_named_with_what_to_do(self) -> None:
        with pytest.raises(
            PayloadKeyMissing, match=r"the key '2026', .* add that key to TIDEMARK_PAYLOAD_KEYS"
        ):
            await encryption("2027").decode([await sealed("2026")])

    async def test_that_are_all_missing_are_named_too(self) -> None:
        with pytest.raises(PayloadKeyMissing, match="the key '2026'"):
            await PayloadEncryption(PayloadKeys()).decode([await sealed("2026")])

    async def test_with_an_id_that_another_key_had_are_found_out(self) -> None:
        other = PayloadKeys.read(written("other").replace("other:", "2026:"))

        with pytest.raises(PayloadNotGenuine, match="gives another key that id"):
            await PayloadEncryption(other).decode([await sealed("2026")])

    def test_are_made_by_a_command_and_differ(self) -> None:
        now = datetime(2026, 11, 21, tzinfo=UTC)
        made = [new_payload_key(now=now) for _ in range(2)]

        assert made[0] != made[1]
        assert all(re.fullmatch(r"2026-11-21-[0-9a-f]{4}:[A-Za-z0-9+/]{43}=", key) for key in made)
        assert PayloadKeys.read(",".join(made)).writing == made[0].partition(":")[0]

    def test_do_not_show_when_printed(self) -> None:
        shown = repr(keys("2026")) + repr(Settings.model_validate({**SETTINGS, "payload_keys": OLD}))

        assert OLD.partition(":")[2] not in shown
        assert "......" not in shown

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param("2026", id="no key"),
            pytest.param("2026:c2hvcnQ=", id="short"),
            pytest.param("2026:not base64 at all", id="no base64"),
            pytest.param(f"{OLD},{OLD}", id="twice the same id"),
            pytest.param(OLD.replace("2026:", ":"), id="no id"),
            pytest.param(OLD.replace("2026:", "a b:"), id="an id of two words"),
        ],
    )
    def test_that_cannot_be_used_are_refused_without_being_told(
        self, wrong: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TIDEMARK_DATABASE_URL", "postgresql:///x")
        monkeypatch.setenv("TIDEMARK_PAYLOAD_KEYS", wrong)

        with pytest.raises(
            SettingsInvalid, match=r"^TIDEMARK_PAYLOAD_KEYS cannot be used: it must have"
        ) as refused:
            read_settings()

        assert wrong.partition(":")[2] == "" or wrong.partition(":")[2] not in str(refused.value)

    def test_are_checked_however_settings_are_made(self) -> None:
        with pytest.raises(ValidationError):
            Settings.model_validate({**SETTINGS, "payload_keys": "nonsense"})


class TestTheConverter:
    async def test_reads_plain_payloads_after_encryption_was_turned_on(self) -> None:
        plain = await converter_of(PayloadKeys()).encode(["100 USDT"])

        assert plain[0].metadata["encoding"] == b"json/plain"
        assert await converter_of(keys("2026")).decode(plain) == ["100 USDT"]

    async def test_encrypts_the_words_and_the_traceback_of_failures(self) -> None:
        converter, failure = converter_of(keys("2027", "2026")), Failure()

        await converter.encode_failure(broken(), failure)

        assert "Ada" not in str(failure)
        assert (failure.message, failure.stack_trace) == ("Encoded failure", "")
        read = await converter.decode_failure(failure)
        assert isinstance(read, ApplicationError)
        assert (read.message, read.details) == ("Ada owes 100 USDT", ("100 USDT",))

    async def test_leaves_failures_readable_without_keys(self) -> None:
        failure = Failure()

        await converter_of(PayloadKeys()).encode_failure(broken(), failure)

        assert failure.message == "Ada owes 100 USDT"


def broken() -> Exception:
    """A failure that tells more than Temporal's operators need to know."""
    try:
        message = "Ada owes 100 USDT"
        raise ApplicationError(message, "100 USDT")  # noqa: TRY301
    except ApplicationError as error:
        return error
