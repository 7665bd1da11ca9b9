"""How much is measured: a full run of a few minutes, or a quick one that only shows that everything works."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rounds alternate what is compared; the rest says how long each part of a round is."""

    rounds: int
    pgbench_rounds: int
    households: int
    pgbench_scale: int
    pgbench_seconds: int
    rules_few: int
    rules_many: int
    events: int
    """Balance events judged in one part of a round, over as many wallets."""
    top_ups: int
    """Top-ups in one part of a round at load."""
    in_flight: int
    top_ups_idle: int
    """Top-ups in one part of a round, one at a time."""


FULL = Sizes(
    rounds=5,
    pgbench_rounds=8,
    households=1_000,
    pgbench_scale=10,
    pgbench_seconds=2,
    rules_few=1_000,
    rules_many=1_000_000,
    events=1_000,
    top_ups=100,
    in_flight=20,
    top_ups_idle=10,
)
QUICK = Sizes(
    rounds=1,
    pgbench_rounds=1,
    households=50,
    pgbench_scale=1,
    pgbench_seconds=1,
    rules_few=100,
    rules_many=10_000,
    events=100,
    top_ups=20,
    in_flight=10,
    top_ups_idle=3,
)
