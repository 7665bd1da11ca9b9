"""Every rule of docs/rules.md has tests that carry its number, and no test carries a number that is no rule."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.building import ROOT, shown, tree_of

RULES = [f"R{number}" for number in range(1, 27)]

_HEADING = re.compile(r"^### (R\d+) .*$", re.MULTILINE)


def sections() -> dict[str, str]:
    """Each rule's section of docs/rules.md, by number."""
    parts = _HEADING.split((ROOT / "docs" / "rules.md").read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def numbers_of(decorators: list[ast.expr]) -> Iterator[str]:
    """The rules that stand in marks such as `pytest.mark.rule("R15")`."""
    for decorator in decorators:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.rule":
            yield from (str(ast.literal_eval(argument)) for argument in decorator.args)


def has_tests(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the mark stands on a test or on a class that has some."""
    if isinstance(node, ast.ClassDef):
        inner = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
        return any(item.name.startswith("test_") for item in inner)
    return node.name.startswith("test_")


def marks() -> dict[str, set[str]]:
    """The test files that hold each rule."""
    held: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for number in marks_in(path):
            held[number].add(shown(path))
    return held


def marks_in(path: Path) -> Iterator[str]:
    """The rules marked in one file, on classes, functions or the whole module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and has_tests(node):
            yield from numbers_of(node.decorator_list)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield from numbers_of(node.value.elts if isinstance(node.value, ast.List) else [node.value])


class TestTheRules:
    def test_are_all_told_in_order(self) -> None:
        assert list(sections()) == RULES

    @pytest.mark.parametrize("number", RULES)
    def test_are_held_by_tests(self, number: str) -> None:
        assert marks()[number], f"no test carries @pytest.mark.rule({number!r})"

    def test_are_the_only_ones_marked(self) -> None:
        assert set(marks()) <= set(RULES)

    def test_are_all_there(self) -> None:
        waiting = {
            number for number, section in sections().items() if re.search(r"\*(Comes with|Not yet)", section)
        }

        assert waiting == set(), "a rule that is not there yet is no promise"
