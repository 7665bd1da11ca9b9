"""What a page says after a change: the sentence of a code in its address, from a closed list."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from starlette.requests import Request

FIELD = "done"


@dataclass(frozen=True, slots=True)
class Flash:
    """A sentence, and the kind of notice it is."""

    kind: str
    message: str


def _(text: str) -> str:
    """Mark a text for the translators; it is translated where it is shown."""
    return text


FLASHES: Mapping[str, Flash] = MappingProxyType(
    {
        "rule-saved": Flash("success", _("Your rule is saved. It counts from the very next spend.")),
        "rule-on": Flash("success", _("Auto top-up is on.")),
        "rule-off": Flash("success", _("Auto top-up is off. Your rule is kept as it is.")),
        "rule-deleted": Flash("success", _("Your rule is deleted. Its history stays readable.")),
        "rule-unchanged": Flash("info", _("Nothing was changed: the rule stands as it did.")),
        "rule-confirmed": Flash("success", _("Confirmed with your passkey. The rule stands as you saw it.")),
        "paid": Flash("success", _("Paid.")),
        "funds-added": Flash("success", _("The money is in your wallet.")),
        "signed-out": Flash("success", _("You are signed out.")),
        "signed-out-everywhere": Flash("success", _("You are signed out in every browser.")),
        "passkey-added": Flash("success", _("Your new passkey is ready.")),
        "passkey-renamed": Flash("success", _("The passkey has its new name.")),
        "passkey-removed": Flash("success", _("The passkey is removed. It opens nothing here any more.")),
        "session-ended": Flash("success", _("That browser is signed out.")),
        "push-on": Flash("success", _("Notifications reach this browser now.")),
        "push-off": Flash("success", _("Notifications no longer reach that browser.")),
        "link-made": Flash("success", _("The link is made. It works once.")),
    }
)
"""A code of no page of ours says nothing; so nobody can put words into a page by its address."""


def flash_of(request: Request) -> Flash | None:
    """What the page's address says was done."""
    return FLASHES.get(request.query_params.get(FIELD, ""))
