"""Rows of the bench: a ratio, the goal it is held against, and the figures it was made of."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

PER_SECOND = "/s"
MILLISECONDS = " ms"


@dataclass(frozen=True, slots=True)
class Row:
    """One ratio. Higher is always better, and 1.0 is parity: the goal is met when the ratio reaches it."""

    name: str
    ratio: float
    goal: float
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    against: str
    besides: Mapping[str, tuple[float, ...]]
    """Further figures of the same rounds, for the reader of the file."""

    @property
    def met(self) -> bool:
        """Whether the ratio reaches the goal, as it is printed."""
        return round(self.ratio, 2) >= self.goal


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row is called, what it is measured against, and how much it should reach."""

    name: str
    against: str
    ratio: float


def row_of_rates(
    goal: Goal,
    *,
    ours: Sequence[float],
    theirs: Sequence[float],
    besides: Mapping[str, tuple[float, ...]] | None = None,
) -> Row:
    """More in a second is better: ours over theirs, round by round; the median of the rounds counts."""
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Row(
        goal.name, ratio, goal.ratio, PER_SECOND, tuple(ours), tuple(theirs), goal.against, besides or {}
    )


def row_of_times(
    goal: Goal,
    *,
    ours: Sequence[float],
    theirs: Sequence[float],
    besides: Mapping[str, tuple[float, ...]] | None = None,
) -> Row:
    """Less time is better: theirs over ours, in milliseconds, round by round; the median of the rounds counts."""
    ratio = median(other / mine for mine, other in zip(ours, theirs, strict=True))
    return Row(
        goal.name, ratio, goal.ratio, MILLISECONDS, tuple(ours), tuple(theirs), goal.against, besides or {}
    )


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    cells: list[tuple[str, ...]] = [("", "ratio", "goal", "", "ours", "theirs", "measured against")]
    cells += [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join(lines)


def write_rows(path: Path, rows: Sequence[Row], *, quick: bool, took_seconds: float) -> None:
    """The rows for programs, with every figure they were made of."""
    kept = {
        "rows": [
            {"name": row.name, "ratio": round(row.ratio, 3), "goal": row.goal, "met": row.met} for row in rows
        ],
        "figures": {row.name: _figures(row) for row in rows},
        "quick": quick,
        "took_seconds": round(took_seconds, 1),
        "machine": {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(kept, indent=1)}\n", encoding="utf-8")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.ratio:.2f}",
        f"{row.goal:.2f}",
        "met" if row.met else "missed",
        _shown(row.ours, row.unit),
        _shown(row.theirs, row.unit),
        row.against,
    )


def _shown(figures: Sequence[float], unit: str) -> str:
    figure = median(figures)
    return f"{figure:,.0f}{unit}" if figure >= 100 else f"{figure:.1f}{unit}"


def _figures(row: Row) -> Mapping[str, Any]:
    every = asdict(row)
    return {name: every[name] for name in ("unit", "against", "ours", "theirs", "besides")}
