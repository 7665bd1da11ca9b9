"""Where the browser of the tests comes from: the setting, the PATH, Playwright's folder, Debian, or a download."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Say = Callable[[str], None]

SETTING = "TIDEMARK_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OLDEST = 126
"""Older ones lack parts of the virtual authenticator, or of the style sheet."""
DEBIAN = Path("/etc/debian_version")
PLAYWRIGHT = (sys.executable, "-m", "playwright")
HELP = (
    f"To help: install Chromium (on Debian: apt install chromium) so that it is on the PATH, or set {SETTING} to the "
    "path of a Chromium or Chrome."
)

_INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-liberation")
"""With the letters that pages are looked at in: others are wider."""
_VERSION_SECONDS = 60
_FETCH_SECONDS = 900
_PROGRAMS = {"chrome", "chromium", "Chromium", "Google Chrome for Testing"}


class ChromiumMissing(Exception):
    """No usable browser could be found or fetched; the message lists what was tried."""


class _Unusable(Exception):
    """One way of getting the browser did not work; the message says why."""


def find_chromium(configured: str | None, *, say: Say) -> Path:
    """Find a Chromium or fetch one. Raises ChromiumMissing. A configured one that does not run is not passed over."""
    if configured:
        try:
            return _checked(Path(configured).expanduser())
        except _Unusable as reason:
            message = f"{SETTING} cannot be used: {reason}."
            raise ChromiumMissing(message) from None
    tried: list[str] = []
    for way in (_on_path, _of_playwright, lambda: _from_debian(say), lambda: _from_playwright(say)):
        try:
            return way()
        except _Unusable as reason:
            tried.append(str(reason))
    steps = "".join(f"\n  - {step}" for step in tried)
    message = f"No Chromium was found, and none could be fetched. Tried:{steps}\n{HELP}"
    raise ChromiumMissing(message)


def configured_chromium() -> str | None:
    """The path that the environment sets."""
    return os.environ.get(SETTING)


def _on_path() -> Path:
    reasons: list[str] = []
    for name in NAMES:
        if found := shutil.which(name):
            try:
                return _checked(Path(found))
            except _Unusable as reason:
                reasons.append(str(reason))
    raise _Unusable("; ".join(reasons) or f"the PATH has none of {', '.join(NAMES)}")


def _checked(program: Path) -> Path:
    """Make sure that a program runs, is a Chromium, and is new enough."""
    try:
        answer = _run([str(program), "--version"], seconds=_VERSION_SECONDS).strip()
    except _Unusable as reason:
        message = f"{program} does not run ({reason})"
        raise _Unusable(message) from None
    found = re.search(r"(?:Chromium|Chrome)\D* (\d+)\.", answer)
    if found is None:
        message = f"{program} is no Chromium (it calls itself {answer[:80]!r})"
        raise _Unusable(message)
    if int(found[1]) < OLDEST:
        message = f"{program} is too old ({found[1]}, at least {OLDEST} is needed)"
        raise _Unusable(message)
    return program


def _of_playwright() -> Path:
    """The browser that an earlier download left in Playwright's own folder."""
    told = _run([*PLAYWRIGHT, "install", "--dry-run", "chromium"], seconds=_VERSION_SECONDS)
    for folder in re.findall(r"Install location:\s*(.+)", told):
        for path in sorted(Path(folder.strip()).rglob("*")):
            if path.name in _PROGRAMS and path.is_file() and os.access(path, os.X_OK):
                return _checked(path)
    message = "Playwright's folder has none"
    raise _Unusable(message)


def _from_debian(say: Say) -> Path:
    if not DEBIAN.exists() or shutil.which("apt-get") is None:
        message = "apt-get: this is no Debian"
        raise _Unusable(message)
    if os.geteuid() != 0:
        message = "apt-get: only root may install"
        raise _Unusable(message)
    say("Installing Chromium with apt-get, about 100 MB, once.")
    try:
        _run(_INSTALL, seconds=_FETCH_SECONDS)
    except _Unusable:
        _fetch(["apt-get", "update", "-qq"], say)
        _fetch(_INSTALL, say)
    return _on_path()


def _from_playwright(say: Say) -> Path:
    say("Fetching Chromium with Playwright, about 170 MB, once.")
    _fetch([*PLAYWRIGHT, "install", "chromium"], say)
    return _of_playwright()


def _fetch(command: Sequence[str], say: Say) -> None:
    try:
        _run(command, seconds=_FETCH_SECONDS)
    except _Unusable:
        say("  That did not work; trying the next way.")
        raise


def _run(command: Sequence[str], *, seconds: float) -> str:
    """What a command prints. Raises _Unusable with its last words."""
    told = " ".join(Path(command[0]).name if number == 0 else part for number, part in enumerate(command))
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env=quiet,
            check=False,
        )
    except OSError as refused:
        message = f"{told}: {refused.strerror}"
        raise _Unusable(message) from None
    except subprocess.TimeoutExpired:
        message = f"{told}: not done within {seconds:.0f} seconds"
        raise _Unusable(message) from None
    if ended.returncode != 0:
        message = f"{told}: ended with {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-300:]}"
        raise _Unusable(message)
    return ended.stdout


def main() -> int:
    """Find or fetch the browser and print its path, with the news on standard error. Returns the exit code."""

    def tell(words: str) -> None:
        sys.stderr.write(f"{words}\n")

    try:
        sys.stdout.write(f"{find_chromium(configured_chromium(), say=tell)}\n")
    except ChromiumMissing as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
