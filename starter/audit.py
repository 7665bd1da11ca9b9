"""The audit as a command: what was looked at, line by line, and what to do where the books do not agree."""

from collections.abc import Iterator, Sequence

from adapters.postgres.audit import EXAMPLES_MAX, Finding, audit
from adapters.postgres.database import Database

_NEXT = (
    "What to do: stop worker and watcher, so that nothing more moves; keep a copy of the database as it is, and the "
    "logs; find out what wrote these rows before you mend any. docs/operating.md says more."
)


async def run_audit(database: Database) -> tuple[str, int]:
    """Audit the database. Returns what was found in words, and the exit code: 0 when all holds, else 1."""
    findings = await audit(database)
    return "\n".join(told(findings)), 1 if any(finding.breaches for finding in findings) else 0


def told(findings: Sequence[Finding]) -> Iterator[str]:
    """What was found, a line for each invariant and each example of a breach, and the sum of it."""
    for finding in findings:
        yield from _told_one(finding)
    breached = [finding for finding in findings if finding.breaches]
    if not breached:
        yield f"All {len(findings)} invariants hold, at one moment."
        return
    yield f"{len(breached)} of {len(findings)} invariants do NOT hold."
    yield _NEXT


def _told_one(finding: Finding) -> Iterator[str]:
    invariant = finding.invariant
    verdict = f"BREACHED by {finding.breaches}" if finding.breaches else "holds"
    looked_at = f"{finding.looked_at} {invariant.looks_at}"
    yield f"{verdict}: {invariant.sentence} ({', '.join(invariant.rules)}; looked at {looked_at})"
    for example in finding.examples:
        yield f"    {example}"
    if finding.breaches > len(finding.examples):
        yield f"    and {finding.breaches - len(finding.examples)} more (the first {EXAMPLES_MAX} are shown)"
