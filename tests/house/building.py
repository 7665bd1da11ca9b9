"""What the tests of this room look at: the rooms, their source files, and what is written about them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = {
    ".md",
    ".py",
    ".toml",
    ".yml",
    ".yaml",
    ".sql",
    ".mako",
    ".html",
    ".css",
    ".js",
    ".txt",
    ".sh",
    ".json",
}
WITHOUT_SUFFIX = {"Makefile", "Dockerfile", ".dockerignore", ".gitignore", ".python-version", "run"}
SKIPPED = {".git", ".venv", ".tidemark", ".tools", "__pycache__", "node_modules"}


def rooms() -> set[str]:
    """The packages that stand in the checkout, tests aside."""
    return {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}


def sources(*wanted: str) -> Iterator[Path]:
    """The Python files of these rooms, or of all of them and the worker."""
    for room in sorted(wanted or rooms()):
        yield from sorted((ROOT / room).rglob("*.py"))
    if not wanted:
        yield ROOT / "worker.py"


@cache
def tree_of(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def shown(path: Path) -> str:
    """The path as a reader of a failure wants it."""
    return path.relative_to(ROOT).as_posix()


def written_files() -> Iterator[Path]:
    """Every text file of the checkout that a reader could meet, leaving out what is fetched, built or kept."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        if SKIPPED & set(inside) or not path.is_file():
            continue
        if (
            any(part.startswith(".") and part.endswith("_cache") for part in inside)
            or ".hypothesis" in inside
        ):
            continue
        if path.suffix in WRITTEN or path.name in WITHOUT_SUFFIX:
            yield path


def table_after(text: str, heading: str) -> list[list[str]]:
    """The rows of the first Markdown table whose first column has this heading."""
    lines = iter(text.splitlines())
    for line in lines:
        if re.match(rf"\|\s*{re.escape(heading)}\s*\|", line):
            next(lines, None)
            break
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
    return rows
