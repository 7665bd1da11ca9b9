"""Requests made up from the description of the API, sent to a real server, and all that comes back judged."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import SystemRandom
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import Status, StopReason, events, from_schema
from schemathesis.engine.recorder import CheckNode
from schemathesis.openapi.checks import RejectedPositiveData

from api.once import KEY_FORM

Json = Any
Ids = Mapping[str, Sequence[str]]
"""Real values by the names of the parameters and fields that take them."""

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))
"""How many requests are made up for one operation, besides those the description itself calls for."""

EXHAUSTIVE = "FUZZ_EXAMPLES" in os.environ
"""Whether somebody asked for more than the tests do by themselves: then the dice are thrown anew each time."""

SEED = int(os.environ.get("FUZZ_SEED", SystemRandom().getrandbits(32) if EXHAUSTIVE else 1))

CHECKS = frozenset(
    {
        "allow_header_conformance", "content_type_conformance", "ensure_resource_availability", "ignored_auth",
        "missing_required_header", "negative_data_rejection", "not_a_server_error", "positive_data_acceptance",
        "response_headers_conformance", "response_schema_conformance", "status_code_conformance",
        "unsupported_method", "use_after_free",
    }
)  # fmt: skip
"""What every answer is judged by. Left out are two: `object_level_authorization`, which needs several logins that the
description tells of (what a key may see is judged here instead), and `max_response_time`, which is a measurement."""

MEANT: Mapping[str, str] = MappingProxyType(
    {
        r"has \d+ decimals, \w+ has at most \d+": "which asset it is stands elsewhere",
        r"is larger than \d+ \w+": "one amount of 13 digits is the largest",
        r"must be more than zero": "a rule has no use for nothing, a balance has",
        r"is less than the amount of one top-up, .*": "two fields are compared",
        r"must cap a day, a month or both; .*": "any of two fields will do",
        r"must set amount, count or both": "any of two fields will do",
        r"must be another asset: each is worth itself": "two fields are compared",
        r"must be later than `from`": "two fields are compared",
        r"is not one of the sources, which are .*": "two fields are compared",
        r"lies (in the future|before the year 2000).*": "the clock decides",
        r"has passed: .*": "the clock decides",
        r'must be a moment such as "2026-11-21T09:30:00Z", .*': "the calendar decides, and seconds have 9 decimals",
        r"must be the `next_cursor` of a page of this list, unchanged": "it is opaque, and not for the caller to make",
        r"is required for a key that is not bound to one owner": "the key decides",
        r"must be a point of the curve P-256": "a pattern cannot reckon",
        r"must be at a push service that is allowed here: .*": "a setting decides",
        r"must be a push service's address, without user, port or fragment": "a setting decides, about its host",
        r"must be a web address( that begins with https://)?": "the parts of an address are read one by one",
        r"is not a URL that can be read": "the parts of a URL are read one by one",
        r"must name a host, (in ASCII|or write its address in the usual form)": "a name's labels are bounded",
        r"must lead to a public address": "which networks are public is written nowhere in short",
        r"must use port 443, or one from 1024 on": "a pattern cannot count",
    }
)
"""What a request may be refused for that has the form the description asks for, and why the form cannot say it."""

ID = re.compile(r"\b(?!key_)[a-z]+_[0-9a-f]{32}\b")
"""What an id of this API looks like."""

TELLING = re.compile(r"has at most|is larger than|changed meanwhile|less than the amount")
"""What is said of somebody's things once they have been looked at."""


@dataclass(slots=True)
class Tried:
    """What was sent with one key, and what was wrong with what came back."""

    key: str
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By operation, and whether it was positive (valid) or negative."""
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    """Each kind of fault with the first case of it."""

    @property
    def operations(self) -> set[str]:
        """Every operation that was sent something."""
        return {label for label, _ in self.sent}

    @property
    def line(self) -> str:
        """The whole in one line."""
        valid = sum(count for (_, mode), count in self.sent.items() if mode == "positive")
        return (
            f"fuzz, {self.key}: {self.sent.total()} requests ({valid} valid, {self.sent.total() - valid} not) "
            f"to {len(self.operations)} operations, {self.checked.total()} checks, {self.excused.total()} excused, "
            f"{len(self.faults)} faults; FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}"
        )

    @property
    def told(self) -> str:
        """Every fault, and how to have it again."""
        again = f"again: FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES} make fuzz"
        return "\n\n".join((*(f"{kind}\n{case}" for kind, case in self.faults.items()), self.line, again))


@dataclass(frozen=True, slots=True)
class Fuzzer:
    """One key to the API, the real things to ask for, and what must not be seen with this key."""

    url: str
    document: Json
    key: str
    ids: Ids
    narrower: Mapping[str, Ids]
    """Real values for one operation alone, by its operation id."""
    foreign: frozenset[str] = frozenset()
    """Ids of which nothing may be told."""

    def run(self, name: str, *, covering: bool) -> Tried:
        """Send everything there is to send, with a key that is called so.

        `covering`: also each edge of each schema, which takes the longest.
        """
        tried = Tried(name)
        config = SchemathesisConfig.from_dict(self._config(covering=covering))
        schema = schemathesis.openapi.from_dict(self.document, config=config)
        schema.hooks.register_hook_with_name(_keyed, "map_case")
        schema.hooks.register_hook_with_name(_keyed_examples, "before_add_examples")
        schema.hooks.register_hook_with_name(self._judge_for(tried), "after_call")
        schema.hooks.register_hook_with_name(_excuse_for(tried), "filter_failure")
        for event in from_schema(schema).execute():
            _note(event, tried)
        return tried

    def _config(self, *, covering: bool) -> dict[str, Json]:
        named = {"": self.ids, **self.narrower}
        return {
            "seed": SEED,
            "base-url": self.url,
            "headers": {"Authorization": f"Bearer {self.key}"},
            "continue-on-failure": True,
            "request-timeout": 60,
            "cache": {"enabled": False},
            "output": {"sanitization": {"enabled": False}},
            "generation": {"max-examples": EXAMPLES, "no-shrink": not EXHAUSTIVE, "database": "none"},
            "phases": {"coverage": {"enabled": covering}},
            "checks": _checks(),
            "dictionaries": {
                f"{name}{place}": {"values": list(values)}
                for name, ids in named.items()
                for place, values in ids.items()
            },
            "parameters": _bound(self.ids, ""),
            "operations": [
                *(
                    {"include-operation-id": name, "parameters": _bound(ids, name)}
                    for name, ids in self.narrower.items()
                ),
                # A stream is text as far as OpenAPI 3.1 can tell; schemathesis reads events as 3.2 tells of them.
                {
                    "include-operation-id": "stream_events",
                    "checks": {"response_schema_conformance": {"enabled": False}},
                },
            ],
        }

    def _judge_for(self, tried: Tried) -> Any:
        def judge(_context: Any, case: Any, response: Any) -> None:
            request = response.request
            sent = f"{request.url} {request.headers} {request.body!r}"
            for fault in (*_refusal_faults(response), *self._foreign_faults(sent, response)):
                told = f"{request.method} {sent}\n{response.status_code} {response.text[:2000]}"
                tried.faults.setdefault(f"{case.operation.label}: {fault}", told)

        return judge

    def _foreign_faults(self, sent: str, response: Any) -> Iterator[str]:
        """What a key was told of things that do not exist for it."""
        text = f"{response.headers} {response.text}"
        asked = {known for known in self.foreign if known in sent}
        if any(known in text for known in self.foreign - asked):
            yield "tells an id of somebody else's"
        if not asked:
            return
        if response.status_code in range(200, 300) and not _is_empty_page(response):
            yield "does something with somebody else's things"
        own = {*ID.findall(response.text)} - self.foreign
        if not own and (response.status_code in (403, 409, 410) or TELLING.search(response.text)):
            yield "tells that somebody else has this"


def _checks() -> dict[str, Json]:
    """Everything schemathesis knows to look for, with what this contract answers besides the usual."""
    statuses = ["2xx", "401", "403", "404", "409", "410", "412"]
    refusals = ["400", "401", "403", "404", "405", "409", "412", "415", "422", "428"]
    return {
        **{name: {"enabled": True} for name in CHECKS},
        "object_level_authorization": {"enabled": False},
        # 410: a place in the feed can be too old. 412: a rule's version can be another. 422 is excused one by one.
        "positive_data_acceptance": {"enabled": True, "expected-statuses": statuses},
        # 412: what is no version at all is no version of the rule. No 429, no 5xx: this server is not at its limits.
        "negative_data_rejection": {"enabled": True, "expected-statuses": refusals},
        # 428: If-Match is missing. A key that is missing is a 401, one against repetition a 400.
        "missing_required_header": {"enabled": True, "expected-statuses": ["400", "401", "403", "428"]},
    }


def _bound(ids: Ids, name: str) -> dict[str, Json]:
    return {place: {"dictionary": f"{name}{place}", "probability": 0.7} for place in ids}


def _keyed(_context: Any, case: Any) -> Any:
    """Give each request a key of its own against repetition, and the same one to the same request."""
    name = "Idempotency-Key"
    sent = (case.headers or {}).get(name)
    if isinstance(sent, str) and re.fullmatch(KEY_FORM, sent):
        wanted = f"{case.method} {case.path} {case.path_parameters} {case.query} {case.body}"
        case.headers[name] = str(uuid5(NAMESPACE_URL, wanted))
    return case


def _keyed_examples(context: Any, examples: list[Any]) -> None:
    for case in examples:
        _keyed(context, case)


def _excuse_for(tried: Tried) -> Any:
    def keep(_context: Any, failure: Failure, case: Any, response: Any) -> bool:
        """Whether the failure is one."""
        reasons = [*_reasons(failure, case, response)]
        tried.excused.update(reasons)
        return not reasons or "" in reasons

    return keep


def _reasons(failure: Failure, case: Any, response: Any) -> Iterator[str]:
    """Why each field of a request in good form may be refused all the same; empty for one that may not."""
    if not isinstance(failure, RejectedPositiveData):
        return
    if any(part.mode.is_negative for part in case.meta.components.values()):
        yield "schemathesis holds the whole for valid and a part of it not"
        return
    if response.status_code != 422:
        return
    problem = json.loads(response.text)
    if problem["code"] == "idempotency_key_reused":
        yield "no form can say which keys were used before; a link may change a body after its key was made"
    for error in problem.get("errors", ()):
        yield next((told for told in MEANT if re.fullmatch(told, error["message"])), "")


def _refusal_faults(response: Any) -> Iterator[str]:
    if response.status_code == 422:
        problem = json.loads(response.text)
        pointers = [error["pointer"] for error in problem.get("errors", ())]
        if problem["code"] == "invalid" and not pointers:
            yield "does not say which field is wrong"


def _is_empty_page(response: Any) -> bool:
    return bool(re.match(r'{"data":\[\],', response.text)) and response.request.method == "GET"


def _note(event: events.EngineEvent, tried: Tried) -> None:
    match event:
        case events.ScenarioFinished():
            _note_scenario(event, tried)
        case events.NonFatalError():
            tried.faults.setdefault(f"{event.label}: {event.value!r}", event.info.format())
        case events.FatalError():
            tried.faults.setdefault("broken off", repr(event.exception))
        case events.EngineFinished() if event.stop_reason is not StopReason.COMPLETED:
            tried.faults.setdefault("not finished", event.stop_reason)
        case _:
            pass


def _note_scenario(event: events.ScenarioFinished, tried: Tried) -> None:
    recorder = event.recorder
    for case_id, node in recorder.cases.items():
        label = node.value.operation.label
        mode = node.value.meta.generation.mode.value if node.value.meta else "negative"
        tried.sent[label, mode] += 1
        tried.phases[event.phase.value] += 1
        response = recorder.find_response(case_id=case_id)
        if response is not None:
            tried.answered[label, response.status_code] += 1
        for check in recorder.checks.get(case_id, ()):
            tried.checked[check.name] += 1
            if check.status is not Status.SUCCESS:
                answer = f"{response.status_code} {response.text[:2000]}" if response else "no answer"
                _note_failure(check, f"{event.phase}, {mode}: {label}", answer, tried)


def _note_failure(check: CheckNode, where: str, answer: str, tried: Tried) -> None:
    found = check.failure_info
    if found is None:
        tried.faults.setdefault(f"{check.name} broke", f"{where}\n{answer}")
        return
    kind = f"{found.failure.operation}: {check.name}: {found.failure.title}"
    tried.faults.setdefault(kind, f"{where}\n{found.failure.message}\n{found.code_sample}\n{answer}")
