"""A half of the steps that CI plays, and what must have happened in each of them."""

from collections.abc import Mapping
from types import MappingProxyType

from tests.simulation.theater import Theater

STEPS = 50_000
"""Two halves are the hundred thousand of CI; `make simulate STEPS=...` plays as many as one likes."""

AT_LEAST: Mapping[str, int] = MappingProxyType(
    {
        "statement": 10_000,
        "commit": 4_000,
        "call": 800,
        "workflow": 500,
        "dispatch": 500,
        "time": 500,
        "blocked": 300,
        "woken": 300,
        "statement cut": 50,
        "statement lost": 50,
        "commit cut": 10,
        "commit lost": 10,
        "call cut": 2,
        "call lost": 2,
        "crash after statement": 20,
        "crash after commit": 1,
        "crash before statement": 20,
        "crash idle": 20,
        "doubled": 5,
        "stands still": 3,
        "operator: terminate": 10,
        "operator: cancel": 5,
        "operator: delete": 10,
        "operator: reset": 40,
        "begin: sweep": 50,
        "begin: pay": 300,
        "begin: report": 100,
        "begin: change": 300,
        "model: judge": 300,
        "model: draw": 100,
        "model: fence": 20,
        "model: settle": 100,
        "model: note": 5,
        "rest": 80,
    }
)
"""How often each kind of step and of trouble must have come in one half, so that none is forgotten."""


def play_half(theater: Theater, *, first: int) -> None:
    """Play every other seed until the steps are done."""
    seed = first
    while theater.steps < STEPS:
        theater.play(seed)
        seed += 2


def assert_everything_happened(theater: Theater) -> None:
    """Assert the number of steps really done, and that every kind of step and trouble was among them."""
    print(theater.tell())  # noqa: T201 shown when a test fails, and by pytest -s
    too_few = {what: theater.counts[what] for what, times in AT_LEAST.items() if theater.counts[what] < times}
    assert theater.steps >= STEPS
    assert not too_few, too_few
