"""The audit of dependencies finds what it is there to find, and says what it could not ask."""

import json
import re
import shutil
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.dependencies import (
    _IMPATIENT,
    ROOT,
    VENDORED,
    Report,
    ask_for_vulnerabilities,
    ask_for_yanked,
    find_changed,
    find_unhashed,
    find_unlocked,
    find_unpinned,
    main,
)

UV = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The vendored files, to be spoiled."""
    for name in VENDORED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask nobody outside this machine, and nobody twice."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{NOBODY}/simple")
    monkeypatch.setitem(_IMPATIENT, "UV_HTTP_RETRIES", "0")


class _Service(BaseHTTPRequestHandler):
    """A vulnerability service as uv asks one, which knows of one package."""

    knows = ""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        known = {"vulns": [{"id": "GHSA-0000", "modified": "2026-01-01T00:00:00Z"}]}
        self._answer({"results": [known if one["package"]["name"] == self.knows else {} for one in asked]})

    def do_GET(self) -> None:
        affected = {
            "package": {"ecosystem": "PyPI", "name": self.knows},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
        }
        moment = "2026-01-01T00:00:00Z"
        self._answer({"id": "GHSA-0000", "modified": moment, "published": moment, "affected": [affected]})

    def log_message(self, *_words: object) -> None:
        """Keep quiet."""

    def _answer(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def vulnerability_service(knows: str) -> Iterator[str]:
    """A service on this machine that has heard of this package."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Service", (_Service,), {"knows": knows}))
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def asked(service: str) -> Report:
    """What is said after this service was asked."""
    report = Report()
    ask_for_vulnerabilities(report, ROOT, UV, "--service-url", service)
    return report


class TestTheAudit:
    def test_holds_what_lies_here(self) -> None:
        assert list(find_unlocked(ROOT, UV)) == []
        assert list(find_changed(ROOT)) == []
        assert list(find_unpinned(tomllib.loads((ROOT / "pyproject.toml").read_text()))) == []
        assert list(find_unhashed(tomllib.loads((ROOT / "uv.lock").read_text()))) == []

    def test_fails_on_a_known_vulnerability(self) -> None:
        with vulnerability_service(knows="jinja2") as service:
            report = asked(service)

        assert any("jinja2 3.1.6 has 1 known vulnerability" in one for one in report.findings), str(report)

    def test_is_content_when_the_service_knows_of_nothing(self) -> None:
        with vulnerability_service(knows="nothing-of-ours") as service:
            report = asked(service)

        assert report.findings == []
        assert any(one.startswith("Found no known vulnerabilities") for one in report.checked), str(report)

    def test_says_loudly_that_nobody_answered(self) -> None:
        report = asked(NOBODY)

        assert report.findings == []
        assert "NOT ASKED: no vulnerability service answers here" in str(report)
        assert "NOT looked up: run this where the network is open before a release" in str(report)

    def test_finds_a_dependency_without_a_version(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text().replace("jinja2==3.1.6", "jinja2>=3.1"))

        assert list(find_unpinned(project)) == ["jinja2>=3.1 is not pinned to one version in pyproject.toml"]

    def test_finds_a_lock_of_other_dependencies(self, tmp_path: Path) -> None:
        for name in ("uv.lock", "README.md"):
            shutil.copy(ROOT / name, tmp_path / name)
        project = (ROOT / "pyproject.toml").read_text()
        (tmp_path / "pyproject.toml").write_text(project.replace('"jinja2==3.1.6"', '"jinja2==3.1.5"'))

        assert [one[:40] for one in find_unlocked(tmp_path, UV)] == [
            "uv.lock is not that of pyproject.toml: h"
        ]

    def test_takes_the_lock_for_what_it_is_on_a_machine_with_an_index_of_its_own(self) -> None:
        assert list(find_unlocked(ROOT, UV)) == []

    def test_finds_a_file_without_a_hash(self) -> None:
        lock = (ROOT / "uv.lock").read_text()
        spoiled = tomllib.loads(re.sub(r', hash = "sha256:[0-9a-f]+"', "", lock, count=1))

        assert [one.partition(" is ")[2] for one in find_unhashed(spoiled)] == [
            "locked without a hash for each of its files"
        ]

    @pytest.mark.parametrize("name", VENDORED)
    def test_finds_a_vendored_file_that_was_changed(self, copy: Path, name: str) -> None:
        (copy / name).write_bytes((copy / name).read_bytes() + b"\n")

        assert list(find_changed(copy)) == [f"{name} is not what was published under that version"]

    def test_finds_a_vendored_file_that_nobody_knows(self, copy: Path) -> None:
        (copy / "console" / "static" / "vendor" / "more.js").write_text("")

        assert list(find_changed(copy)) == [
            "console/static/vendor/more.js is vendored and not known to the audit"
        ]

    def test_finds_a_package_that_was_yanked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.dependencies._run", Said("warning: `jinja2==3.1.6` is yanked (reason: x)"))
        report = Report()

        ask_for_yanked(report, ROOT, UV)

        assert report.findings == ["jinja2==3.1.6 was taken back by its authors (yanked)"]

    def test_ends_with_one_where_something_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.dependencies.audit", lambda *_args, **_more: Report(findings=["a hole"]))

        assert main([UV]) == 1


class Said:
    """uv, as it would say this to every question."""

    def __init__(self, words: str) -> None:
        self.returncode, self.stdout, self.stderr = 0, "", words

    def __call__(self, *_command: str, **_more: object) -> "Said":
        return self
