"""The product's clocks and dice, put under the simulation's for as long as it plays."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import adapters.postgres.deliveries
import adapters.postgres.ids
from tests.simulation.loop import SimulatedLoop

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROOM = "adapters.postgres."
_TABLES = f"{_ROOM}tables"


@contextmanager
def simulated_clocks(loop: SimulatedLoop, seed: int) -> Iterator[None]:
    """Have the store's Python code take its time from the loop, and its ids from the seed."""
    dice = Random(f"ids of {seed}")

    class Simulated(datetime):
        """The simulation's clock."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            """This moment of the simulation."""
            return loop.now.astimezone(tz)

    def token(count: int) -> str:
        return dice.randbytes(count).hex()

    clock = SimpleNamespace(time_ns=lambda: (loop.now - _EPOCH) // timedelta(microseconds=1) * 1000)
    secrets = SimpleNamespace(token_hex=token, token_urlsafe=token)
    with ExitStack() as around:
        for name, module in sorted(sys.modules.items()):
            if name.startswith(_ROOM) and name != _TABLES and vars(module).get("datetime") is datetime:
                around.enter_context(patch.object(module, "datetime", Simulated))
        around.enter_context(patch.object(adapters.postgres.ids, "time", clock))
        around.enter_context(patch.object(adapters.postgres.ids, "secrets", secrets))
        around.enter_context(patch.object(adapters.postgres.deliveries, "secrets", secrets))
        yield
