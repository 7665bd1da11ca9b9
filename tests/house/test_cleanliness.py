"""What is committed speaks of the product alone: no place of any one machine, no key, nothing left lying about."""

import re

import pytest

from tests.house.building import ROOT, shown, written_files

# Written in pieces, so that this file may be read like the others.
PLACES = [
    r"(?<![\w.])/(?:ro" + r"ot|ho" + r"me/\w+|Us" + r"ers/\w+|wo" + r"rk)/",
    r"/t" + r"mp/(?!\")[a-z]+/",
    r"\.\./sha" + "red",
]
LEFTOVERS = [r"\bFIX" + r"ME\b", r"\bTO" + r"DO\b", r"\bXX" + r"X\b", r"breakpoint\(\)", r"\bpd" + r"b\b"]
KEYS = [r"-----BEGIN [A-Z ]*PRIVATE", r"\bAKIA[0-9A-Z]{16}\b", r"\btm_[A-Za-z0-9]{24,}"]
PICTURE_BYTES_MAX = 150_000
PACKAGES_FROM = {"pypi.org", "files.pythonhosted.org"}


def found(patterns: list[str]) -> set[str]:
    """Where any of these stands in a committed text."""
    wanted = re.compile("|".join(patterns))
    return {
        f"{shown(path)}: {match.group()}"
        for path in written_files()
        if (match := wanted.search(path.read_text(encoding="utf-8")))
    }


class TestWhatIsCommitted:
    def test_names_no_place_of_a_machine(self) -> None:
        assert found(PLACES) == set()

    def test_leaves_nothing_lying_about(self) -> None:
        assert found(LEFTOVERS) == set()

    def test_holds_no_key(self) -> None:
        assert found(KEYS) == set()

    def test_locks_packages_from_their_public_home(self) -> None:
        hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))

        assert hosts == PACKAGES_FROM

    @pytest.mark.parametrize("page", ["README.md", *(shown(path) for path in (ROOT / "docs").glob("*.md"))])
    def test_links_to_pages_that_exist(self, page: str) -> None:
        text = (ROOT / page).read_text(encoding="utf-8")

        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"

    @pytest.mark.parametrize("page", ["README.md", *(shown(path) for path in (ROOT / "docs").glob("*.md"))])
    def test_names_commands_that_exist(self, page: str) -> None:
        text = (ROOT / page).read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

        assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
        for module in re.findall(r"python -m ([a-z_.]+)", text):
            path = ROOT / module.rstrip(".").replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page}: {module}"

    def test_shows_pictures_that_exist_and_are_small(self) -> None:
        shown_somewhere = {
            (page.parent / target).resolve()
            for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
            for target in re.findall(r"[(\"]([^()\"\s]+\.png)", page.read_text(encoding="utf-8"))
        }
        kept = {path.resolve(): path.stat().st_size for path in (ROOT / "docs" / "images").glob("*.png")}

        assert shown_somewhere <= set(kept)
        assert {shown(path): size for path, size in kept.items() if size > PICTURE_BYTES_MAX} == {}
