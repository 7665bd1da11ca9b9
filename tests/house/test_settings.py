"""Every setting is told in docs/operating.md exactly as the settings themselves tell it, and no other is."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from runtime.settings import DevelopmentSettings, Settings, variable
from tests.house.building import ROOT, sources, table_after

PAGES: dict[type[BaseSettings], str] = {
    Settings: "docs/operating.md",
    DevelopmentSettings: "docs/development.md",
}
ELSEWHERE = {
    "TIDEMARK_CHROMIUM",  # Of the tests alone: the browser they look at the pages with.
    "TIDEMARK_LIFELINE_FD",  # Set by the development run for the programs it starts; nobody sets it by hand.
    "TIDEMARK_VERSION",  # The compose file's: the image's tag, handed on as TIDEMARK_WORKER_BUILD_ID.
}


def default_of(value: object) -> str:
    """A default as the table shows it."""
    if value is PydanticUndefined:
        return "must be set"
    if value is None:
        return "unset"
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        return f"`{seconds // 3600}h`" if seconds % 3600 == 0 else f"`{seconds}s`"
    return f"`{value}`" if isinstance(value, str | Path) else f"`{json.dumps(value)}`"


def rows_of(kind: type[BaseSettings]) -> list[list[str]]:
    """The table that tells of these settings."""
    return [
        [f"`{variable(name)}`", default_of(field.default), field.description or ""]
        for name, field in kind.model_fields.items()
    ]


class TestTheSettings:
    @pytest.mark.parametrize("kind", [Settings, DevelopmentSettings])
    def test_are_told_one_by_one(self, kind: type[BaseSettings]) -> None:
        told = table_after((ROOT / PAGES[kind]).read_text(encoding="utf-8"), "setting")

        assert told == rows_of(kind)

    @pytest.mark.parametrize("kind", [Settings, DevelopmentSettings])
    def test_each_have_a_description(self, kind: type[BaseSettings]) -> None:
        assert all(field.description for field in kind.model_fields.values())

    def test_are_the_only_variables_named_anywhere(self) -> None:
        known = {variable(name) for kind in PAGES for name in kind.model_fields} | ELSEWHERE
        pages = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md")), *sources()]

        for page in pages:
            named = set(re.findall(r"\bTIDEMARK_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
            assert named <= known, page
