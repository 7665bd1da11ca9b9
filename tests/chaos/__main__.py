"""`make chaos`: a thousand strikes at named points, their counts as a table and in `.tidemark/chaos.json`."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from runtime.settings import read_development_settings
from tests.chaos.campaign import Outcome, run
from tests.chaos.cases import Case, Manner, Moment, Struck, alone, long_run

STRIKES = 1000
LANES = 4
DRAW_SECONDS = 40
"""As long as ten top-ups may take to come to their points on a machine that is busy."""


def main(arguments: Sequence[str]) -> int:
    """Play the long run, or one case. Returns the exit code."""
    wanted = _parser().parse_args(arguments)
    batches = [alone(wanted.case)] if wanted.case else long_run(wanted.strikes, seed=wanted.seed)
    lanes = min(wanted.lanes, len(batches))
    _say(f"Seed {wanted.seed}, {sum(len(batch.cases) for batch in batches)} cases, {lanes} lanes.")
    started = datetime.now(UTC)
    outcome = run(batches, lanes=lanes, draw_seconds=DRAW_SECONDS, say=_say)
    path = wanted.write_to or read_development_settings().home / "chaos.json"
    if not wanted.case:
        _write(path, outcome, seed=wanted.seed, started=started)
        _say(f"\n{_table(outcome)}\n\nFigures: {path}")
    return _conclude(outcome)


def _conclude(outcome: Outcome) -> int:
    for verdict in outcome.failures:
        _say(f"FAILED {verdict.case}: {'; '.join(verdict.problems)}")
        _say(f"  again: make chaos CASE={verdict.case}")
    for case in outcome.missed:
        _say(f"MISSED {case}: its top-up did not come to its point\n  again: make chaos CASE={case}")
    total, minutes = outcome.struck.total(), outcome.took_seconds / 60
    _say(
        f"{total} top-ups struck at their points by {outcome.strikes} strikes in {minutes:.1f} minutes: "
        f"{len(outcome.failures)} failed, {len(outcome.missed)} missed."
    )
    if outcome.interrupted:
        _say("Interrupted before it was through.")
    return 1 if outcome.failures or outcome.missed or outcome.interrupted else 0


def _table(outcome: Outcome) -> str:
    """Cases by program and manner, before, during and after, and how many of them failed."""
    counts = _counts(outcome)
    failed = Counter((verdict.case.struck, verdict.case.manner) for verdict in outcome.failures)
    lines = [f"{'struck':10} {'manner':6} {'before':>7} {'during':>7} {'after':>7} {'failed':>7}"]
    for struck in Struck:
        for manner in Manner:
            figures = " ".join(f"{counts[struck, manner, moment]:7}" for moment in Moment)
            lines.append(f"{struck:10} {manner:6} {figures} {failed[struck, manner]:7}")
    return "\n".join(lines)


def _counts(outcome: Outcome) -> Counter[tuple[Struck, Manner, Moment]]:
    counts: Counter[tuple[Struck, Manner, Moment]] = Counter()
    for case, times in outcome.struck.items():
        counts[case.struck, case.manner, case.moment] += times
    return counts


def _write(path: Path, outcome: Outcome, *, seed: int, started: datetime) -> None:
    figures = {
        "started": started.isoformat(),
        "seed": seed,
        "took_seconds": round(outcome.took_seconds),
        "strikes": outcome.strikes,
        "cases": outcome.struck.total(),
        "cells": {f"{'.'.join(key)}": times for key, times in sorted(_counts(outcome).items())},
        "by_case": {str(case): times for case, times in sorted(outcome.struck.items())},
        "interrupted": outcome.interrupted,
        "failed": [{"case": str(v.case), "problems": v.problems} for v in outcome.failures],
        "missed": [str(case) for case in outcome.missed],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--case", type=Case.parse, help="play this case alone, such as worker.kill.draw-1.during"
    )
    parser.add_argument("--strikes", type=int, default=STRIKES, help="how many")
    parser.add_argument("--lanes", type=int, default=LANES, help="how many whole products side by side")
    parser.add_argument("--seed", type=int, default=1, help="the order of the batches")
    parser.add_argument("--write-to", type=Path, help="another file than .tidemark/chaos.json")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
