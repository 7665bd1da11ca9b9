"""Every page there is: it asks who looks, leads strangers to the sign-in, and changes nothing for another site."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from starlette.routing import BaseRoute, Mount

from adapters.postgres.database import Database
from console.nowhere import _nowhere
from console.rooms import is_page
from console.visitors import _visitor
from tests.api.conftest import build
from tests.builders import open_household
from tests.console.conftest import Browser, sign_in

OPEN = {
    "/sign-in",
    "/sign-in/options",
    "/sign-out",
    "/recover",
    "/join/{token}",
    "/join/{token}/options",
    "/push/key",
    "/unsubscribe/{token}",
}
"""What a stranger may do: sign in, sign out once more, register, learn the public key of our pushes, and, with the
token from a mail, want no more of its kind."""
UNASKED = {"/service-worker.js", "/manifest.webmanifest"}
"""What browsers fetch by themselves, the same for everybody: nobody is looked for, and nothing is told."""


def flat(routes: Sequence[BaseRoute]) -> Iterator[Any]:
    """Every route that is really served, however deep."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from flat(inner.routes)
        elif not isinstance(route, Mount):
            yield route


ROUTES = [
    route
    for route in flat(build(Database.open("postgresql:///unused", pool_size=1)).routes)
    if is_page(route.path) and route.endpoint is not _nowhere
]


def asks_who_it_is(dependant: Dependant) -> bool:
    """Whether the visitor is looked for, counted, and their forms checked."""
    return dependant.call is _visitor or any(asks_who_it_is(inner) for inner in dependant.dependencies)


def at(path: str) -> str:
    """The address with ids of nothing."""
    return re.sub(r"{\w+(:\w+)?}", "nothing", path)


def pages(*methods: str) -> list[str]:
    """The guarded pages that are asked for by one of these methods."""
    found = {route.path for route in ROUTES if {*methods} & {*(route.methods or ())}}
    return sorted(found - OPEN - UNASKED)


class TestEveryPage:
    def test_asks_who_it_is(self) -> None:
        unasking = {route.path for route in ROUTES if not asks_who_it_is(route.dependant)}

        assert unasking <= UNASKED

    def test_is_no_part_of_the_apis_description(self) -> None:
        assert [route.path for route in ROUTES if route.include_in_schema] == []

    async def test_leads_a_stranger_to_the_sign_in(self, stranger: Browser) -> None:
        for path in pages("GET"):
            answer = await stranger.get(at(path))
            if answer.status_code == 200 and path.endswith("/live"):
                assert answer.text.rstrip().endswith("event: stop\ndata:"), answer.text
                assert "/sign-in" in answer.text, path
            else:
                assert answer.status_code == 303, path
                assert answer.headers["location"].startswith("/sign-in"), path

    async def test_changes_nothing_for_a_stranger(self, stranger: Browser) -> None:
        for path in pages("POST"):
            answer = await stranger.send(at(path))
            assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in"), path

    @pytest.mark.parametrize("kind", ["owner", "operator"])
    async def test_changes_nothing_for_a_form_of_another_site_or_without_the_token(
        self, stranger: Browser, database: Database, kind: str
    ) -> None:
        home = await open_household(database)
        known = await sign_in(stranger, database, owner_id=home.owner_id if kind == "owner" else None)
        cookie = {"Cookie": f"__Host-tidemark={known.token}"}
        for path in pages("POST"):
            sent = {"csrf": known.csrf}
            away = await known.client.post(
                at(path), data=sent, headers={**cookie, "Origin": "https://x.example"}
            )
            framed = await known.client.post(
                at(path), data=sent, headers={**cookie, "Sec-Fetch-Site": "cross-site"}
            )
            guessed = await known.client.post(at(path), data={"csrf": "guessed"}, headers=cookie)
            assert [answer.status_code for answer in (away, framed, guessed)] == [403, 403, 403], path
            assert "This form has expired" in guessed.text, path
