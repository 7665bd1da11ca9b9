"""Every log line goes one way, and no secret goes with it."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from runtime.logs import configure_logs, redact_text
from tests.plain_logs import log_plainly


@contextmanager
def json_logs() -> Iterator[structlog.stdlib.BoundLogger]:
    """Set the logs up for a moment, and put back what pytest needs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log_plainly()
    try:
        configure_logs(log_format="json", log_level="info")
        yield structlog.get_logger("tidemark.test")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        log_plainly()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class TestLogs:
    def test_are_one_object_a_line_with_the_ids_bound(self, capsys: pytest.CaptureFixture[str]) -> None:
        with json_logs() as log:
            log.info("top_up.settled", top_up_id="topup_1")

        (line,) = lines(capsys)
        assert (line["event"], line["level"], line["top_up_id"]) == ("top_up.settled", "info", "topup_1")

    def test_of_libraries_go_the_same_way_with_what_they_carry(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with json_logs():
            logging.getLogger("temporalio.activity").warning(
                "slow %s", "draw", extra={"temporal_activity": {"activity_id": "1"}}
            )

        (line,) = lines(capsys)
        assert line["event"] == "slow draw"
        assert line["temporal_activity"] == {"activity_id": "1"}

    def test_carry_no_secret_in_whatever_form(self, capsys: pytest.CaptureFixture[str]) -> None:
        secrets = ["tm_live_Zq8xP4kd", "hunter2", "ada@example.com", "c2VjcmV0c2VjcmV0"]

        with json_logs() as log:
            log.error(
                "key %s used by %s",
                secrets[0],
                secrets[2],
                api_key=secrets[0],
                smtp_password=secrets[1],
                headers={"Authorization": f"Bearer {secrets[3]}", "X": [f"Basic {secrets[3]}"]},
                to=secrets[2],
                exc_info=ConnectionError(f"cannot reach postgresql://tidemark:{secrets[1]}@db/tidemark"),
            )

        written = capsys.readouterr().err
        assert "ConnectionError" in written
        assert not [secret for secret in secrets if secret in written]

    def test_carry_no_link_by_which_somebody_could_register(self, capsys: pytest.CaptureFixture[str]) -> None:
        with json_logs() as log:
            log.info("request.answered", path="/join/Qm9hdHMgcmlzZSB3aXRoIHRoZSB0aWRlLCBhbHdheXM/options")

        assert lines(capsys)[0]["path"] == "/join/[redacted]/options"

    @pytest.mark.parametrize(
        ("said", "written"),
        [
            ("/unsubscribe/Qm9hdHMgcmlzZSB3aXRoIHRoZSB0", "/unsubscribe/[redacted]"),
            ("__Host-tidemark=Qm9hdHM; x=1", "__Host-tidemark=[redacted]; x=1"),
            ("the code 7K3QD-0VW2M-XN8RT-5HJ4P is used", "the code [redacted] recovery code is used"),
            (
                f"keys 2026-11-21-1688:{'A' * 43}=,b:{'B' * 43}=",
                "keys 2026-11-21-1688:[redacted],b:[redacted]",
            ),
        ],
    )
    def test_carry_no_way_in_and_no_key(
        self, said: str, written: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with json_logs() as log:
            log.info("request.answered", path=said)

        assert lines(capsys)[0]["path"] == written

    def test_below_the_level_are_not_written(self, capsys: pytest.CaptureFixture[str]) -> None:
        with json_logs() as log:
            log.debug("watcher.looked")
            logging.getLogger("httpx2").info("GET")

        assert lines(capsys) == []


class TestRedaction:
    @pytest.mark.parametrize(
        "harmless",
        [
            "top_up.settled topup_01J8",
            "postgresql://postgres@/tidemark?host=/srv/postgres",
            "http://127.0.0.1:8080/v1/wallets/wallet_1",
            "1234@host",
        ],
    )
    def test_leaves_what_is_no_secret(self, harmless: str) -> None:
        assert redact_text(harmless) == harmless
