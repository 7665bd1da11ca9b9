"""What webhook endpoints are sent, for the description: one operation for each kind of event, served by the caller."""

from collections.abc import Callable, Coroutine, Iterator
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import FastAPI, Header

from adapters.postgres.events import EventKind
from api.events import EVENT_VIEWS
from api.examples import AT, example_of, told_otherwise
from api.schemas import Schema
from api.wire import View

TAG = "webhooks"

_ANSWERS = MappingProxyType(
    {
        "2XX": "Taken. Whatever the answer holds is not read.",
        "410": "No more of them: the endpoint is turned off, until it is enabled again.",
        "default": "Not taken, like no answer in time: tried again, for days, at growing distances. `Retry-After` is "
        "heeded.",
    }
)
_HEADERS = MappingProxyType(
    {
        "Webhook-Id": "msg_019aa4d2ee5c43b7a8f10d962c4e75b3",
        "Webhook-Timestamp": "1768469401",
        "Webhook-Signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    }
)

_Id = Annotated[
    str, Header(description="The same at every attempt of this delivery: what was taken once is known.")
]
_Timestamp = Annotated[str, Header(description="When this attempt was made, in seconds since 1970.")]
_Signature = Annotated[
    str, Header(description="One signature for each secret in force, by HMAC-SHA256, with blanks between.")
]


def add_webhook_calls(app: FastAPI) -> None:
    """Let the application know what it sends; nothing of it is served."""
    for kind, view in EVENT_VIEWS.items():
        app.webhooks.add_api_route(
            kind.value, _receiver(view), methods=["POST"], operation_id=_name_of(kind), tags=[TAG]
        )


def complete_webhook_calls(document: Schema) -> None:
    """Give each an example, and say what its answers mean."""
    for kind, operation in _operations(document):
        operation["summary"] = kind
        operation["responses"] = {status: {"description": words} for status, words in _ANSWERS.items()}
        for parameter in operation["parameters"]:
            parameter["name"] = "-".join(part.capitalize() for part in parameter["name"].split("-"))
            parameter["schema"].pop("title", None)
            parameter["schema"].pop("description", None)
            parameter["example"] = _HEADERS[parameter["name"]]
        media = operation["requestBody"]["content"]["application/json"]
        example = {**example_of(document, media["schema"]), "type": kind, "timestamp": AT}
        media["example"] = told_otherwise(operation["operationId"], example)


def _operations(document: Schema) -> Iterator[tuple[str, Schema]]:
    for kind, methods in document["webhooks"].items():
        yield kind, methods["post"]


def _receiver(view: type[View]) -> Callable[..., Coroutine[Any, Any, None]]:
    async def receive(
        body: Any, webhook_id: _Id, webhook_timestamp: _Timestamp, webhook_signature: _Signature
    ) -> None:
        """Told in the function's place."""

    receive.__annotations__["body"] = view
    receive.__doc__ = view.__doc__
    return receive


def _name_of(kind: EventKind) -> str:
    return "on_" + kind.value.replace(".", "_")
