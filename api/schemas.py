"""Schemas made fit for generators: no noise, one name for one list of values, names a client likes to import."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from topup.money import ASSET_SCALES

Node = Any
Schema = dict[str, Any]

PREFIX = "#/components/schemas/"
ASSET: Schema = {
    "type": "string",
    "enum": list(ASSET_SCALES),
    "title": "Asset",
    "description": "An asset this API knows; others may be added.",
}

_RULE_NUMBERS = re.compile(r" ?\((?:R\d+(?:, | to | and )?)+\)")
_PAGE = re.compile(r"Page_(?P<item>\w+?)(?:View)?_")
_VIEW = re.compile(r"(?P<item>\w+)View")
_NULL: Schema = {"type": "null"}


def plain(text: str) -> str:
    """The text without the numbers of the product's rules, which mean nothing outside."""
    return _RULE_NUMBERS.sub("", text)


def walk(node: Node) -> Iterator[Schema]:
    """Every object of the document, the innermost first."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in list(inner):
        yield from walk(child)
    if isinstance(node, dict):
        yield node


def rename_views(document: Schema) -> None:
    """Call a schema what it is: Rule, not RuleView; RulePage, not Page_RuleView_."""
    schemas = document["components"]["schemas"]
    names = {name: _public_name(name, schemas) for name in schemas}
    document["components"]["schemas"] = {names[name]: schemas[name] for name in schemas}
    for name, schema in document["components"]["schemas"].items():
        schema["title"] = name
    for node in walk(document):
        if isinstance(reference := node.get("$ref"), str) and reference.startswith(PREFIX):
            node["$ref"] = PREFIX + names[reference.removeprefix(PREFIX)]


def share_enumerations(document: Schema) -> None:
    """Refer to a named list of values wherever the same one is written out."""
    schemas = document["components"]["schemas"]
    schemas["Asset"] = ASSET
    named = {tuple(schema["enum"]): name for name, schema in schemas.items() if "enum" in schema}
    own = {id(schema) for schema in schemas.values()}
    for node in walk(document):
        values = node.get("enum")
        if isinstance(values, list) and id(node) not in own and (name := named.get(tuple(values))):
            node.clear()
            node["$ref"] = PREFIX + name


def drop_noise(document: Schema) -> None:
    """Leave out titles that repeat a field's name, and rule numbers in the words."""
    for node in walk(document):
        for schema in (node.get("properties") or {}).values():
            schema.pop("title", None)
        if isinstance(words := node.get("description"), str):
            node["description"] = plain(words)


def without_null(schema: Schema) -> Schema:
    """The schema of a value that may be left out, but is not null when it is there."""
    others = [branch for branch in schema.get("anyOf", ()) if branch != _NULL]
    if len(others) != 1 or len(others) == len(schema["anyOf"]):
        return schema
    return {**others[0], **{name: value for name, value in schema.items() if name != "anyOf"}}


def resolve(document: Mapping[str, Any], node: Schema) -> Schema:
    """The node itself, or what it refers to."""
    reference = node.get("$ref")
    if reference is None:
        return node
    found: Node = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return resolve(document, found)


def _public_name(name: str, taken: Mapping[str, Any]) -> str:
    """The better name, unless another schema has it already."""
    forms: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
        (_PAGE, lambda item: f"{item}Page"),
        (_VIEW, lambda item: item),
    )
    for form, better in forms:
        if (match := form.fullmatch(name)) and better(match["item"]) not in taken:
            return better(match["item"])
    return name
