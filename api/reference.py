"""The reference: the description as a page for people, with nothing on it that comes from elsewhere."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import FileResponse, HTMLResponse, Response

from api.problems import MEDIA_TYPE
from api.schemas import PREFIX, Schema, resolve
from api.wire import DECIMAL, ID_PATTERN

PATH = "/v1/reference"
STYLE_PATH = f"{PATH}/reference.css"

router = APIRouter(include_in_schema=False)

_PAGES = Path(__file__).parent / "reference_pages"
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_FRESH = {"Cache-Control": "no-cache"}
_JSON = "application/json"
_ERROR_FROM = 400
_LINE = 44
_FORMS = {
    ID_PATTERN: "id",
    DECIMAL: "decimal string",
    "date-time": "time",
    "email": "e-mail address",
    "uri": "URL",
}
_BREAK = " \\\n  "
_TOKEN = re.compile(
    r'(?P<name>"(?:[^"\\]|\\.)*")(?=\s*:)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<plain>\b(?:true|false|null)\b|-?\d[\d.eE+-]*)'
)
_MARKS = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<strong>\1</strong>"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter, or one field of a body: its kind as marked-up text."""

    name: str
    place: str
    kind: Markup
    required: bool
    words: str


@dataclass(frozen=True, slots=True)
class Case:
    """One problem an operation may answer with."""

    status: int
    code: str
    title: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One example as text, and what it is of."""

    caption: str
    text: Markup


@dataclass(frozen=True, slots=True)
class Told:
    """One operation as the page tells of it."""

    name: str
    title: str
    method: str
    path: str
    words: str
    scopes: tuple[str, ...]
    parameters: tuple[Row, ...]
    bodies: tuple[tuple[str, tuple[Row, ...]], ...]
    answers: tuple[tuple[str, Markup], ...]
    cases: tuple[Case, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """All operations with one tag."""

    name: str
    words: str
    operations: tuple[Told, ...]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return self.name.replace(" ", "-")


@router.get(PATH)
async def get_reference(request: Request) -> Response:
    """The page."""
    page = _page(request.app)
    return HTMLResponse(page, headers={**_FRESH, "Content-Security-Policy": _POLICY})


@router.get(STYLE_PATH)
async def get_style() -> Response:
    """How the page looks."""
    return FileResponse(_PAGES / "static" / "reference.css", media_type="text/css", headers=_FRESH)


@cache
def _page(app: Any) -> str:
    """The page of this application; its description does not change while it runs."""
    return render(app.openapi())


def render(document: Schema) -> str:
    """The page as HTML."""
    return (
        _surroundings()
        .get_template("reference.html")
        .render(
            title=document["info"]["title"],
            version=document["info"]["version"],
            words=document["info"]["description"],
            key_words=document["components"]["securitySchemes"]["api_key"]["description"],
            chapters=tuple(_chapters(document, document["paths"])),
            webhooks=tuple(_operations(document, document.get("webhooks", {}))),
            schemas=tuple(_schemas(document)),
            style=STYLE_PATH,
            source="/v1/openapi.json",
        )
    )


def _surroundings() -> Environment:
    surroundings = Environment(
        loader=FileSystemLoader(_PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    surroundings.filters["prose"] = prose
    return surroundings


def prose(text: str) -> Markup:
    """Words with `code`, **weight**, paragraphs and lists, as HTML; anything else is shown as it is."""
    return Markup("\n").join(_block(block) for block in re.split(r"\n\s*\n", text.strip()) if block)


def _block(block: str) -> Markup:
    lines = block.split("\n")
    if all(line.startswith("- ") for line in lines):
        items = Markup("").join(Markup("<li>{}</li>").format(_marked(line[2:])) for line in lines)
        return Markup("<ul>{}</ul>").format(items)
    return Markup("<p>{}</p>").format(_marked(block))


def _marked(text: str) -> Markup:
    marked = str(escape(text))
    for pattern, replacement in _MARKS:
        marked = pattern.sub(replacement, marked)
    return Markup(marked)  # noqa: S704 it was escaped just before


def _chapters(document: Schema, paths: Mapping[str, Any]) -> Iterator[Chapter]:
    operations = [*_operations(document, paths)]
    tags = {
        operation["operationId"]: operation["tags"][0]
        for found in paths.values()
        for operation in found.values()
    }
    for tag in document["tags"]:
        told = tuple(operation for operation in operations if tags[operation.name] == tag["name"])
        if told:
            yield Chapter(tag["name"], tag["description"], told)


def _operations(document: Schema, paths: Mapping[str, Any]) -> Iterator[Told]:
    for path, operations in paths.items():
        for method, operation in operations.items():
            yield _tell(document, path, method.upper(), operation)


def _tell(document: Schema, path: str, method: str, operation: Schema) -> Told:
    answers = {status: resolve(document, found) for status, found in operation["responses"].items()}
    return Told(
        name=operation["operationId"],
        title=operation["summary"],
        method=method,
        path=path,
        words=operation.get("description", ""),
        scopes=tuple(chain.from_iterable(chain(*(w.values() for w in operation.get("security", ()))))),
        parameters=tuple(_parameter(found) for found in operation.get("parameters", ())),
        bodies=tuple(_bodies(document, operation)),
        answers=tuple(_answers(answers)),
        cases=tuple(_cases(answers)),
        samples=tuple(_samples(path, method, operation, answers)),
    )


def _parameter(parameter: Schema) -> Row:
    return Row(
        name=parameter["name"],
        place=parameter["in"],
        kind=_kind(parameter["schema"]),
        required=parameter["required"],
        words=parameter.get("description", ""),
    )


def _bodies(document: Schema, operation: Schema) -> Iterator[tuple[str, tuple[Row, ...]]]:
    """Each shape the body may have: the name of its schema, and its fields."""
    schema = operation.get("requestBody", {}).get("content", {}).get(_JSON, {}).get("schema")
    for shape in (schema.get("oneOf") or schema.get("anyOf") or [schema]) if schema else ():
        if "$ref" in shape:
            yield shape["$ref"].removeprefix(PREFIX), _fields(resolve(document, shape))


def _fields(schema: Schema) -> tuple[Row, ...]:
    required = schema.get("required", ())
    return tuple(
        Row(name, "", _kind(kind), name in required, kind.get("description", ""))
        for name, kind in schema.get("properties", {}).items()
    )


def _answers(answers: Mapping[str, Schema]) -> Iterator[tuple[str, Markup]]:
    for status, answer in answers.items():
        if not status.isdecimal():
            yield status.capitalize(), _marked(answer["description"])
        elif int(status) < _ERROR_FROM:
            kind = _kind_of_content(answer) or Markup("Nothing is sent back.")
            yield f"{status} {HTTPStatus(int(status)).phrase}", kind


def _cases(answers: Mapping[str, Schema]) -> Iterator[Case]:
    for status, answer in answers.items():
        told = answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
        for example in told.values():
            yield Case(int(status), example["value"]["code"], example["summary"])


def _schemas(document: Schema) -> Iterator[tuple[str, str, tuple[Row, ...], tuple[str, ...]]]:
    """Each schema: its name, its words, its fields, or the values it may have."""
    for name, schema in document["components"]["schemas"].items():
        yield name, schema.get("description", ""), _fields(schema), tuple(schema.get("enum", ()))


def _kind_of_content(holder: Schema) -> Markup | None:
    for media_type, media in holder.get("content", {}).items():
        schema = media.get("schema")
        return (
            _kind(schema) if schema and media_type == _JSON else Markup("<code>{}</code>").format(media_type)
        )
    return None


def _kind(schema: Schema) -> Markup:
    """What a value is, in a few words, with links to the schemas it is made of."""
    if reference := schema.get("$ref"):
        return Markup('<a href="#schema-{0}">{0}</a>').format(reference.removeprefix(PREFIX))
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return Markup(" or ").join(_kind(branch) for branch in branches)
    if schema.get("type") == "array":
        return Markup("list of {}").format(_kind(schema.get("items", {})))
    if "const" in schema:
        return Markup("<code>{}</code>").format(json.dumps(schema["const"]))
    if "enum" in schema:
        return Markup(", ").join(Markup("<code>{}</code>").format(value) for value in schema["enum"])
    return Markup("{}").format(_kind_in_words(schema))


def _kind_in_words(schema: Schema) -> str:
    form = schema.get("pattern", "") or schema.get("format", "")
    if form in _FORMS:
        return _FORMS[form]
    match schema.get("type"):
        case "integer":
            return _between("whole number", schema)
        case "boolean":
            return "true or false"
        case kind:
            return str(kind or "any")


def _between(words: str, schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f"{words}, {schema['minimum']} to {schema['maximum']}"
    return words


def _samples(path: str, method: str, operation: Schema, answers: Mapping[str, Schema]) -> Iterator[Sample]:
    examples = [*_examples(operation.get("requestBody", {}))] or [("", None)]
    for caption, example in examples:
        if path.startswith("/"):
            yield Sample(caption or "Request", _command(path, method, operation, example))
        else:
            yield Sample("What is sent", _colored(example))
    for label, answer in answers.items():
        if label.isdecimal() and int(label) < _ERROR_FROM:
            for _, example in _examples(answer):
                yield Sample(f"{label} {HTTPStatus(int(label)).phrase}", _colored(example))


def _examples(holder: Schema) -> Iterator[tuple[str, Any]]:
    for media in holder.get("content", {}).values():
        if "example" in media:
            yield "", media["example"]
        for name, example in media.get("examples", {}).items():
            yield name, example["value"]


def _command(path: str, method: str, operation: Schema, body: Any) -> Markup:
    """The request as a command line, ready to be pasted once its ids are set."""
    taken: Sequence[Schema] = operation.get("parameters", ())
    for name in (found["name"] for found in taken if found["in"] == "path"):
        path = path.replace(f"{{{name}}}", f"${name.upper()}")
    parts = [f"curl {'' if method == 'GET' else f'-X {method} '}$TIDEMARK{path}"]
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $KEY"')
    parts += [_header_sent(found) for found in taken if found["in"] == "header" and _is_usual(found)]
    if body is None:
        return escape(_BREAK.join(parts))
    parts.append("-H 'Content-Type: application/json'")
    return Markup("{}{}'").format(_BREAK.join([*parts, "-d '"]), _colored(body))


def _header_sent(parameter: Schema) -> str:
    if parameter["name"] == "Idempotency-Key":
        return '-H "Idempotency-Key: $(uuidgen)"'
    return f"-H '{parameter['name']}: {parameter['example']}'"


def _is_usual(parameter: Schema) -> bool:
    return bool(parameter["required"]) or parameter["name"] == "Idempotency-Key"


def _colored(value: Any) -> Markup:
    """JSON with its names and values marked, so that the style can color them."""
    if isinstance(value, str):
        return escape(value)
    text = _compact(value)
    pieces, end = [], 0
    for token in _TOKEN.finditer(text):
        kind = str(token.lastgroup)
        pieces += [
            escape(text[end : token.start()]),
            Markup('<span class="{}">{}</span>').format(kind, token[0]),
        ]
        end = token.end()
    return Markup("").join([*pieces, escape(text[end:])])


def _compact(value: Any, indent: str = "") -> str:
    """JSON in which whatever is short enough stands on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= _LINE or not isinstance(value, dict | list):
        return line
    deeper = indent + "  "
    if isinstance(value, list):
        inner = [_compact(item, deeper) for item in value]
    else:
        inner = [f"{json.dumps(name)}: {_compact(item, deeper)}" for name, item in value.items()]
    start, end = "[]" if isinstance(value, list) else "{}"
    between = f",\n{deeper}"
    return f"{start}\n{deeper}{between.join(inner)}\n{indent}{end}"
