"""The texts of the pages: all of them collected for translators, and a translation really used."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.frontend import CommandLineInterface
from babel.messages.pofile import read_po, write_po

from adapters.postgres.database import Database
from console import page
from console.flashes import FLASHES
from tests.builders import open_household
from tests.console.conftest import Browser, sign_in
from tests.house.building import ROOT

TEMPLATE = ROOT / "console" / "locales" / "tidemark.pot"
GERMAN = {
    "History": "Verlauf",
    "Account": "Konto",
    "Your wallets": "Ihre Wallets",
    "There is no such page": "Diese Seite gibt es nicht",
}


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file)


def texts(catalog: Catalog) -> set[object]:
    """What is to be translated, singular and plural."""
    return {
        message.id if isinstance(message.id, str) else tuple(message.id) for message in catalog if message.id
    }


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pages that have been translated into German, as far as these tests go."""
    catalog = Catalog(locale="de")
    for english, words in GERMAN.items():
        catalog.add(english, words)
    place = tmp_path / "de" / "LC_MESSAGES"
    place.mkdir(parents=True)
    with (place / "tidemark.po").open("wb") as file:
        write_po(file, catalog)
    monkeypatch.setattr(page, "LOCALES", tmp_path)
    page._environment.cache_clear()
    yield
    page._environment.cache_clear()


class TestTheTexts:
    def test_are_all_collected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        collected = tmp_path / "tidemark.pot"
        monkeypatch.chdir(ROOT)
        arguments = ["pybabel", "-q", "extract", "--mapping", "pyproject.toml", "--keyword", "mark"]
        CommandLineInterface().run([*arguments, "--output", str(collected), "."])  # type: ignore[no-untyped-call]

        assert texts(read(TEMPLATE)) == texts(read(collected)), "run `make texts`"

    def test_of_the_templates_and_of_the_code_are_among_them(self) -> None:
        known = texts(read(TEMPLATE))

        assert {flash.message for flash in FLASHES.values()} <= known
        assert set(GERMAN) <= known


@pytest.mark.usefixtures("german")
class TestATranslation:
    async def test_is_shown_to_readers_who_ask_for_it(self, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)

        asked = await owner.get("/wallets/nobodys/nothing", **{"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"})
        others = await owner.get("/wallets/nobodys/nothing", **{"Accept-Language": "fr,en;q=0.5"})

        assert '<html lang="de-DE">' in asked.text
        assert "<span>Verlauf</span>" in asked.text
        assert "<h1>Diese Seite gibt es nicht</h1>" in asked.text
        assert "Skip to the content" in asked.text, "what is not translated yet stays English"
        assert '<html lang="en-US">' in others.text
        assert "<span>History</span>" in others.text

    async def test_brings_its_customs_for_amounts_and_no_other_language_does(
        self, stranger: Browser, database: Database
    ) -> None:
        home = await open_household(database, balance="1234.5")
        owner = await sign_in(stranger, database, owner_id=home.owner_id)
        path = f"/wallets/{home.wallet_id}"

        german = await owner.get(path, **{"Accept-Language": "de"})
        french = await owner.get(path, **{"Accept-Language": "fr"})

        assert "1.234,50" in german.text
        assert "1,234.50" in french.text, "beside English words other customs would be read wrongly"
