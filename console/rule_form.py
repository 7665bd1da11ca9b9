"""The form of a rule: what was typed, read as terms or with what is wrong in each field, and never lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.postgres.rules import RuleRecord, TermsDraft
from topup.caps import Caps, Period, read_terms_and_caps
from topup.money import Money
from topup.rule import SOURCES_MAX, AccountKind, Problem, TermsInvalid
from topup.widening import Agreement

LENGTH_MAX = 60
CAP_FIELDS = tuple(f"cap_{period}_{bound}" for period in Period for bound in ("amount", "count"))
"""Such as `cap_day_amount`."""

_COUNT_MAX = 10_000
_LABELS = {
    "threshold": "The threshold",
    "amount": "The top-up amount",
    "account": "The account",
    "source_1": "The first source",
    "source_2": "The second source",
    "source_3": "The third source",
    "cap_day_amount": "The most per day",
    "cap_day_count": "The number per day",
    "cap_month_amount": "The most per month",
    "cap_month_count": "The number per month",
}


@dataclass(frozen=True, slots=True)
class Written:
    """What stands in the form, as it was typed."""

    threshold: str = ""
    amount: str = ""
    account: str = AccountKind.FUNDING.value
    sources: tuple[str, ...] = ("",) * SOURCES_MAX
    """One for each place, empty where none is chosen."""
    caps: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(CAP_FIELDS, ""))
    version: str = ""
    """The version of the rule that was shown; empty where there was none."""

    @property
    def capped(self) -> bool:
        """Whether any cap is written."""
        return any(self.caps.values())


@dataclass(frozen=True, slots=True)
class FieldTrouble:
    """What is wrong with one field of the form."""

    field: str
    message: str


def read_form(form: Mapping[str, Any]) -> Written:
    """What was sent, each field cut to a length that no honest one has."""

    def text(name: str) -> str:
        value = form.get(name, "")
        return value.strip()[:LENGTH_MAX] if isinstance(value, str) else ""

    return Written(
        threshold=text("threshold"),
        amount=text("amount"),
        account=text("account"),
        sources=tuple(text(f"source_{place}") for place in range(1, SOURCES_MAX + 1)),
        caps={name: text(name) for name in CAP_FIELDS},
        version=text("version"),
    )


def written_of(rule: RuleRecord) -> Written:
    """The form as it stands for a rule."""
    sources = (*rule.terms.sources, *("",) * SOURCES_MAX)[:SOURCES_MAX]
    return Written(
        threshold=rule.terms.threshold.text,
        amount=rule.terms.amount.text,
        account=rule.terms.account.value,
        sources=sources,
        caps=_written_caps(rule.caps),
        version=str(rule.version),
    )


def read_agreement(written: Written, currency: str) -> Agreement:
    """What is to be agreed to. Raises TermsInvalid with the problems of all fields, named as in the form."""
    caps, problems = _read_caps(written.caps)
    chosen = [asset for asset in written.sources if asset]
    try:
        terms, read = read_terms_and_caps(
            caps,
            currency=currency,
            threshold=written.threshold,
            amount=written.amount,
            account=written.account,
            sources=chosen,
        )
    except TermsInvalid as invalid:
        problems = [*invalid.problems, *problems]
    else:
        if not problems:
            return Agreement(terms, read)
    raise TermsInvalid(problems)


def draft_of(written: Written) -> TermsDraft:
    """The same for the database, where it is read again."""
    caps, _ = _read_caps(written.caps)
    sources = [asset for asset in written.sources if asset]
    return TermsDraft(written.threshold, written.amount, written.account, sources, caps)


def troubles_of(invalid: TermsInvalid, written: Written) -> tuple[FieldTrouble, ...]:
    """What is wrong, by the form's own fields and in their order, each with a sentence."""
    found = [(_field_of(problem.field, written), problem.message) for problem in invalid.problems]
    order = list(_LABELS)
    found.sort(key=lambda each: order.index(each[0]))
    return tuple(FieldTrouble(name, f"{_LABELS[name]} {message}.") for name, message in found)


def move_source(written: Written, do: str) -> Written:
    """The form after one of its own buttons: `up-2`, `down-1` or `remove-3`; anything else changes nothing."""
    deed, _, number = do.partition("-")
    place = int(number) - 1 if number in {"1", "2", "3"} else None
    if place is None:
        return written
    sources = list(written.sources)
    if deed == "remove":
        sources = [*sources[:place], *sources[place + 1 :], ""]
    other = place + {"up": -1, "down": 1}.get(deed, 0)
    if 0 <= other < len(sources) and deed != "remove":
        sources[place], sources[other] = sources[other], sources[place]
    return replace(written, sources=tuple(sources))


def _field_of(path: str, written: Written) -> str:
    """The form's field that a problem's path names: `sources/1` is the second one that was chosen."""
    parts = path.split("/")
    if parts[0] == "caps":
        return "_".join(["cap", *parts[1:], *(["amount"] if len(parts) == 2 else [])])  # noqa: PLR2004 no bound named
    if parts[0] != "sources":
        return path
    places = [place for place, asset in enumerate(written.sources, start=1) if asset]
    return f"source_{places[int(parts[1])] if len(parts) > 1 else 1}"


def _read_caps(typed: Mapping[str, str]) -> tuple[dict[str, dict[str, Any] | None] | None, list[Problem]]:
    problems: list[Problem] = []
    caps: dict[str, dict[str, Any] | None] = {}
    for period in Period:
        amount = typed[f"cap_{period}_amount"] or None
        count = _read_count(f"caps/{period}/count", typed[f"cap_{period}_count"], problems)
        caps[period.value] = {"amount": amount, "count": count} if amount or count is not None else None
    return (caps if any(caps.values()) else None), problems


def _read_count(path: str, text: str, problems: list[Problem]) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _COUNT_MAX:
        problems.append(Problem(path, f"must be a whole number from 1 to {_COUNT_MAX}"))
        return None
    return int(text)


def _written_caps(caps: Caps | None) -> dict[str, str]:
    written = dict.fromkeys(CAP_FIELDS, "")
    for period in Period:
        if caps and (cap := caps.of(period)):
            written[f"cap_{period}_amount"] = cap.amount.text if cap.amount else ""
            written[f"cap_{period}_count"] = str(cap.count) if cap.count else ""
    return written


def suggested(currency: str, held: Sequence[Money]) -> Written:
    """The form for a new rule: its first source is what is likely meant, if there is anything."""
    assets = [money.asset for money in held if money]
    first = currency if currency in assets else next(iter(assets), currency)
    return Written(sources=(first, "", ""))
