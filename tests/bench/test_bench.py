"""The bench works: a quick run of one part writes what its reader expects, whatever the figures are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.rows import Goal, row_of_rates, row_of_times, table
from tests.house.building import ROOT


class TestTheCommand:
    def test_prints_a_table_and_writes_the_same_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "bench.json"
        asked = [sys.executable, "-m", "tests.bench", "--quick", "--only", "ledger", "--write-to", str(path)]

        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr
        written = json.loads(path.read_text(encoding="utf-8"))
        assert [row["name"] for row in written["rows"]] == [
            "draws_vs_tpcb_spread",
            "draws_vs_tpcb_hot_wallet",
            "draws_converted_vs_tpcb",
        ]
        for row in written["rows"]:
            assert set(row) == {"name", "ratio", "goal", "met"}
            assert row["met"] == (round(row["ratio"], 2) >= row["goal"])
            assert row["name"] in done.stdout


class TestARow:
    def test_of_rates_is_better_the_higher_ours_are(self) -> None:
        row = row_of_rates(Goal("draws", "theirs", 1.3), ours=[300, 200, 100], theirs=[200, 100, 100])

        assert row.ratio == pytest.approx(1.5)
        assert row.met

    def test_of_times_is_better_the_shorter_ours_are(self) -> None:
        row = row_of_times(Goal("end", "theirs", 0.5), ours=[100, 200, 400], theirs=[40, 40, 40])

        assert row.ratio == pytest.approx(0.2)
        assert not row.met

    def test_is_shown_with_its_goal(self) -> None:
        row = row_of_rates(Goal("draws", "theirs", 1.3), ours=[1500], theirs=[1000])

        assert table([row]).splitlines()[1].split() == [
            "draws",
            "1.50",
            "1.30",
            "met",
            "1,500/s",
            "1,000/s",
            "theirs",
        ]
