"""The plan of the house: folders, import contracts, README and architecture page name the same rooms."""

import tomllib
from typing import Any

import pytest

from tests.house.building import ROOT, rooms, table_after

BESIDES = {"worker.py", "tests"}


def linter() -> dict[str, Any]:
    """The import contracts as they are configured."""
    configured: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return configured


def floors() -> list[str]:
    """The layers of the first contract, from the roof down."""
    contract = next(contract for contract in linter()["contracts"] if contract["id"] == "floors")
    return [room.strip() for layer in contract["layers"] for room in layer.split("|")]


def planned(page: str) -> set[str]:
    """The rooms a page's table names."""
    rows = table_after((ROOT / page).read_text(encoding="utf-8"), "room")
    return {row[0].strip("`").rstrip("/") for row in rows}


class TestThePlan:
    def test_has_a_contract_for_every_folder(self) -> None:
        assert set(linter()["root_packages"]) == rooms()

    def test_gives_every_folder_a_floor(self) -> None:
        assert set(floors()) == rooms()

    @pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
    def test_is_told_as_it_stands(self, page: str) -> None:
        assert planned(page) == rooms() | BESIDES

    def test_tells_what_each_folder_of_tests_holds(self) -> None:
        told = table_after((ROOT / "docs" / "development.md").read_text(encoding="utf-8"), "folder")
        folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}

        assert {row[0].strip("`") for row in told} == {f"tests/{name}/" for name in folders}

    def test_goes_into_the_image_whole(self) -> None:
        image = (ROOT / "Dockerfile").read_text()
        context = (ROOT / ".dockerignore").read_text().splitlines()

        for room in rooms():
            assert f"COPY {room} {room}\n" in image
            assert f"!{room}" in context

    def test_is_what_ruff_sorts_imports_by(self) -> None:
        ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
        first_party = set(ruff["lint"]["isort"]["known-first-party"])

        assert first_party == rooms() | {"tests", "worker"}
