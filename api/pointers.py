"""From what the validation found to fields and plain words: which field, and what it must be."""

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from api.problems import FieldProblem
from runtime.logs import redact_keys

SHAPE = "to:"
"""How the names of alternative shapes of one body begin; they are no part of a pointer."""

_Words = Callable[[Mapping[str, Any]], str]


def field_problems(errors: Iterable[Mapping[str, Any]]) -> list[FieldProblem]:
    """One line for each error of the validation, in its order; a key sent in the wrong place is not sent back."""
    return [
        FieldProblem(pointer=redact_keys(_pointer_of(error)), message=redact_keys(_message(error)))
        for error in errors
    ]


def _pointer_of(error: Mapping[str, Any]) -> str:
    """Where it is wrong; what is no JSON at all is wrong as a whole."""
    return "" if error["type"] == "json_invalid" else _pointer(error["loc"])


def _pointer(place: tuple[int | str, ...]) -> str:
    """A JSON pointer into the body; parameters and headers stand under their own names."""
    where, *path = place
    names = [str(name) for name in path if not str(name).startswith(SHAPE)]
    if where != "body":
        names.insert(0, str(where))
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def _message(error: Mapping[str, Any]) -> str:
    words = _WORDS.get(error["type"])
    return words(error) if words else str(error["msg"])


def _not_a_string(error: Mapping[str, Any]) -> str:
    value = error.get("input")
    if isinstance(value, int | float) and not isinstance(value, bool):
        written = json.dumps(value)[:40]
        return f'must be a string such as "{written}", not the number {written}'
    return "must be a string"


def _not_listed(error: Mapping[str, Any]) -> str:
    return f"must be {error['ctx']['expected']}"


def _items(bound: int) -> str:
    return f"{bound} item" if bound == 1 else f"{bound} items"


def _not_read(error: Mapping[str, Any]) -> str:
    return f"is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"


_WORDS: Mapping[str, _Words] = MappingProxyType(
    {
        "missing": lambda _error: "is required",
        "extra_forbidden": lambda _error: "is not known here; check its spelling or leave it out",
        "string_type": _not_a_string,
        "string_unicode": lambda _error: "must be text that can be written in UTF-8",
        "string_too_long": lambda error: f"must be at most {error['ctx']['max_length']} characters long",
        "string_too_short": lambda _error: "must not be empty",
        "string_pattern_mismatch": lambda _error: "is not of the form such a value has",
        "too_short": lambda error: f"must have at least {_items(error['ctx']['min_length'])}",
        "greater_than_equal": lambda error: f"must be at least {error['ctx']['ge']}",
        "less_than_equal": lambda error: f"must be at most {error['ctx']['le']}",
        "too_long": lambda error: f"must have at most {_items(error['ctx']['max_length'])}",
        "list_type": lambda _error: "must be a list",
        "bool_type": lambda _error: "must be true or false",
        "int_type": lambda _error: "must be a whole number",
        "int_parsing": lambda _error: "must be a whole number",
        "literal_error": _not_listed,
        "enum": _not_listed,
        "value_error": lambda error: str(error["ctx"]["error"]),
        "model_attributes_type": lambda _error: "must be a JSON object",
        "model_type": lambda _error: "must be a JSON object",
        "dict_type": lambda _error: "must be a JSON object",
        "json_invalid": _not_read,
    }
)
