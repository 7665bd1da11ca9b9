"""One run at a time uses a home folder, and it ends what a killed run has left, but nothing else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from runtime.home import Home, HomeBusy, HomeUnusable, read_object, write_whole
from runtime.parts import CHECKOUT
from runtime.pids import Identity, identify_started

KEEPER = """
import sys
from pathlib import Path
from runtime.home import Home
home = Home(Path(sys.argv[1]))
home.note_address("http://127.0.0.1:8080")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sleeper() -> Iterator[tuple[subprocess.Popen[bytes], Identity]]:
    with subprocess.Popen(["sleep", "600"]) as program:
        identity = identify_started(program.pid)
        assert identity is not None
        yield program, identity
        program.kill()


def record(folder: Path, program: Identity) -> None:
    (folder / "children.json").write_text(json.dumps([{"name": "worker", **asdict(program)}]))


class TestHome:
    def test_tells_who_else_uses_it_and_where_that_answers(self, tmp_path: Path) -> None:
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, tmp_path],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with keeper:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == b"locked\n"

            with pytest.raises(HomeBusy) as busy:
                Home(tmp_path)

            assert f"(pid {keeper.pid}, http://127.0.0.1:8080)" in str(busy.value)
            assert "TIDEMARK_HOME" in str(busy.value)
            keeper.send_signal(signal.SIGKILL)

        Home(tmp_path).release()

    def test_tells_when_it_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with pytest.raises(HomeUnusable, match="Set TIDEMARK_HOME"):
            Home(tmp_path / "file" / "home")

    def test_ends_what_a_killed_run_left(
        self, tmp_path: Path, sleeper: tuple[subprocess.Popen[bytes], Identity]
    ) -> None:
        program, identity = sleeper
        home = Home(tmp_path)
        record(tmp_path, identity)

        assert home.end_leftovers() == ["worker"]
        assert program.wait(10) == -signal.SIGTERM
        assert home.end_leftovers() == []
        home.release()

    @pytest.mark.parametrize("changed", [{"started": "1"}, {"command": "python -m worker"}])
    def test_spares_another_program_under_a_recorded_pid(
        self, tmp_path: Path, sleeper: tuple[subprocess.Popen[bytes], Identity], changed: dict[str, str]
    ) -> None:
        program, identity = sleeper
        home = Home(tmp_path)
        record(tmp_path, replace(identity, **changed))  # type: ignore[arg-type]

        assert home.end_leftovers() == []
        assert program.poll() is None
        home.release()

    @pytest.mark.parametrize("text", ["", "{", "[]", '[{"pid": 1}]', '{"a": 1}'])
    def test_starts_with_a_record_that_cannot_be_read(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "children.json").write_text(text)
        home = Home(tmp_path)

        assert home.end_leftovers() == []
        home.release()


class TestWritingWhole:
    def test_lets_only_the_owner_read(self, tmp_path: Path) -> None:
        write_whole(tmp_path / "dev.json", '{"api_key": "tm_x"}')

        assert (tmp_path / "dev.json").stat().st_mode & 0o777 == 0o600
        assert read_object(tmp_path / "dev.json") == {"api_key": "tm_x"}
        assert os.listdir(tmp_path) == ["dev.json"]  # noqa: PTH208 - names are all that matters

    @pytest.mark.parametrize("text", ["", "[1]", "{"])
    def test_takes_what_is_no_object_for_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "dev.json").write_text(text)

        assert read_object(tmp_path / "dev.json") == {}
