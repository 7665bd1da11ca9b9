"""The style sheet's tokens: each pair of colors that meets can be read, in both themes; each class has a look."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.page import STATIC, TEMPLATES

SHEET = (STATIC / "tidemark.css").read_text(encoding="utf-8")
GROUNDS = ("ground", "surface", "sunk")
READ = {
    *(
        (ink, ground)
        for ink in ("ink", "ink-soft", "accent", "accent-strong", "danger")
        for ground in GROUNDS
    ),
    *((kind, f"{kind}-soft") for kind in ("accent", "danger", "warning", "success")),
    *(("ink", f"{kind}-soft") for kind in ("accent", "danger", "warning", "success")),
    *(("ink-soft", f"{kind}-soft") for kind in ("accent", "warning")),
    ("accent-strong", "accent-soft"),
    ("danger-strong", "danger-soft"),
    ("warning", "surface"),
    ("accent-ink", "accent"),
    ("accent-ink", "accent-strong"),
    ("danger-ink", "danger"),
    ("danger-ink", "danger-strong"),
    ("deep-ink", "deep"),
    ("deep-soft", "deep"),
}
"""Words on their grounds: 4.5 to 1 (WCAG 1.4.3)."""
SEEN = {
    *(("line-strong", ground) for ground in ("surface", "ground")),
    *(("accent", ground) for ground in GROUNDS),
    ("deep-mark", "deep"),
}
"""Borders of what is filled in, and the ring around what has the focus: 3 to 1 (WCAG 1.4.11)."""
SCRIPTS = {"htmx-request", "htmx-swapping"}


def tokens(block: str) -> dict[str, str]:
    """The colors a block gives."""
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def theme(dark: bool) -> dict[str, str]:
    """The colors of a theme."""
    first, _, rest = SHEET.partition("@media (prefers-color-scheme: dark)")
    return tokens(first) | (tokens(rest.partition("/* ---")[0]) if dark else {})


def luminance(color: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """How far apart two colors are, from 1 to 21."""
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def classes_used() -> Iterator[tuple[Path, str]]:
    """Every class that a template names in full."""
    for path in sorted(TEMPLATES.rglob("*.html")):
        plain = re.sub(
            r"\{\{.*?\}\}",
            "*",
            re.sub(r"\{[%#].*?[%#]\}", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL),
        )
        for named in re.findall(r'\bclass="([^"]*)"', plain):
            yield from ((path, name) for name in named.split() if "*" not in name and not name.endswith("-"))


class TestTheColors:
    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize(("least", "pairs"), [(4.5, READ), (3.0, SEEN)], ids=["words", "shapes"])
    def test_stand_out_from_what_they_stand_on(
        self, least: float, pairs: set[tuple[str, str]], dark: bool
    ) -> None:
        colors = theme(dark)

        weak = {pair: contrast(colors[pair[0]], colors[pair[1]]) for pair in pairs}

        assert {pair: ratio for pair, ratio in weak.items() if ratio < least} == {}

    def test_are_measured_as_they_are_known_to_be(self) -> None:
        assert contrast("#000000", "#ffffff") == pytest.approx(21)
        assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)

    def test_are_the_same_set_in_both_themes(self) -> None:
        _, _, rest = SHEET.partition("@media (prefers-color-scheme: dark)")

        assert set(tokens(rest.partition("/* ---")[0])) == set(theme(dark=False))


class TestTheTemplates:
    def test_name_no_class_without_a_look(self) -> None:
        known = set(re.findall(r"\.([a-z][a-z0-9-]*)", SHEET)) | SCRIPTS

        assert {f"{path.name}: {name}" for path, name in classes_used() if name not in known} == set()

    def test_hold_no_style_and_no_script_of_their_own(self) -> None:
        for path in TEMPLATES.rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|hx-on|\"js:|<script(?![^>]*\ssrc=)", text), (
                path.name
            )
