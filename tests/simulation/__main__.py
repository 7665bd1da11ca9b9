"""`python -m tests.simulation`: play one seed, or seeds until so many steps are done, on a server of its own."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import psycopg

from adapters.postgres.migrations.reach import upgrade
from runtime.embedded_postgres import create_database
from tests.bench.servers import own_postgres
from tests.simulation.play import SeedFailed
from tests.simulation.theater import Theater, open_theater

TEMPLATE = "template_of_theaters"


def main() -> int:
    """Play what the command line asks for. Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m tests.simulation")
    asked.add_argument("--seed", type=int, help="play this seed alone, and print its steps")
    asked.add_argument("--first", type=int, default=1, help="the first of many seeds")
    asked.add_argument(
        "--steps", type=int, default=100_000, help="how many steps the seeds are to have together"
    )
    asked.add_argument("--theaters", type=int, default=os.cpu_count() or 1, help="how many play at once")
    given = asked.parse_args()
    with own_postgres() as server:
        for setting in ("fsync", "full_page_writes"):
            _administer(server.url(), f"ALTER SYSTEM SET {setting} = off")
        _administer(server.url(), "SELECT pg_reload_conf()")
        upgrade(create_database(server, TEMPLATE))
        if given.seed is not None:
            return _play_one(server.url(), given.seed)
        return _play_many(server.url(), given.first, given.steps, given.theaters)


def _administer(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(statement.encode())


def _play_one(url: str, seed: int) -> int:
    with open_theater(url, TEMPLATE, "theater") as theater:
        try:
            theater.play(seed, trace=print)
        except SeedFailed as failed:
            print(failed)  # noqa: T201 the command's answer
            return 1
        print(theater.tell())  # noqa: T201
    return 0


def _play_many(url: str, first: int, steps: int, theaters: int) -> int:
    began = time.monotonic()
    share = -(-steps // theaters)
    with ProcessPoolExecutor(theaters) as pool:
        parts = [pool.submit(_play_part, url, first, share, theaters, place) for place in range(theaters)]
        told = [part.result() for part in parts]
    for failures, counts in told:
        print("\n".join([*failures, counts]))  # noqa: T201
    print(f"{time.monotonic() - began:.0f} seconds")  # noqa: T201
    return 1 if any(failures for failures, _ in told) else 0


def _play_part(url: str, first: int, steps: int, theaters: int, place: int) -> tuple[Sequence[str], str]:
    failures: list[str] = []
    with open_theater(url, TEMPLATE, f"theater_{place}") as theater:
        seed = first + place
        while theater.steps < steps:
            try:
                theater.play(seed)
            except SeedFailed as failed:
                failures.append(str(failed))
                print(failed, flush=True)  # noqa: T201
            seed += theaters
            if theater.seeds % 20 == 0:
                _report_progress(theater, seed)
        return failures, theater.tell()


def _report_progress(theater: Theater, seed: int) -> None:
    print(f"seed {seed}: {theater.steps} steps", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
