"""`make run` from outside: its words, its notes, a second start, and an end by Ctrl-C or by kill -9."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runtime.embedded_postgres import stop_postgres
from runtime.home import read_object
from runtime.parts import CHECKOUT
from runtime.pids import Identity, identify_started, wait_until_gone

PORTS = ("API_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT", "INBOX_PORT", "SMTP_PORT")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tidemark-test-"))
    yield folder
    # What a killed run leaves on purpose, for the next start to find.
    stop_postgres(folder / "postgres", at_once=True)
    shutil.rmtree(folder)


def environment(home: Path) -> dict[str, str]:
    ports = {f"TIDEMARK_{name}": "0" for name in PORTS}
    return {**os.environ, **ports, "TIDEMARK_HOME": str(home)}


@contextmanager
def running(home: Path, heard: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start it and wait for the last line of its welcome; what it said goes to `heard`."""
    with subprocess.Popen(
        [sys.executable, "-m", "runtime", "up"],
        cwd=CHECKOUT,
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            said = listen(program, "  the run")
            assert said[-1].startswith("  the run"), "".join(said)
            if heard is not None:
                heard += said
            yield program
        finally:
            if program.poll() is None:
                program.send_signal(signal.SIGTERM)


def listen(program: subprocess.Popen[str], last: str) -> list[str]:
    heard: list[str] = []
    assert program.stdout is not None
    for line in program.stdout:
        heard.append(line)
        if line.startswith(last):
            break
    return heard


def get(notes: dict[str, Any], path: str) -> dict[str, Any]:
    answer = httpx2.get(
        f"{notes['api']}{path}", headers={"Authorization": f"Bearer {notes['api_key']}"}, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def make_key(notes: dict[str, Any], *arguments: str) -> str:
    """A key made as the documents say, by the command and with the address that the notes hold."""
    command = [sys.executable, "-m", "api", "keys", "create", "--name", "mine", *arguments]
    env = {**os.environ, "TIDEMARK_DATABASE_URL": notes["database_url"]}
    made = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=True)
    return made.stdout.splitlines()[-1]


def page_at(url: str) -> str:
    """The page behind a link that was printed."""
    answer = httpx2.get(url, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.text


def recorded(home: Path) -> list[Identity]:
    entries = json.loads((home / "children.json").read_text())
    return [Identity(entry["pid"], entry["started"], entry["command"]) for entry in entries]


class TestUp:
    """One life of a home folder: first start, Ctrl-C, second start, kill -9, third start."""

    def test_sets_a_demo_owner_up_and_stops_on_ctrl_c(self, home: Path) -> None:
        welcome: list[str] = []
        with running(home, welcome) as program:
            notes = read_object(home / "dev.json")
            doors = [page_at(line.strip()) for line in welcome if "/join/" in line]
            wallet = get(notes, f"/v1/wallets/{notes['wallet_id']}")
            rule = get(notes, f"/v1/rules/{notes['rule_id']}")
            own_key = make_key(notes, "--scopes", "wallets:read", "--owner", notes["owner_id"])
            seen = get({**notes, "api_key": own_key}, "/v1/wallets")

            program.send_signal(signal.SIGINT)
            heard = listen(program, "Stopped.")
            program.wait(30)

        assert (home / "dev.json").stat().st_mode & 0o777 == 0o600
        assert notes["pid"] == program.pid
        assert ["Welcome, Ada Demo" in doors[0], "Welcome, Demo operator" in doors[1]] == [True, True]
        assert re.fullmatch(r"http://localhost:\d+", notes["pages"])
        assert wallet["balance"] == "80.00"
        assert seen["data"] == [wallet]
        assert (rule["threshold"], rule["amount"], rule["state"]) == ("50.00", "100.00", "armed")
        assert program.returncode == 0
        order = [line.split()[1] for line in heard if line.startswith("Stopping ")]
        assert order == ["api.", "watcher.", "worker.", "inbox.", "temporal.", "postgres."]
        assert read_object(home / "dev.json")["pid"] is None

    def test_finds_its_state_again_after_ctrl_c_and_after_kill_9(self, home: Path) -> None:
        before = read_object(home / "dev.json")
        welcome: list[str] = []
        with running(home, welcome) as program:
            second = read_object(home / "dev.json")
            left = recorded(home)
            program.send_signal(signal.SIGKILL)
        with running(home):
            third = read_object(home / "dev.json")
            assert get(third, f"/v1/wallets/{third['wallet_id']}")["balance"] == "80.00"

        for name in ("api_key", "owner_id", "wallet_id", "rule_id"):
            assert before[name] == second[name] == third[name]
        assert sum("/join/" in line for line in welcome) == 2  # Nobody has registered yet.
        assert len(left) == 5
        assert all(wait_until_gone(one, patience_seconds=30) for one in left)

    def test_leaves_no_program_behind_on_kill_9_even_without_another_start(self, home: Path) -> None:
        with running(home) as program:
            left = recorded(home)
            assert all(identify_started(one.pid) == one for one in left)
            program.send_signal(signal.SIGKILL)

        assert all(wait_until_gone(one, patience_seconds=60) for one in left)

    def test_tells_a_bad_setting_in_one_sentence(self, home: Path) -> None:
        refused = subprocess.run(
            [sys.executable, "-m", "runtime", "up"],
            cwd=CHECKOUT,
            env={**environment(home), "TIDEMARK_API_PORT": "http"},
            capture_output=True,
            text=True,
            check=False,
        )

        assert refused.returncode == 2
        assert refused.stderr == "TIDEMARK_API_PORT is 'http', but it must be a valid integer.\n"
