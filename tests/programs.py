"""Programs that stand in for others: a few lines of shell."""

from pathlib import Path


def write_program(path: Path, says: str) -> Path:
    """Write a program that runs these lines of shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path
