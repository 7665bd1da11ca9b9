"""The development stack holds its programs: it starts them again, stops them in order, and gives up in words."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from runtime.embedded_postgres import running_postgres
from runtime.parts import Part
from runtime.pids import Identity
from runtime.ports import PortUnusable
from runtime.stack import Stack, StackFailed, temporary_settings

PROGRAMS = ["postgres", "temporal", "inbox", "worker", "watcher", "api"]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Root's PostgreSQL runs as another user, who may not enter pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="tidemark-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def stack(home: Path, said: list[str]) -> Iterator[Stack]:
    with Stack(temporary_settings(home), say=said.append, ends_with_starter=True) as started:
        yield started


def eventually(is_so: Callable[[], bool], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_ready(stack: Stack) -> bool:
    try:
        return httpx2.get(f"{stack.addresses.api}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


class TestStack:
    def test_is_ready_with_all_its_programs_when_started(self, stack: Stack) -> None:
        assert is_ready(stack)
        assert list(stack.pids()) == PROGRAMS

    @pytest.mark.parametrize("name", PROGRAMS)
    def test_starts_a_killed_program_again_and_says_so(
        self, stack: Stack, said: list[str], name: str
    ) -> None:
        killed = stack.pid(name)
        assert killed is not None

        os.kill(killed, signal.SIGKILL)

        eventually(lambda: stack.pid(name) not in {None, killed})
        eventually(lambda: any(line.startswith(f"{name} ended unexpectedly") for line in said))
        eventually(lambda: is_ready(stack))

    @pytest.mark.parametrize("name", ["postgres", "temporal"])
    def test_leaves_a_halted_server_stopped_until_it_is_resumed(self, stack: Stack, name: str) -> None:
        stack.halt(name)
        assert stack.pid(name) is None
        eventually(lambda: not is_ready(stack))

        stack.resume(name)

        eventually(lambda: is_ready(stack))

    def test_keeps_temporal_though_the_thread_that_resumed_it_is_gone(self, stack: Stack) -> None:
        stack.halt("temporal", kill=True)
        resuming = threading.Thread(target=stack.resume, args=("temporal",))
        resuming.start()
        resuming.join()
        resumed = stack.pid("temporal")

        eventually(lambda: is_ready(stack))
        assert stack.pid("temporal") == resumed

    def test_keeps_its_programs_away_from_any_other_temporal(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEMPORAL_API_KEY", "of-a-cluster")
        monkeypatch.setenv("TEMPORAL_ADDRESS", "cluster.example.com:7233")

        environment = stack.environment()

        assert environment["TEMPORAL_ADDRESS"] == stack.addresses.temporal
        assert "TEMPORAL_API_KEY" not in environment

    def test_makes_api_keys_that_work(self, stack: Stack) -> None:
        eventually(lambda: is_ready(stack))
        key = stack.create_api_key(scopes="wallets:read", name="test")

        answer = httpx2.get(
            f"{stack.addresses.api}/v1/wallets", headers={"Authorization": f"Bearer {key}"}, trust_env=False
        )

        assert answer.status_code == 200


class TestStoppingAndRefusing:
    def test_leaves_nothing_behind_when_a_program_refuses_its_settings(self, home: Path) -> None:
        folder = home / "refused"
        stack = Stack(
            temporary_settings(folder),
            say=lambda _: None,
            extra_environment={"TIDEMARK_DRAW_TIMEOUT": "soon"},
            ends_with_starter=True,
        )

        with (
            pytest.raises(StackFailed, match="refuses its settings:\n  TIDEMARK_DRAW_TIMEOUT is 'soon'"),
            stack,
        ):
            pass

        assert stack.pids() == {}
        assert running_postgres(folder / "postgres") is None

    def test_touches_nothing_when_a_port_is_busy(self, home: Path, stack: Stack) -> None:
        busy = int(stack.addresses.inbox.rpartition(":")[2])
        settings = temporary_settings(home / "busy").model_copy(update={"inbox_port": busy})

        with pytest.raises(PortUnusable, match="TIDEMARK_INBOX_PORT"), Stack(settings, say=print):
            pass

        assert not (home / "busy" / "postgres").exists()

    def test_gives_up_on_a_program_that_keeps_ending_and_says_what_to_do(self, tmp_path: Path) -> None:
        stack = Stack(temporary_settings(tmp_path), say=print)
        failing = _Failing("worker", stop_seconds=1)
        failing.started_at = time.monotonic()

        assert [stack._give_up_on(failing) for _ in range(5)] == [False, False, False, False, True]
        assert "worker ended 5 times soon after its start" in stack.wait_until_failed()


class _Failing(Part):
    """A program that has always just ended."""

    def start(self) -> None:
        """Start nothing."""

    def identity(self) -> Identity | None:
        """Never there."""
        return None

    def stop(self, *, at_once: Callable[[], bool]) -> bool:
        """Nothing to stop."""
        return not at_once()
