"""Payload keys of the tests, and payloads as they lie in Temporal."""

import base64
import json
from collections.abc import Iterator

from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHistory

from runtime.payload_keys import PayloadKeys


def written(name: str) -> str:
    """A key as the setting takes it: the same one for each name."""
    return f"{name}:{base64.b64encode(name.encode().ljust(32, b'.')).decode()}"


def keys(*names: str) -> PayloadKeys:
    """These keys, of which the first writes."""
    return PayloadKeys.read(",".join(written(name) for name in names))


OLD = written("2026")
NEW = written("2027")


def payloads_in(history: WorkflowHistory) -> Iterator[Payload]:
    """Every payload of a history as Temporal keeps it, but the values of search attributes."""
    for event in history.to_json_dict()["events"]:
        yield from _payloads_in(event)


def _payloads_in(part: object) -> Iterator[Payload]:
    if isinstance(part, list):
        for item in part:
            yield from _payloads_in(item)
    elif isinstance(part, dict):
        if "metadata" in part and "encoding" in part["metadata"]:
            yield Payload(
                metadata={name: base64.b64decode(value) for name, value in part["metadata"].items()},
                data=base64.b64decode(part.get("data", "")),
            )
        for name, item in part.items():
            if name != "searchAttributes":
                yield from _payloads_in(item)


def text_of(history: WorkflowHistory) -> str:
    """All that somebody can read in a history without a key, every payload's bytes as text."""
    kept = [payload.data.decode(errors="replace") for payload in payloads_in(history)]
    return "\n".join([json.dumps(history.to_json_dict()), *kept])
