"""`python -m runtime demo` on real servers: every story as told, and nothing left behind, at Ctrl-C either."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.demo.page import WIDTH
from runtime.demo.stories import STORIES

ROOT = Path(__file__).resolve().parents[2]
PLAYED_SECONDS = 280
STOPPED_SECONDS = 120
INTERRUPTED = 130


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The folder in which the demo makes its own."""
    folder = Path(tempfile.mkdtemp(prefix="tm-demo-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start_demo(temporary: Path) -> subprocess.Popen[str]:
    """Start the command as `make demo` does."""
    return subprocess.Popen(
        [sys.executable, "-m", "runtime", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def programs_of(folder: Path) -> set[str]:
    """The programs that still run with this folder in their command line or environment, where that can be seen."""
    found = set()
    for told in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
        with suppress(OSError):
            if str(folder).encode() in told.read_bytes():
                found.add(told.parent.name)
    return found


def is_an_address(line: str) -> bool:
    """Whether a line of a letter is one address, which stays whole so that it can be followed."""
    return line.removeprefix("   | ").startswith("http://") and " " not in line.removeprefix("   | ")


class TestTheDemo:
    def test_ends_as_told_and_leaves_nothing_behind(self, temporary: Path) -> None:
        with start_demo(temporary) as demo:
            told, _ = demo.communicate(timeout=PLAYED_SECONDS)

        assert demo.returncode == 0, told
        for number, story in enumerate(STORIES, start=1):
            assert f"{number}. {story.title}\n" in told
        assert f"{len(STORIES)} of {len(STORIES)} stories ended as told." in told
        assert "\033" not in told
        assert [line for line in told.splitlines() if len(line) > WIDTH and not is_an_address(line)] == []
        assert list(temporary.iterdir()) == []
        assert programs_of(temporary) == set()

    def test_stops_at_ctrl_c_in_the_middle_of_a_story(self, temporary: Path) -> None:
        with start_demo(temporary) as demo:
            assert demo.stdout is not None
            assert any(line.startswith("1. ") for line in demo.stdout)
            demo.send_signal(signal.SIGINT)
            told, _ = demo.communicate(timeout=STOPPED_SECONDS)

        assert demo.returncode == INTERRUPTED, told
        assert "Traceback" not in told
        assert list(temporary.iterdir()) == []
        assert programs_of(temporary) == set()
