"""Fixtures of the simulation: a theater for each file."""

from collections.abc import Iterator

import pytest

from tests.simulation.theater import Theater, open_theater


@pytest.fixture(scope="module")
def theater(postgres_url: str, template: str) -> Iterator[Theater]:
    """A theater that has not played yet."""
    with open_theater(postgres_url, template, "theater") as theater:
        yield theater
