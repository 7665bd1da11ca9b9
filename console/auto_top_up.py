"""Auto top-up details: the rule's threshold, amount and ranked sources, what they would do now, on, off and delete."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Form, Request
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import RedirectResponse, Response

from adapters.postgres.caps import read_cap_of
from adapters.postgres.reading import Asked, read_sight
from adapters.postgres.rules import (
    RuleExists,
    RuleLocked,
    RuleRecord,
    RuleUnknown,
    VersionStale,
    create_rule,
    delete_rule,
    disable_rule,
    edit_rule,
    find_rule,
)
from adapters.postgres.wallets import WalletRecord, read_wallet
from console.confirmation import ask_to_confirm, author_of
from console.page import render
from console.routes import pages
from console.rule_form import (
    FieldTrouble,
    Written,
    draft_of,
    move_source,
    read_agreement,
    read_form,
    suggested,
    troubles_of,
    written_of,
)
from console.visitors import OwnerVisitor, owner_of
from console.wallets import WalletId, is_known
from console.wiring import DatabaseDep, WiringDep
from topup.caps import CapReached
from topup.money import ASSET_SCALES, Money
from topup.preview import Caution, at_once_words, if_it_fired, warn
from topup.rule import SOURCES_MAX, AccountKind, Terms, TermsInvalid
from topup.waterfall import Holding
from topup.widening import Agreement, widens

router = pages()


@dataclass(frozen=True, slots=True)
class Held:
    """What one asset of an account holds, and what that is worth in the wallet's currency."""

    asset: str
    available: Money
    worth: Money | None
    """None where nobody quotes it."""


@dataclass(frozen=True, slots=True)
class AccountShown:
    """One kind of account with all its assets, those that hold something first."""

    kind: AccountKind
    assets: tuple[Held, ...]

    @property
    def held(self) -> tuple[Held, ...]:
        """Those that hold something."""
        return tuple(held for held in self.assets if held.available)

    def of(self, asset: str) -> Held:
        """One of them."""
        return next(held for held in self.assets if held.asset == asset)


@dataclass(frozen=True, slots=True)
class Preview:
    """What the terms would do as things stand, in words."""

    fires: str
    at_once: str | None
    """What saving or turning on starts at once; None when nothing."""
    warnings: tuple[Caution, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The page's subject, as it stands."""

    wallet: WalletRecord
    rule: RuleRecord | None
    accounts: tuple[AccountShown, ...]

    @property
    def currency(self) -> str:
        """The wallet's asset."""
        return self.wallet.balance.asset


class _RuleNotAsShown(Exception):
    """The rule was made, changed or deleted while its form was open."""


@router.get("/wallets/{wallet_id}/auto-top-up")
async def show(
    request: Request, wallet_id: WalletId, visitor: OwnerVisitor, database: DatabaseDep
) -> Response:
    """The rule as it stands, or an empty form for a new one."""
    async with database.read() as session:
        sheet = await _read(session, wallet_id, owner_of(visitor))
        written = written_of(sheet.rule) if sheet.rule else _first(sheet)
        return await _form(request, session, sheet, written)


@router.post("/wallets/{wallet_id}/auto-top-up")
async def send(request: Request, wallet_id: WalletId, visitor: OwnerVisitor, wiring: WiringDep) -> Response:
    """Save the form, or move one of its sources; without scripts each of its buttons ends here."""
    form = await request.form()
    written, do = read_form(form), str(form.get("do", "save"))
    owner_id = owner_of(visitor)
    async with wiring.database.read() as session:
        sheet = await _read(session, wallet_id, owner_id)
        if do not in ("save", "save-on"):
            return await _form(request, session, sheet, move_source(written, do))
        try:
            agreement = read_agreement(written, sheet.currency)
        except TermsInvalid as invalid:
            troubles = troubles_of(invalid, written)
            return await _form(request, session, sheet, written, troubles=troubles)
    try:
        _refuse_other(sheet.rule, written)
        if _needs_passkey(sheet.rule, agreement, turning_on=do == "save-on"):
            return await ask_to_confirm(
                wiring, visitor, wallet_id=wallet_id, rule=sheet.rule, agreement=agreement
            )
        await _save(wiring.database, sheet, written, visitor)
    except (RuleLocked, RuleExists, RuleUnknown, VersionStale, _RuleNotAsShown):
        return await _show_anew(request, wiring.database, wallet_id, owner_id, written)
    await wiring.database.wake_watchers()
    return _go(wallet_id, "rule-saved")


@router.post("/wallets/{wallet_id}/auto-top-up/preview")
async def preview(
    request: Request, wallet_id: WalletId, visitor: OwnerVisitor, database: DatabaseDep
) -> Response:
    """The part of the page that says what the terms would do now, while they are still being typed."""
    written = read_form(await request.form())
    async with database.read() as session:
        sheet = await _read(session, wallet_id, owner_of(visitor))
        words = await _preview(session, sheet, written)
    return render(request, "parts/rule_preview.html", preview=words, rule=sheet.rule)


Version = Annotated[int, Form(ge=1, lt=2**63)]


@router.post("/wallets/{wallet_id}/auto-top-up/on")
async def turn_on(
    wallet_id: WalletId, visitor: OwnerVisitor, wiring: WiringDep, version: Version
) -> Response:
    """Ask for the passkey that turns the rule on, with the terms it has (R5)."""
    async with wiring.database.read() as session:
        rule = await _require_rule(session, wallet_id, owner_of(visitor), version)
    agreement = Agreement(rule.terms, rule.caps)
    return await ask_to_confirm(wiring, visitor, wallet_id=wallet_id, rule=rule, agreement=agreement)


@router.post("/wallets/{wallet_id}/auto-top-up/off")
async def turn_off(
    wallet_id: WalletId, visitor: OwnerVisitor, database: DatabaseDep, version: Version
) -> Response:
    """Turn the rule off; no passkey is needed (R5)."""
    async with database.commit() as session:
        rule = await _require_rule(session, wallet_id, owner_of(visitor), version)
        await disable_rule(session, rule.id, version=version, author=author_of(visitor))
    await database.wake_followers()
    return _go(wallet_id, "rule-off")


@router.get("/wallets/{wallet_id}/auto-top-up/delete")
async def ask_before_deleting(
    request: Request, wallet_id: WalletId, visitor: OwnerVisitor, database: DatabaseDep
) -> Response:
    """What deleting does, before it is done."""
    async with database.read() as session:
        rule = await find_rule(session, wallet_id, bound_to=owner_of(visitor))
    if rule is None:
        raise RuleUnknown
    return render(request, "delete_rule.html", rule=rule, wallet_id=wallet_id)


@router.post("/wallets/{wallet_id}/auto-top-up/delete")
async def delete(
    wallet_id: WalletId, visitor: OwnerVisitor, database: DatabaseDep, version: Version
) -> Response:
    """Delete the rule for good; no passkey is needed, and its history stays (R6)."""
    async with database.commit() as session:
        rule = await _require_rule(session, wallet_id, owner_of(visitor), version)
        await delete_rule(session, rule.id, version=version, author=author_of(visitor))
    await database.wake_followers()
    return _go(wallet_id, "rule-deleted")


async def _read(session: AsyncSession, wallet_id: str, owner_id: str) -> Sheet:
    """Raises WalletUnknown."""
    wallet = await read_wallet(session, wallet_id, bound_to=owner_id)
    rule = await find_rule(session, wallet_id, bound_to=owner_id)
    accounts = [await _read_account(session, wallet, kind) for kind in AccountKind]
    return Sheet(wallet, rule, tuple(accounts))


async def _read_account(session: AsyncSession, wallet: WalletRecord, kind: AccountKind) -> AccountShown:
    assets = tuple(ASSET_SCALES)
    sight = await read_sight(session, Asked(wallet.id, wallet.owner_id, kind, assets))
    currency = wallet.balance.asset
    held = [
        Held(asset, holding.available, holding.worth(currency) if holding.quote else None)
        for asset, holding in zip(assets, sight.holdings, strict=True)
    ]
    held.sort(key=lambda each: (not each.available, -(each.worth.units if each.worth else 0)))
    return AccountShown(kind, tuple(held))


def _first(sheet: Sheet) -> Written:
    funding = sheet.accounts[0]
    return suggested(sheet.currency, [held.available for held in funding.held])


async def _form(
    request: Request,
    session: AsyncSession,
    sheet: Sheet,
    written: Written,
    *,
    troubles: Sequence[FieldTrouble] = (),
    changed: bool = False,
) -> Response:
    """The page with what was typed. `changed`: the rule was changed meanwhile, and nothing was saved."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY if troubles else HTTPStatus.OK
    errors: dict[str, str] = {}
    for trouble in reversed(troubles):
        errors[trouble.field] = trouble.message
    return render(
        request,
        "auto_top_up.html",
        status=HTTPStatus.CONFLICT if changed else status,
        sheet=sheet,
        rule=sheet.rule,
        wallet=sheet.wallet,
        written=written,
        errors=errors,
        troubles=troubles,
        changed=changed,
        preview=await _preview(session, sheet, written),
        places=range(1, SOURCES_MAX + 1),
    )


async def _show_anew(
    request: Request, database: Any, wallet_id: str, owner_id: str, typed: Written
) -> Response:
    """The page once its rule was not any more as it was shown: nothing was saved, and nothing typed is lost."""
    async with database.read() as session:
        sheet = await _read(session, wallet_id, owner_id)
        version = str(sheet.rule.version) if sheet.rule else ""
        return await _form(request, session, sheet, replace(typed, version=version), changed=True)


async def _preview(session: AsyncSession, sheet: Sheet, written: Written) -> Preview | None:
    """What the terms would do now; None as long as they are none."""
    try:
        agreement = read_agreement(written, sheet.currency)
    except TermsInvalid:
        return None
    terms, wallet = agreement.terms, sheet.wallet
    sight = await read_sight(session, Asked(wallet.id, wallet.owner_id, terms.account, terms.sources))
    cap = await read_cap_of(session, wallet.id, agreement.caps, amount=terms.amount)
    return Preview(
        fires=if_it_fired(terms, sight.holdings),
        at_once=at_once(wallet, terms, sight.holdings, cap),
        warnings=warn(terms, balance=wallet.balance, holdings=sight.holdings, cap=cap),
    )


def at_once(
    wallet: WalletRecord, terms: Terms, holdings: Sequence[Holding], cap: CapReached | None
) -> str | None:
    """What turning the rule on, or saving it, starts at once (R11); nothing where nobody knows the balance."""
    if not is_known(wallet):
        return None
    return at_once_words(terms, balance=wallet.balance, holdings=holdings, cap=cap)


def _refuse_other(rule: RuleRecord | None, written: Written) -> None:
    """Refuse a form that shows another rule than there is. Raises RuleLocked and _RuleNotAsShown."""
    if (str(rule.version) if rule else "") != written.version:
        raise _RuleNotAsShown
    if rule and rule.locked_by:
        raise RuleLocked(rule.locked_by)


def _needs_passkey(rule: RuleRecord | None, agreement: Agreement, *, turning_on: bool) -> bool:
    """Turning on does, and widening a rule that is on; nothing else (R5)."""
    if rule is None or not rule.enabled:
        return turning_on
    return widens(Agreement(rule.terms, rule.caps), agreement)


async def _save(database: Any, sheet: Sheet, written: Written, visitor: OwnerVisitor) -> None:
    """Save what needs no passkey. Raises RuleLocked, RuleExists, RuleUnknown and VersionStale."""
    author, draft = author_of(visitor), draft_of(written)
    async with database.commit() as session:
        if sheet.rule is None:
            await create_rule(session, wallet_id=sheet.wallet.id, draft=draft, enabled=False, author=author)
            return
        changes = {name: getattr(draft, name) for name in draft.__slots__}
        await edit_rule(session, sheet.rule.id, changes, version=sheet.rule.version, author=author)


async def _require_rule(session: AsyncSession, wallet_id: str, owner_id: str, version: int) -> RuleRecord:
    """The wallet's rule at the version that was shown. Raises RuleUnknown, RuleLocked and VersionStale."""
    rule = await find_rule(session, wallet_id, bound_to=owner_id)
    if rule is None:
        raise RuleUnknown
    if rule.locked_by is not None:
        raise RuleLocked(rule.locked_by)
    if rule.version != version:
        raise VersionStale(rule.version)
    return rule


def _go(wallet_id: str, done: str) -> Response:
    return RedirectResponse(f"/wallets/{wallet_id}?done={done}", status_code=HTTPStatus.SEE_OTHER)
