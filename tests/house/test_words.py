"""One word for one idea: captions, names that say something, exceptions that say what is so, functions that fit."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.house.building import ROOT, rooms, shown, sources, tree_of

EMPTY_WORDS = {
    "transaction", "job", "task", "handler", "manager", "service", "helper", "util", "utils", "data", "info",
    "process",
}  # fmt: skip
ALLOWED = {
    "task_queue": "Temporal's word",
    "TASK_QUEUE": "Temporal's word",
    "authenticator_data": "WebAuthn's word",
    "client_data_json": "WebAuthn's word",
    "data": "the API's lists are told so in its contract",
    "get_route_handler": "FastAPI calls it so",
    "handle_DATA": "aiosmtpd calls it so",
    "process_bind_param": "SQLAlchemy calls it so",
    "process_result_value": "SQLAlchemy calls it so",
}
LINES_MAX = 45

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[Path, Function]]:
    """Every function of the house."""
    for path in sources():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, Function):
                yield path, node


def names_in(path: Path) -> Iterator[str]:
    """Every name the file gives: to itself, to classes, functions, arguments and values."""
    yield path.stem
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case _:
                pass


def words_of(name: str) -> set[str]:
    """The words a name is made of, however it is written."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def length_of(node: Function) -> int:
    """Lines from its first to its last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_exception(node: ast.ClassDef) -> bool:
    """Whether the class is raised, judged by what it is made of."""
    return any(re.search(r"(Exception|Error)$", ast.unparse(base)) for base in node.bases)


def acts(node: ast.stmt) -> bool:
    """Whether a statement of a module does something; passing imports through to the story does not."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return False
        case ast.With(items=[ast.withitem(context_expr=ast.Call(func=called))]):
            return ast.unparse(called) != "workflow.unsafe.imports_passed_through"
        case _:
            return isinstance(node, ast.Expr | ast.For | ast.While | ast.With | ast.Delete)


class TestTheWords:
    def test_open_every_file_with_one_caption(self) -> None:
        for path in (*sources(), *(ROOT / "tests").rglob("*.py")):
            caption = (ast.get_docstring(tree_of(path)) or "").split("\n")[0]
            assert caption, f"{shown(path)} has no caption"
            assert caption.endswith((".", "`")), f"{shown(path)}: {caption}"

    def test_leave_out_those_that_say_nothing(self) -> None:
        empty = {
            f"{shown(path)}: {name}"
            for path in sources()
            for name in names_in(path)
            if name not in ALLOWED and words_of(name) & EMPTY_WORDS
        }

        assert empty == set()

    def test_say_what_is_so_in_an_exception_without_a_suffix(self) -> None:
        for path in sources():
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.ClassDef) and is_exception(node):
                    assert not node.name.endswith(("Error", "Exception")), f"{shown(path)}: {node.name}"


class TestTheFunctions:
    def test_fit_the_eye(self) -> None:
        lengths = sorted(length_of(node) for _, node in functions())

        assert median(lengths) <= 10
        assert lengths[int(len(lengths) * 0.95)] <= 30

    def test_never_grow_past_a_page(self) -> None:
        long = [f"{shown(path)}: {node.name}" for path, node in functions() if length_of(node) > LINES_MAX]

        assert long == []


class TestTheRooms:
    @pytest.mark.parametrize("room", sorted(rooms()))
    def test_do_nothing_when_they_are_entered(self, room: str) -> None:
        for path in sources(room):
            acting = [node.lineno for node in tree_of(path).body if acts(node)]

            assert acting == [] or path.name == "env.py", shown(path)  # Alembic runs that one itself.

    def test_have_no_outside_in_the_rules(self) -> None:
        for path in sources("topup"):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.Import):
                    roots = {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    roots = {(node.module or "").partition(".")[0]}
                else:
                    continue
                assert roots <= set(sys.stdlib_module_names) | {"topup"}, shown(path)
