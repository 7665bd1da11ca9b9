"""Where the `temporal` program comes from: the setting, the PATH, our cache, the SDK's download, or Go."""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from temporalio.testing import WorkflowEnvironment

from runtime.cannot_run import CannotRun
from runtime.settings import DevelopmentSettings

Say = Callable[[str], None]

GO_MODULE = "github.com/temporalio/cli/cmd/temporal@v1.5.1"

# Older servers lack what the worker asks for (poller autoscaling).
_SERVER_OLDEST = (1, 28)
_VERSION_SECONDS = 60
_DOWNLOAD_STALLED_SECONDS = 60
_BUILD_SECONDS = 1800
_BUILD_NEWS_SECONDS = 60
_GO_USUAL_PLACE = "/usr/local/go/bin/go"
_HELP = (
    "To help: install Temporal's command line program (https://docs.temporal.io/cli/setup-cli) so that `temporal` is "
    "on the PATH, or set TIDEMARK_TEMPORAL_PROGRAM to its path."
)


class TemporalProgramMissing(CannotRun):
    """No usable `temporal` program could be found or fetched; the message lists what was tried."""


class _Unusable(Exception):
    """One way of getting the program did not work; the message says why."""


def find_temporal_program(configured: Path | None, *, say: Say) -> Path:
    """Find the `temporal` program or fetch it once into the cache; raises `TemporalProgramMissing`.

    A configured program that does not run is refused, not passed over. Callers at the same moment fetch once.
    """
    if configured is not None:
        return _configured(configured)
    tried: list[str] = []
    found = _attempt(_on_path, tried) or _attempt(_in_cache, tried)
    return found or _fetch_once(tried, say)


def print_temporal_program(settings: DevelopmentSettings) -> int:
    """Find or fetch the program and print its path, with the news on standard error. Returns the exit code."""
    program = find_temporal_program(settings.temporal_program, say=_tell)
    sys.stdout.write(f"{program}\n")
    return 0


def cache_folder() -> Path:
    """Name the folder that keeps the fetched program, by the XDG rule; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "tidemark"
    try:
        return Path.home() / ".cache" / "tidemark"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"tidemark-cache-{os.getuid()}"


def _tell(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def _attempt(way: Callable[[], Path], tried: list[str]) -> Path | None:
    try:
        return way()
    except _Unusable as reason:
        tried.append(str(reason))
        return None


def _configured(program: Path) -> Path:
    try:
        return _checked(program.expanduser())
    except _Unusable as reason:
        msg = f"TIDEMARK_TEMPORAL_PROGRAM cannot be used: {reason}."
        raise TemporalProgramMissing(msg) from None


def _on_path() -> Path:
    found = shutil.which("temporal")
    if found is None:
        msg = "the PATH has no temporal"
        raise _Unusable(msg)
    return _checked(Path(found))


def _cached() -> Path:
    return cache_folder() / "temporal"


def _in_cache() -> Path:
    program = _cached()
    if not program.exists():
        msg = f"the cache has none at {program}"
        raise _Unusable(msg)
    return _checked(program)


def _checked(program: Path) -> Path:
    """Make sure that a program runs and brings a server that is new enough."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True
        ).stdout.strip()
    except subprocess.CalledProcessError as refused:
        msg = f"{program} --version ended with {refused.returncode}: {refused.stderr.strip()[-200:]}"
        raise _Unusable(msg) from None
    except OSError as refused:
        msg = f"{program} does not run ({refused.strerror})"
        raise _Unusable(msg) from None
    except subprocess.TimeoutExpired:
        msg = f"{program} --version did not answer within {_VERSION_SECONDS} seconds"
        raise _Unusable(msg) from None
    server = re.search(r"Server (\d+)\.(\d+)", answer)
    if not answer.startswith("temporal version") or server is None:
        msg = f"{program} is not Temporal's command line program (it calls itself {answer[:80]!r})"
        raise _Unusable(msg)
    if (int(server[1]), int(server[2])) < _SERVER_OLDEST:
        msg = f"{program} is too old (server {server[1]}.{server[2]}, at least 1.28 is needed)"
        raise _Unusable(msg)
    return program


def _fetch_once(tried: list[str], say: Say) -> Path:
    """Fetch into the cache while holding its lock; whoever waited for the lock finds it filled."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, say):
            return _attempt(_in_cache, []) or _fetch(folder, tried, say)
    except OSError as refused:
        tried.append(f"the cache folder {folder} cannot be written ({refused.strerror})")
        _give_up(tried)


def _fetch(folder: Path, tried: list[str], say: Say) -> Path:
    for leftover in folder.glob("fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as place:
        return (
            _attempt(lambda: _download(Path(place) / "download", say), tried)
            or _attempt(lambda: _build(Path(place) / "build", say), tried)
            or _give_up(tried)
        )


def _give_up(tried: list[str]) -> NoReturn:
    steps = "".join(f"\n  - {step}" for step in tried)
    msg = f"The temporal program was not found and could not be fetched. Tried:{steps}\n{_HELP}"
    raise TemporalProgramMissing(msg)


@contextlib.contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another program is fetching Temporal; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep(program: Path) -> Path:
    """Move a fetched program that works into the cache, in one step."""
    program.chmod(0o755)
    _checked(program)
    program.replace(_cached())
    return _cached()


def _download(place: Path, say: Say) -> Path:
    say("Fetching the Temporal program from temporal.download, about 100 MB, once.")
    place.mkdir()
    try:
        asyncio.run(_download_with_sdk(place))
    except (RuntimeError, TimeoutError, OSError) as refused:
        reason = str(refused).removeprefix("Failed starting Temporal dev server: ")
        say("  That did not work; trying the next way.")
        msg = f"the SDK's download: {reason[:300]}"
        raise _Unusable(msg) from None
    programs = [path for path in place.iterdir() if path.is_file() and path.suffix != ".downloading"]
    if not programs:
        msg = "the SDK's download left no program"
        raise _Unusable(msg)
    return _keep(programs[0])


async def _download_with_sdk(place: Path) -> None:
    """Let the SDK download its development server; it is started for a moment, which proves that it works."""
    download = asyncio.create_task(WorkflowEnvironment.start_local(download_dest_dir=str(place)))
    size = -1
    while not (await asyncio.wait({download}, timeout=_DOWNLOAD_STALLED_SECONDS))[0]:
        before, size = size, _size(place)
        if size <= max(before, 0):
            download.cancel()
            msg = f"nothing arrived for {_DOWNLOAD_STALLED_SECONDS} seconds"
            raise TimeoutError(msg)
    await (await download).shutdown()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _build(place: Path, say: Say) -> Path:
    go = shutil.which("go") or (_GO_USUAL_PLACE if Path(_GO_USUAL_PLACE).exists() else None)
    if go is None:
        msg = "building it: Go is not installed"
        raise _Unusable(msg)
    say("Building Temporal with Go, about three minutes, once.")
    place.mkdir()
    _run_go(go, place, say)
    return _keep(place / "temporal")


def _run_go(go: str, place: Path, say: Say) -> None:
    """Run `go install` into a folder, with a sign of life each minute."""
    with (place / "log").open("w+") as log:
        building = subprocess.Popen(
            [go, "install", GO_MODULE],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOBIN": str(place)},
        )
        try:
            _wait_for_build(building, say)
        finally:
            building.kill()
            building.wait()
        if building.returncode != 0:
            log.seek(0)
            msg = f"building it with {go} ended with {building.returncode}: {log.read().strip()[-400:]}"
            raise _Unusable(msg)


def _wait_for_build(building: subprocess.Popen[bytes], say: Say) -> None:
    for minutes in range(1, _BUILD_SECONDS // _BUILD_NEWS_SECONDS + 1):
        try:
            building.wait(_BUILD_NEWS_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"  still building, {minutes} min")
        else:
            return
