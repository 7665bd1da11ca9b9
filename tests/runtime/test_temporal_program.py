"""The Temporal program is looked for in the promised order, and every failure says what was tried."""

import os
import threading
from pathlib import Path

import pytest

from runtime import temporal_program
from runtime.temporal_program import TemporalProgramMissing, find_temporal_program
from tests.programs import write_program

GOOD = 'echo "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"'
OLD = 'echo "temporal version 0.9.0 (Server 1.20.0, UI 2.9.0)"'
STRANGE = 'echo "a temporal of another kind"'
BROKEN = "echo broken >&2; exit 3"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Temporal: an empty PATH folder, an empty cache, no download, no Go."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(temporal_program, "_GO_USUAL_PLACE", str(tmp_path / "no-go"))
    monkeypatch.setattr(temporal_program, "_download_with_sdk", _no_download)
    return tmp_path


async def _no_download(_place: Path) -> None:
    msg = "Failed starting Temporal dev server: no network"
    raise RuntimeError(msg)


def fake_go(folder: Path, *, says: str = GOOD) -> None:
    """A Go that notes each build and builds a program."""
    builds = f"""echo built >> {folder}/builds
PATH=/bin:/usr/bin
printf '#!/bin/sh\\n%s\\n' '{says}' > "$GOBIN/temporal"
chmod +x "$GOBIN/temporal" """
    write_program(folder / "bin" / "go", builds)


class TestFindingTheTemporalProgram:
    def test_prefers_the_setting(self, bare: Path) -> None:
        configured = write_program(bare / "mine" / "temporal", GOOD)
        write_program(bare / "bin" / "temporal", GOOD)

        assert find_temporal_program(configured, say=print) == configured

    @pytest.mark.parametrize(
        ("says", "reason"),
        [(BROKEN, "ended with 3: broken"), (STRANGE, "is not Temporal's"), (OLD, "too old")],
    )
    def test_refuses_a_setting_that_cannot_be_used_instead_of_passing_it_over(
        self, bare: Path, says: str, reason: str
    ) -> None:
        configured = write_program(bare / "mine" / "temporal", says)
        write_program(bare / "bin" / "temporal", GOOD)

        with pytest.raises(
            TemporalProgramMissing, match=f"TIDEMARK_TEMPORAL_PROGRAM cannot be used: .*{reason}"
        ):
            find_temporal_program(configured, say=print)

    def test_takes_the_one_on_the_path_next(self, bare: Path) -> None:
        on_path = write_program(bare / "bin" / "temporal", GOOD)
        write_program(bare / "cache" / "tidemark" / "temporal", GOOD)

        assert find_temporal_program(None, say=print) == on_path

    @pytest.mark.parametrize("unusable", [BROKEN, OLD, STRANGE])
    def test_takes_the_cached_one_when_the_path_offers_nothing_usable(
        self, bare: Path, unusable: str
    ) -> None:
        write_program(bare / "bin" / "temporal", unusable)
        cached = write_program(bare / "cache" / "tidemark" / "temporal", GOOD)

        assert find_temporal_program(None, say=print) == cached

    def test_keeps_what_the_sdk_downloads(self, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def download(place: Path) -> None:
            write_program(place / "temporal-sdk-python-1.35.0", GOOD)

        monkeypatch.setattr(temporal_program, "_download_with_sdk", download)

        assert find_temporal_program(None, say=print) == bare / "cache" / "tidemark" / "temporal"

    def test_builds_it_with_go_at_last_and_says_so(self, bare: Path) -> None:
        fake_go(bare)
        said: list[str] = []

        found = find_temporal_program(None, say=said.append)

        assert found == bare / "cache" / "tidemark" / "temporal"
        assert "Building Temporal with Go, about three minutes, once." in said
        assert [path.name for path in found.parent.iterdir() if path.name.startswith("fetch-")] == []

    def test_builds_once_for_callers_at_the_same_moment(self, bare: Path) -> None:
        fake_go(bare)
        found: list[Path] = []
        callers = [
            threading.Thread(target=lambda: found.append(find_temporal_program(None, say=print)))
            for _ in range(4)
        ]

        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert len(found) == 4
        assert (bare / "builds").read_text() == "built\n"

    def test_says_what_was_tried_and_how_to_help(self, bare: Path) -> None:
        write_program(bare / "bin" / "temporal", OLD)

        with pytest.raises(TemporalProgramMissing) as missing:
            find_temporal_program(None, say=print)

        told = str(missing.value)
        for part in (
            "too old",
            "the cache has none",
            "the SDK's download: no network",
            "Go is not installed",
        ):
            assert part in told
        assert "TIDEMARK_TEMPORAL_PROGRAM" in told

    def test_tells_why_a_build_failed(self, bare: Path) -> None:
        write_program(bare / "bin" / "go", "echo no space left; exit 1")

        with pytest.raises(TemporalProgramMissing, match="ended with 1: no space left"):
            find_temporal_program(None, say=print)

    def test_tells_when_the_cache_cannot_be_written(
        self, bare: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (bare / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(bare / "file"))

        with pytest.raises(TemporalProgramMissing, match="cannot be written"):
            find_temporal_program(None, say=print)

    def test_uses_the_home_folder_without_xdg(self, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(bare))
        cached = write_program(bare / ".cache" / "tidemark" / "temporal", GOOD)

        assert os.environ["HOME"] == str(bare)
        assert find_temporal_program(None, say=print) == cached
