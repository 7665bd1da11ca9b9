"""A program with a lifeline ends when whoever holds the other end is gone."""

import os
import signal
import subprocess
import sys

from runtime.lifeline import VARIABLE
from runtime.parts import CHECKOUT

WATCHER = """
import signal, sys
from runtime.lifeline import watch_lifeline
def end(*_): print("ended politely", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, end)
watch_lifeline()
print("watching", flush=True)
while True: signal.pause()
"""


def start(environment: dict[str, str], *passed: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WATCHER],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        pass_fds=passed,
        stdout=subprocess.PIPE,
        text=True,
    )


class TestLifeline:
    def test_ends_the_program_when_it_is_cut(self) -> None:
        theirs, ours = os.pipe()
        with start({VARIABLE: str(theirs)}, theirs) as program:
            os.close(theirs)
            assert program.stdout is not None
            assert program.stdout.readline() == "watching\n"

            os.close(ours)

            assert program.stdout.readline() == "ended politely\n"
            assert program.wait(10) == 0

    def test_is_not_missed_outside_a_development_run(self) -> None:
        with start({VARIABLE: ""}) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "watching\n"

            program.send_signal(signal.SIGTERM)

            assert program.wait(10) == 0
