"""Where seeds are played: one database of a real server, kept from seed to seed and emptied for each."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from tests.simulation import stage
from tests.simulation.lanes import Yard
from tests.simulation.loop import SimulatedLoop
from tests.simulation.play import SeedFailed, Simulation
from tests.simulation.programs import Gates

SEED_STEPS = 1000
"""How long a seed is played at least."""


@dataclass
class Theater:
    """Plays one seed after the other, and counts."""

    url: str
    loop: SimulatedLoop = field(default_factory=SimulatedLoop)
    counts: Counter[str] = field(default_factory=Counter)
    top_ups: int = 0
    seeds: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        """Put the database under the simulation's clock."""
        stage.prepare(self.url)
        self.yard = Yard(self.url, Gates(self.loop))

    def play(
        self, seed: int, *, steps: int = SEED_STEPS, trace: Callable[[str], None] | None = None
    ) -> Simulation:
        """Play one seed. Raises SeedFailed; the next one is played on fresh connections then."""
        simulation = Simulation(self.yard, self.loop, seed, trace)
        try:
            simulation.play(steps)
        except SeedFailed:
            self.yard.close()
            self.yard = Yard(self.url, Gates(self.loop))
            raise
        finally:
            self.seeds += 1
            self.steps += simulation.steps
            self.top_ups += len(simulation.witness.top_ups)
            self.counts.update(simulation.counts)
            self.counts.update(
                {f"model: {kind}": times for kind, times in simulation.witness.counted.items()}
            )
        return simulation

    def close(self) -> None:
        """Close all connections."""
        self.yard.close()

    def tell(self) -> str:
        """What was played, in lines."""
        lines = [f"{self.steps} steps of {self.seeds} seeds, {self.top_ups} top-ups"]
        return "\n".join([*lines, *(f"{times:8d} {what}" for what, times in sorted(self.counts.items()))])


@contextmanager
def open_theater(server_url: str, template: str, name: str) -> Iterator[Theater]:
    """A theater in a database of its own, which its name is given to, copied from a migrated one.

    The address is a superuser's and names the maintenance database.
    """
    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {name} WITH (FORCE)").format(**names))
        server.execute(
            sql.SQL("CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY").format(**names)
        )
    theater = Theater(server_url.replace("/postgres?", f"/{name}?"))
    try:
        yield theater
    finally:
        theater.close()
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))
