"""Temporal's development server: one program, its state in one file, with the Web UI."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

NAMESPACE = "default"

# Runs stay readable in the Web UI for a month; the server's own default is one day.
_RETENTION = "720h"
_START_SECONDS = 90.0
_ASK_SECONDS = 20
_PAUSE_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


DYNAMIC_CONFIG = (
    *("--dynamic-config-value", "system.enableActivityEagerExecution=true"),
    *("--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"),
)
"""Eager activities save a third of a top-up's time. The other value lifts a throttle: this server is one shard, and a
shard looks for work at most 20 times a second unless told otherwise, which would stretch every step to 50 ms."""


class TemporalServerFailed(RuntimeError):
    """Temporal's development server did not start or did not answer in time."""


@dataclass(frozen=True, slots=True)
class TemporalServerPlan:
    """Which program to run, on which ports, with its state in which file."""

    program: Path
    database: Path
    port: int
    ui_port: int

    @property
    def address(self) -> str:
        """Give the address for TEMPORAL_ADDRESS."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Give the command line that serves, with `DYNAMIC_CONFIG`."""
        return [
            *(str(self.program), "server", "start-dev", "--ip", "127.0.0.1", "--namespace", NAMESPACE),
            *("--port", str(self.port), "--ui-port", str(self.ui_port), "--db-filename", str(self.database)),
            *("--log-level", "warn", "--log-format", "json"),
            *DYNAMIC_CONFIG,
        ]


def start_temporal_server(plan: TemporalServerPlan, *, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the server, ending with its starter on Linux; `wait_until_serving` tells when it answers."""
    return subprocess.Popen(
        plan.command(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment_without_temporal(os.environ),
        start_new_session=True,
        preexec_fn=end_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one system call, no lock
    )


def wait_until_serving(plan: TemporalServerPlan, *, is_alive: Callable[[], bool]) -> None:
    """Wait until the server answers, and let it keep finished runs for a month.

    Raises `TemporalServerFailed` when it ends, or does not answer within a minute and a half.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not _done(plan, "operator", "namespace", "update", "-n", NAMESPACE, "--retention", _RETENTION):
        if not is_alive():
            msg = "Temporal's development server ended while starting"
            raise TemporalServerFailed(msg)
        if time.monotonic() > deadline:
            msg = f"Temporal's development server does not answer on {plan.address}"
            raise TemporalServerFailed(msg)
        time.sleep(_PAUSE_SECONDS)


def has_worker(plan: TemporalServerPlan, task_queue: str) -> bool:
    """Tell whether some worker asks for work on a task queue."""
    answer = _ask(plan, "task-queue", "describe", "-n", NAMESPACE, "--task-queue", task_queue, "-o", "json")
    try:
        return bool(json.loads(answer.stdout or "{}").get("pollers"))
    except ValueError:
        return False


def environment_without_temporal(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop whatever would lead a development run to another Temporal: TEMPORAL_* and the user's configuration."""
    kept = {name: value for name, value in environment.items() if not name.startswith("TEMPORAL_")}
    return {**kept, "TEMPORAL_CONFIG_FILE": os.devnull}


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Give what a new program runs first to be signalled when its parent dies; Linux only, else nothing."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))

    return ask_kernel


def _done(plan: TemporalServerPlan, *command: str) -> bool:
    return _ask(plan, *command).returncode == 0


def _ask(plan: TemporalServerPlan, *command: str) -> subprocess.CompletedProcess[str]:
    asked = [str(plan.program), *command, "--address", plan.address]
    try:
        return subprocess.run(
            asked,
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=False,
            env=environment_without_temporal(os.environ),
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(asked, returncode=1, stdout="", stderr="no answer")
