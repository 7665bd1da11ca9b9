"""Audits what Tidemark is made of: `python -m tests.dependencies UV` ends with 1 where something is found."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parent.parent
ACCEPTED: Mapping[str, str] = MappingProxyType({})
"""Vulnerabilities that are known and do not reach us, by their ids, each with the reason."""
VENDORED: Mapping[str, str] = MappingProxyType(
    {
        "console/static/vendor/htmx-4.0.1.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
        "console/static/vendor/htmx-LICENSE.txt": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
        "console/static/vendor/hx-sse-4.0.1.min.js": "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103",
        "tests/console/vendor/axe-4.14.1.min.js": "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
        "tests/console/vendor/axe-LICENSE.txt": "af175b9d96ee93c21a036152e1b905b0b95304d4ae8c2c921c7609100ba8df7e",
    }
)
"""Scripts of others that are kept here as they were published, and what their content hashes to."""

_EXACT = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[^,;\s]+")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_YANKED = re.compile(r"`([^`]+)` is yanked")
_FOUND = 1
_OTHERS = frozenset({"VIRTUAL_ENV"})
# Where a machine is set to get packages from would have the lock compared with other addresses.
_INDEXES = frozenset({"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"})
# Whoever does not answer is given up on soon: the audit goes on without.
_IMPATIENT = {"UV_HTTP_RETRIES": "1", "UV_HTTP_TIMEOUT": "15", "UV_NO_PROGRESS": "1"}


@dataclass(slots=True)
class Report:
    """What the audit has to say."""

    findings: list[str] = field(default_factory=list)
    """Each fails the audit."""
    unasked: list[str] = field(default_factory=list)
    """What could not be asked, as nobody answered."""
    checked: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """All of it, for people."""
        lines = [f"  held: {one}" for one in self.checked]
        lines += [f"  NOT ASKED: {one}" for one in self.unasked]
        lines += [f"  FOUND: {one}" for one in self.findings]
        return "\n".join(["What Tidemark is made of:", *lines])


def main(arguments: Sequence[str]) -> int:
    """Audit, and say what was found. Returns the exit code."""
    report = audit(ROOT, uv=arguments[0] if arguments else "uv")
    sys.stdout.write(f"{report}\n")
    return _FOUND if report.findings else 0


def audit(root: Path, *, uv: str) -> Report:
    """Look at what lies here, then ask who knows more."""
    report = Report()
    lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    _hold(report, "every dependency is named with one version", find_unpinned(project))
    _hold(report, f"all {len(lock['package']) - 1} packages are locked with hashes", find_unhashed(lock))
    _hold(report, "the lock is that of pyproject.toml", find_unlocked(root, uv))
    _hold(report, f"{len(VENDORED)} vendored files are as published", find_changed(root))
    ask_for_vulnerabilities(report, root, uv)
    ask_for_yanked(report, root, uv)
    return report


def _hold(report: Report, promise: str, findings: Iterator[str]) -> None:
    found = list(findings)
    report.findings += found
    if not found:
        report.checked.append(promise)


def find_unpinned(project: Mapping[str, object]) -> Iterator[str]:
    """Dependencies that any version would do for."""
    named = project.get("project"), project.get("dependency-groups")
    for part, key in zip(named, ("dependencies", "dev"), strict=True):
        for one in part.get(key, ()) if isinstance(part, dict) else ():
            if not _EXACT.fullmatch(one):
                yield f"{one} is not pinned to one version in pyproject.toml"


def find_unhashed(lock: Mapping[str, list[dict[str, object]]]) -> Iterator[str]:
    """Packages of which a file could be another one than was locked."""
    for package in lock["package"]:
        if package["source"] == {"virtual": "."}:
            continue
        files = [*_files(package.get("wheels")), *_files(package.get("sdist"))]
        if not files or not all(_HASH.fullmatch(str(file.get("hash"))) for file in files):
            yield f"{package['name']} {package['version']} is locked without a hash for each of its files"


def _files(part: object) -> list[dict[str, object]]:
    return part if isinstance(part, list) else [part] if isinstance(part, dict) else []


def find_unlocked(root: Path, uv: str) -> Iterator[str]:
    """Whether the lock was made from other dependencies; an index that a machine is set to does not matter."""
    said = _run(uv, "lock", "--check", "--offline", "--no-config", root=root, without=_INDEXES)
    if said.returncode:
        yield f"uv.lock is not that of pyproject.toml: {_last(said.stderr)}"


def find_changed(root: Path) -> Iterator[str]:
    """Vendored files that are not what they say."""
    kept = {
        str(path.relative_to(root))
        for folder in {Path(name).parent for name in VENDORED}
        for path in (root / folder).iterdir()
    }
    yield from (f"{name} is vendored and not known to the audit" for name in sorted(kept - set(VENDORED)))
    for name, known in VENDORED.items():
        path = root / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != known:
            yield f"{name} is not what was published under that version"


def ask_for_vulnerabilities(report: Report, root: Path, uv: str, *more: str) -> None:
    """Ask uv's vulnerability service, or another that `more` names."""
    accepted = [word for known in ACCEPTED for word in ("--ignore", known)]
    said = _run(uv, "audit", "--frozen", "--preview-features", "audit-command", *accepted, *more, root=root)
    if said.returncode == 0:
        report.checked.append(_last(said.stderr))
    elif said.returncode == _FOUND:
        report.findings.append(f"{_last(said.stderr)}\n{said.stdout.strip()}")
    else:
        report.unasked.append(
            f"no vulnerability service answers here ({_last(said.stderr)}). Known vulnerabilities were NOT looked up: "
            "run this where the network is open before a release."
        )


def ask_for_yanked(report: Report, root: Path, uv: str) -> None:
    """Ask the package index which of the locked versions their authors have taken back."""
    plain = ("--no-header", "--no-annotate")
    locked = _run(uv, "export", "--frozen", "--no-hashes", *plain, "--quiet", root=root).stdout
    said = _run(uv, "pip", "compile", "--no-deps", *plain, "-", root=root, told=locked)
    yanked = _YANKED.findall(said.stderr)
    report.findings += [f"{name} was taken back by its authors (yanked)" for name in yanked]
    if said.returncode:
        report.unasked.append(f"the package index does not tell what was yanked ({_last(said.stderr)})")
    elif not yanked:
        report.checked.append("no package was yanked")


def _run(
    *command: str, root: Path, told: str = "", without: frozenset[str] = frozenset()
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _OTHERS | without}
    return subprocess.run(
        command,
        cwd=root,
        input=told,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **_IMPATIENT},
    )


def _last(said: str) -> str:
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
