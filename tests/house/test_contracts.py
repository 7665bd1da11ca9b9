"""A contract that cannot fail is no contract: each is broken once on purpose, in a copy."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.house.building import ROOT, rooms

# The contract's name, and what is written into which file to break it.
PLANTED = [
    ("Each floor rests on the floors below", {"adapters/postgres/ids.py": "import starter"}),
    ("Each floor rests on the floors below", {"api/planted.py": "import starter"}),
    ("The story cannot reach the world, by any path", {"activities/messages.py": "import httpx2"}),
    ("The story cannot reach the world, by any path", {"workflows/ids.py": "import sqlmodel"}),
    ("The story cannot reach the world, by any path", {"activities/messages.py": "import standardwebhooks"}),
    ("The rules are plain Python", {"topup/keys.py": "import pydantic"}),
    ("The rules are plain Python", {"topup/keys.py": "import prometheus_client"}),
    ("Adapters know the ports, not the deeds", {"adapters/postgres/ids.py": "import activities.draw"}),
    ("Adapters do not know each other", {"adapters/notify/planted.py": "import adapters.postgres.ids"}),
    ("Rows stay in the cellar", {"api/planted.py": "import adapters.postgres.tables"}),
    ("Only wiring places read settings", {"starter/planted.py": "import runtime.settings"}),
    ("Nothing rests on the worker", {"api/planted.py": "import worker"}),
    ("No cycles", {"topup/money.py": "import topup.planted", "topup/planted.py": "import topup.money"}),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rooms and their contracts, in a place of their own."""
    place = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", place)
    for room in rooms():
        shutil.copytree(ROOT / room, place / room, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def broken_contracts(place: Path) -> list[str]:
    """The contracts that do not hold there."""
    program = Path(sys.executable).with_name("lint-imports")
    said = subprocess.run([program, "--no-cache"], cwd=place, capture_output=True, text=True, check=False)
    assert "Contracts:" in said.stdout, said.stdout + said.stderr
    return [line.removesuffix("BROKEN").strip() for line in said.stdout.splitlines() if "BROKEN" in line]


class TestTheContracts:
    def test_hold(self, copy: Path) -> None:
        assert broken_contracts(copy) == []

    @pytest.mark.parametrize(("contract", "planted"), PLANTED)
    def test_break_on_a_planted_violation(self, copy: Path, contract: str, planted: dict[str, str]) -> None:
        before = {name: (copy / name).read_text() if (copy / name).exists() else None for name in planted}
        for name, line in planted.items():
            (copy / name).write_text(f"{before[name] or ''}\n{line}\n")

        broken = broken_contracts(copy)

        for name, text in before.items():
            (copy / name).unlink() if text is None else (copy / name).write_text(text)
        assert any(said.startswith(contract) for said in broken), broken


# What a closed room may use of the dependencies after all, and why.
ALLOWED = {
    "story": {
        "pydantic": "what travels through Temporal is written and read by it; it reaches nothing",
        "temporalio": "the story is told in its words, and the worker keeps it in a sandbox",
    },
    "plain": {},
}


def dependencies() -> set[str]:
    """The packages that run in production, by the names under which they are imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[\[=<>~! ]", line, maxsplit=1)[0].lower() for line in project["dependencies"]}
    imported = packages_distributions()
    found = {
        package: {
            name for name, sources in imported.items() if package in {canonical(one) for one in sources}
        }
        for package in named
    }
    assert all(found.values()), found
    return {name for names in found.values() for name in names if not name.startswith("_")}


def canonical(name: str) -> str:
    """The name of a package as the list of dependencies writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def forbidden(contract: str) -> set[str]:
    """What the contract of this id forbids."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (found,) = [one for one in tools["importlinter"]["contracts"] if one["id"] == contract]
    return set(found["forbidden_modules"])


class TestTheClosedRooms:
    @pytest.mark.parametrize("contract", ALLOWED)
    def test_are_closed_to_every_dependency_but_those_allowed_with_a_reason(self, contract: str) -> None:
        allowed = set(ALLOWED[contract])

        assert dependencies() - forbidden(contract) == allowed
        assert not forbidden(contract) & allowed


class TestTheSignsOnTheDoors:
    @pytest.mark.parametrize("room", ["topup", "workflows"])
    @pytest.mark.parametrize(
        "line",
        [
            "import time",
            "import random",
            "import secrets",
            "import uuid",
            "import os",
            "from os import environ",
            "import datetime\n\nNOW = datetime.datetime.now(datetime.UTC)",
        ],
    )
    def test_keep_clock_dice_and_environment_out(self, room: str, line: str) -> None:
        ruff = Path(sys.executable).with_name("ruff")

        said = subprocess.run(
            [
                ruff,
                "check",
                "--no-cache",
                "--select",
                "TID251",
                "--stdin-filename",
                f"{room}/planted.py",
                "-",
            ],
            input=f'"""Planted."""\n\n{line}\n',
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

        assert "TID251" in said.stdout
