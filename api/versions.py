"""Versions of a rule over HTTP: the ETag it is read with, and the If-Match that a change needs."""

import re
from typing import Annotated

from fastapi import Depends, Header

from api.wire import REQUIRED

_FORM = r'^(W/)?("[0-9]{1,18}"|[0-9]{1,18})$'
_VERSION = re.compile(_FORM, re.ASCII)


class VersionMissing(Exception):
    """The request changes a rule and does not say which version of it."""


class VersionForeign(Exception):
    """If-Match holds something this API never gave out as an ETag."""


def etag(version: int) -> str:
    """The ETag of this version."""
    return f'"{version}"'


def _wanted_version(
    if_match: Annotated[
        str | None,
        Header(
            description="The rule's ETag, as it was read.",
            json_schema_extra={"pattern": _FORM, REQUIRED: True},
        ),
    ] = None,
) -> int:
    if if_match is None:
        message = "Send the rule's ETag, as you have read it, in the header If-Match."
        raise VersionMissing(message)
    if if_match.strip() == "*":
        message = "If-Match: * would change a rule unseen: send the rule's ETag, as you have read it."
        raise VersionMissing(message)
    match = _VERSION.fullmatch(if_match.strip())
    if match is None:
        message = 'If-Match must be exactly one ETag of this rule, such as "3": read the rule again.'
        raise VersionForeign(message)
    return int(match[2].strip('"'))


WantedVersion = Annotated[int, Depends(_wanted_version)]
