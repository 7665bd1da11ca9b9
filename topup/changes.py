"""Changes of a rule as people read them: what was, and what is instead."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from topup.caps import Cap, Caps, Period, read_terms_and_caps
from topup.widening import Agreement
from topup.words import listed


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing of a rule that is another than before; `before` is None for a rule that has just been made."""

    what: str
    before: str | None
    after: str


def read_agreement(kept: Mapping[str, Any]) -> Agreement:
    """What a revision of a rule keeps: its terms and caps, as texts."""
    terms, caps = read_terms_and_caps(
        kept.get("caps"),
        currency=kept["currency"],
        threshold=kept["threshold"],
        amount=kept["amount"],
        account=kept["account"],
        sources=kept["sources"],
    )
    return Agreement(terms, caps)


def differences(before: Agreement | None, after: Agreement) -> tuple[Difference, ...]:
    """What has changed from one to the other; all there is, for a rule that has just been made."""
    old = dict(_facts(before)) if before else {}
    return tuple(
        Difference(what, old.get(what), words)
        for what, words in _facts(after)
        if old.get(what) != words and (before or words != _NO_CAP)
    )


def _facts(agreement: Agreement) -> Iterator[tuple[str, str]]:
    terms = agreement.terms
    yield "Threshold", str(terms.threshold)
    yield "Top-up amount", str(terms.amount)
    yield "Account", terms.account.value
    yield "Funding sources", listed(terms.sources, last="then")
    for period in Period:
        yield f"Cap for a {period}", _cap_words(agreement.caps, period)


def _cap_words(caps: Caps | None, period: Period) -> str:
    cap = (caps.of(period) if caps else None) or Cap(None, None)
    bounds = [str(cap.amount)] if cap.amount else []
    if cap.count is not None:
        bounds.append(f"{cap.count} top-up{'s' if cap.count > 1 else ''}")
    return listed(bounds) if bounds else _NO_CAP


_NO_CAP = "none"
