"""The embedded PostgreSQL outlives its starter, comes back after being killed, and ends when it is told to."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runtime import embedded_postgres
from runtime.embedded_postgres import (
    PostgresServer,
    PostgresUnavailable,
    create_database,
    program_path,
    running_postgres,
    start_postgres,
    stop_postgres,
)
from runtime.parts import CHECKOUT
from runtime.pids import identify, wait_until_gone
from runtime.temporal_server import end_with_parent

STARTER = """
import os, signal, sys
from pathlib import Path
from runtime.embedded_postgres import start_postgres
folder = Path(sys.argv[1])
print(start_postgres(folder, log=folder.parent / "log", say=lambda _: None).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Root's server runs as another user, who may not enter pytest's own folders.
    home = Path(tempfile.mkdtemp(prefix="tidemark-test-"))
    yield home / "postgres"
    stop_postgres(home / "postgres", at_once=True)
    shutil.rmtree(home)


def start(folder: Path) -> PostgresServer:
    return start_postgres(
        folder, log=folder.parent / "log", say=print, before_start=end_with_parent(signal.SIGQUIT)
    )


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


class TestEmbeddedPostgres:
    def test_answers_on_a_socket_only_and_keeps_what_it_confirmed(self, folder: Path) -> None:
        server = start(folder)

        assert run(server.url(), "SHOW listen_addresses") == [("",)]
        assert run(server.url(), "SHOW fsync") == [("on",)]
        assert run(server.url(), "SHOW server_encoding") == [("UTF8",)]

    def test_makes_a_database_once(self, folder: Path) -> None:
        server = start(folder)

        urls = {create_database(server, "tidemark") for _ in range(2)}

        assert [run(url, "SELECT current_database()") for url in urls] == [[("tidemark",)]]

    def test_is_found_again_after_its_starter_was_killed(self, folder: Path) -> None:
        started = subprocess.run(
            [sys.executable, "-c", STARTER, folder], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )

        assert started.returncode == -signal.SIGKILL
        assert start(folder).pid == int(started.stdout)

    def test_recovers_every_confirmed_row_after_being_killed(self, folder: Path) -> None:
        server = start(folder)
        run(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")

        running = running_postgres(folder)
        assert running is not None
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until_gone(running, patience_seconds=10)
        again = start(folder)

        assert again.pid != server.pid
        assert run(again.url(), "SELECT answer FROM kept") == [(42,)]

    def test_stops_for_whoever_asks_and_starts_again(self, folder: Path) -> None:
        server = start(folder)

        assert stop_postgres(folder)
        assert identify(server.pid) is None
        assert not stop_postgres(folder)
        assert start(folder).pid != server.pid

    def test_starts_although_another_program_has_its_old_pid(self, folder: Path) -> None:
        start(folder)
        note = (folder / "postmaster.pid").read_text()
        stop_postgres(folder)
        (folder / "postmaster.pid").write_text(f"{os.getpid()}\n" + note.partition("\n")[2])

        assert running_postgres(folder) is None
        assert run(start(folder).url(), "SELECT 1") == [(1,)]

    def test_puts_the_socket_elsewhere_when_the_path_is_too_long_for_one(self, folder: Path) -> None:
        server = start(folder.parent / ("long" * 25) / "postgres")

        try:
            assert server.socket_folder != server.folder
            assert server.socket_folder.stat().st_mode & 0o077 == 0
            assert run(server.url(), "SELECT 1") == [(1,)]
        finally:
            stop_postgres(server.folder)
            shutil.rmtree(server.socket_folder)

    def test_starts_over_when_the_making_of_its_folder_was_interrupted(self, folder: Path) -> None:
        leftover = folder.with_name("postgres.making")
        leftover.mkdir()
        (leftover / "half").touch()

        assert run(start(folder).url(), "SELECT 1") == [(1,)]
        assert not leftover.exists()

    def test_brings_pgbench(self) -> None:
        shown = subprocess.run(
            [program_path("pgbench"), "--version"], capture_output=True, text=True, check=True
        )

        assert "(PostgreSQL) 18" in shown.stdout


class TestRefusals:
    def test_tell_that_the_folder_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with pytest.raises(PostgresUnavailable, match="cannot be used"):
            start_postgres(tmp_path / "file" / "postgres", log=tmp_path / "log", say=print)

    def test_tell_that_the_folder_is_of_another_version(self, folder: Path) -> None:
        start(folder)
        stop_postgres(folder)
        (folder / "PG_VERSION").write_text("16\n")

        with pytest.raises(
            PostgresUnavailable, match="holds a PostgreSQL 16 database, this is PostgreSQL 18"
        ):
            start(folder)

    def test_show_the_end_of_the_log_when_the_server_does_not_start(self, folder: Path) -> None:
        start(folder)
        stop_postgres(folder)
        (folder / "postgresql.conf").write_text("no_such_setting = 1\n")

        with pytest.raises(PostgresUnavailable, match="no_such_setting"):
            start(folder)

    def test_tell_when_the_remains_of_a_killed_server_are_never_cleared_away(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start(folder)
        note = (folder / "postmaster.pid").read_text()
        stop_postgres(folder)
        dead = subprocess.Popen(["true"])
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        (folder / "postmaster.pid").write_text(f"{dead.pid}\n" + note.partition("\n")[2])
        monkeypatch.setattr(embedded_postgres, "_ZOMBIE_SECONDS", 0.2)
        monkeypatch.setattr(os, "waitpid", _collect_nothing)

        with pytest.raises(PostgresUnavailable, match="Start the container with an init"):
            start(folder)

        monkeypatch.undo()
        dead.wait()


def _collect_nothing(_pid: int, _options: int) -> tuple[int, int]:
    return (0, 0)
