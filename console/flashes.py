"""What a page says after a change: the sentence of a code in its address, from a closed list."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from starlette.requests import Request

from console.texts import mark

FIELD = "done"


@dataclass(frozen=True, slots=True)
class Flash:
    """A sentence, and the kind of notice it is."""

    kind: str
    message: str


FLASHES: Mapping[str, Flash] = MappingProxyType(
    {
        "rule-saved": Flash("success", mark("Your rule is saved. It counts from the very next spend.")),
        "rule-on": Flash("success", mark("Auto top-up is on.")),
        "rule-off": Flash("success", mark("Auto top-up is off. Your rule is kept as it is.")),
        "rule-deleted": Flash("success", mark("Your rule is deleted. Its history stays readable.")),
        "rule-unchanged": Flash("info", mark("Nothing was changed: the rule stands as it did.")),
        "rule-confirmed": Flash(
            "success", mark("Confirmed with your passkey. The rule stands as you saw it.")
        ),
        "paid": Flash("success", mark("Paid.")),
        "funds-added": Flash("success", mark("The money is in your wallet.")),
        "signed-out": Flash("success", mark("You are signed out.")),
        "signed-out-everywhere": Flash("success", mark("You are signed out in every browser.")),
        "passkey-added": Flash("success", mark("Your new passkey is ready.")),
        "passkey-renamed": Flash("success", mark("The passkey has its new name.")),
        "passkey-removed": Flash("success", mark("The passkey is removed. It opens nothing here any more.")),
        "session-ended": Flash("success", mark("That browser is signed out.")),
        "push-on": Flash("success", mark("Notifications reach this browser now.")),
        "push-off": Flash("success", mark("Notifications no longer reach that browser.")),
        "low-balance-on": Flash("success", mark("You are told of a low balance from now on.")),
        "low-balance-off": Flash("success", mark("You are told of a low balance no more.")),
        "link-made": Flash("success", mark("The link is made. It works once.")),
    }
)
"""A code of no page of ours says nothing; so nobody can put words into a page by its address."""


def flash_of(request: Request) -> Flash | None:
    """What the page's address says was done."""
    return FLASHES.get(request.query_params.get(FIELD, ""))
