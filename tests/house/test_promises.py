"""What the pages say is tested, is tested: every test they name exists."""

import ast
import re

import pytest

from tests.house.building import ROOT, tree_of

PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
_NAMED = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)+)`")
_MENTIONED = re.compile(r"tests/[\w/]+\.py(?:::\w+)*")


def named_in(page: str) -> list[str]:
    """The tests that a page names, as pytest does."""
    return _NAMED.findall((ROOT / page).read_text(encoding="utf-8"))


def exists(test: str) -> bool:
    """Whether there is a test of this name."""
    file, *names = test.split("::")
    if not (ROOT / file).is_file():
        return False
    body: list[ast.stmt] = tree_of(ROOT / file).body
    for name in names:
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return names[-1].startswith("test_")


class TestThePromises:
    @pytest.mark.parametrize("page", PAGES)
    def test_name_tests_that_exist(self, page: str) -> None:
        missing = [test for test in named_in(page) if not exists(test)]

        assert missing == []

    def test_are_many(self) -> None:
        assert len(set(named_in("docs/security.md"))) > 60

    def test_name_tests_so_that_this_is_noticed(self) -> None:
        text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

        named = {test for test in _MENTIONED.findall(text) if "::" in test}
        assert named == set(named_in("docs/security.md"))

    def test_would_be_broken_by_a_test_that_is_gone(self) -> None:
        assert exists("tests/house/test_promises.py::TestThePromises::test_are_many")
        assert not exists("tests/house/test_promises.py::TestThePromises::test_are_few")
        assert not exists("tests/house/test_promises.py::TestThePromises")
        assert not exists("tests/house/test_gone.py::TestGone::test_is_gone")
