"""The browser of the tests is looked for in the promised order, and every failure says what was tried."""

from pathlib import Path

import pytest

from tests import chromium
from tests.chromium import SETTING, ChromiumMissing, find_chromium
from tests.programs import write_program

GOOD = 'echo "Chromium 156.0.8078.79 built on Debian GNU/Linux 12"'
CHROME = 'echo "Google Chrome 140.0.1.2 "'
OLD = 'echo "Chromium 90.0.4430.212"'
STRANGE = 'echo "Mozilla Firefox 150.0"'
BROKEN = "echo broken >&2; exit 3"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser: no Debian, an empty PATH folder, and a Playwright that can fetch none."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(chromium, "DEBIAN", tmp_path / "no-debian")
    fake = write_program(tmp_path / "playwright", playwright(tmp_path, fetches="echo no network >&2; exit 1"))
    monkeypatch.setattr(chromium, "PLAYWRIGHT", (str(fake),))
    return tmp_path


def playwright(folder: Path, *, fetches: str) -> str:
    """What a stand-in for Playwright's command does: name its folder, or fetch."""
    told = f'echo "  Install location:    {folder}/fetched"'
    return f'PATH=/bin:/usr/bin\nif [ "$2" = --dry-run ]; then {told}; else {fetches}; fi'


def debian(folder: Path, monkeypatch: pytest.MonkeyPatch, *, installs: str) -> None:
    """Make the machine a Debian, with its own apt-get, and us its root."""
    (folder / "debian").write_text("12\n")
    monkeypatch.setattr(chromium, "DEBIAN", folder / "debian")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    write_program(folder / "bin" / "apt-get", f"PATH=/bin:/usr/bin\n{installs}")


def installing(folder: Path) -> str:
    """An apt-get that brings a browser, and notes how it was asked."""
    made = f"printf '#!/bin/sh\\n%s\\n' '{GOOD}' > {folder}/bin/chromium; chmod +x {folder}/bin/chromium"
    return f'echo "$@" >> {folder}/asked; [ "$1" = update ] || {{ {made}; }}'


INSTALL = "install -y -qq --no-install-recommends chromium fonts-liberation"


class TestFindingTheBrowser:
    def test_prefers_the_setting(self, bare: Path) -> None:
        configured = write_program(bare / "mine" / "chromium", GOOD)
        write_program(bare / "bin" / "chromium", GOOD)

        assert find_chromium(str(configured), say=print) == configured

    @pytest.mark.parametrize(
        ("says", "reason"), [(BROKEN, "does not run"), (STRANGE, "is no Chromium"), (OLD, "is too old")]
    )
    def test_refuses_a_setting_that_cannot_be_used_instead_of_passing_it_over(
        self, bare: Path, says: str, reason: str
    ) -> None:
        configured = write_program(bare / "mine" / "chromium", says)
        write_program(bare / "bin" / "chromium", GOOD)

        with pytest.raises(ChromiumMissing, match=f"{SETTING} cannot be used: .*{reason}"):
            find_chromium(str(configured), say=print)

    @pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
    def test_takes_one_on_the_path_next(self, bare: Path, name: str) -> None:
        on_path = write_program(bare / "bin" / name, CHROME)

        assert find_chromium(None, say=print) == on_path

    def test_passes_over_one_on_the_path_that_cannot_be_used(self, bare: Path) -> None:
        write_program(bare / "bin" / "chromium", OLD)
        other = write_program(bare / "bin" / "google-chrome", CHROME)

        assert find_chromium(None, say=print) == other

    def test_takes_what_playwright_has_fetched_before(self, bare: Path) -> None:
        fetched = write_program(bare / "fetched" / "chrome-linux64" / "chrome", CHROME)

        assert find_chromium(None, say=print) == fetched

    def test_installs_it_on_debian_as_root(self, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        debian(bare, monkeypatch, installs=installing(bare))
        said: list[str] = []

        assert find_chromium(None, say=said.append) == bare / "bin" / "chromium"
        assert (bare / "asked").read_text().splitlines() == [INSTALL]
        assert said == ["Installing Chromium with apt-get, about 100 MB, once."]

    def test_asks_debian_for_its_lists_where_they_are_old(
        self, bare: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = f'[ "$1" = update ] || [ -e {bare}/asked ] || {{ touch {bare}/asked; exit 100; }}; '
        debian(bare, monkeypatch, installs=old + installing(bare))

        assert find_chromium(None, say=print) == bare / "bin" / "chromium"
        assert (bare / "asked").read_text().splitlines() == ["update -qq", INSTALL]

    def test_has_playwright_fetch_it_where_debian_gives_none(
        self, bare: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        debian(bare, monkeypatch, installs="exit 100")
        place = bare / "fetched" / "chrome-linux64"
        made = f"mkdir -p {place}; printf '#!/bin/sh\\n%s\\n' '{CHROME}' > {place}/chrome; chmod +x {place}/chrome"
        write_program(bare / "playwright", playwright(bare, fetches=made))

        assert find_chromium(None, say=print) == place / "chrome"

    def test_says_all_that_was_tried_and_how_to_help(
        self, bare: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        debian(bare, monkeypatch, installs="echo no such mirror >&2; exit 100")
        write_program(bare / "bin" / "chromium", OLD)

        with pytest.raises(ChromiumMissing) as missing:
            find_chromium(None, say=print)

        told = str(missing.value)
        for reason in ("is too old (90", "Playwright's folder has none", "no such mirror", "no network"):
            assert reason in told
        assert told.endswith(chromium.HELP)

    def test_leaves_installing_to_root(self, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        debian(bare, monkeypatch, installs="exit 0")
        monkeypatch.setattr("os.geteuid", lambda: 1000)

        with pytest.raises(ChromiumMissing, match="apt-get: only root may install"):
            find_chromium(None, say=print)
