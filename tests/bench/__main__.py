"""The bench's command: measure, print a table, write `.tidemark/bench.json`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from runtime.logs import configure_logs
from runtime.settings import read_development_settings
from tests.bench.judging import bench_judging
from tests.bench.ledger import bench_ledger
from tests.bench.rows import Row, table, write_rows
from tests.bench.servers import own_postgres
from tests.bench.sizes import FULL, QUICK, Sizes
from tests.bench.top_ups import bench_top_ups

PARTS = {"top_ups": bench_top_ups, "ledger": bench_ledger, "watcher": bench_judging}


def main(arguments: Sequence[str]) -> int:
    """Run the wanted parts. Returns the exit code: a missed goal is told, and counts only when asked to."""
    wanted = _parser().parse_args(arguments)
    configure_logs(log_format="console", log_level="error")
    started = time.monotonic()
    rows = measure(wanted.only or list(PARTS), QUICK if wanted.quick else FULL)
    took = time.monotonic() - started
    path = wanted.write_to or read_development_settings().home / "bench.json"
    write_rows(path, rows, quick=wanted.quick, took_seconds=took)
    sys.stdout.write(f"\n{table(rows)}\n\nHigher is better in every row. Figures: {path} ({took:.0f} s)\n")
    return 1 if wanted.strict and not all(row.met for row in rows) else 0


def measure(parts: Sequence[str], sizes: Sizes) -> list[Row]:
    """All rows of these parts, on servers of their own."""
    rows: list[Row] = []
    with own_postgres() as postgres:
        for part in parts:
            sys.stdout.write(f"Measuring {part.replace('_', '-')} ...\n")
            sys.stdout.flush()
            rows += PARTS[part](postgres, sizes)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="under a minute: shows that it works, proves nothing"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be repeated")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--write-to", type=Path, help="another file than .tidemark/bench.json")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
