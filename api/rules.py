"""Rules: written, read, changed and deleted by their owners; locked while their top-up runs (R7)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Query
from pydantic import ConfigDict, Field, WithJsonSchema, model_validator
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.responses import Response

from activities.ports import Sight
from adapters.postgres.answers import Answer
from adapters.postgres.history import (
    DecisionRecord,
    RevisionRecord,
    list_decisions,
    list_revisions,
    require_rule_once,
)
from adapters.postgres.reading import Asked, read_sight, read_sights
from adapters.postgres.rules import (
    RuleExists,
    RuleLocked,
    RuleRecord,
    RuleUnknown,
    TermsDraft,
    VersionStale,
    WhichRules,
    create_rule,
    delete_rule,
    disable_rule,
    edit_rule,
    enable_rule,
    list_rules,
    read_rule,
)
from adapters.postgres.wallets import WalletUnknown
from api.authentication import RulesReader, RulesWriter, author_of
from api.given import DatabaseDep
from api.lists import Page, PageAsked, PageQuery, page_of
from api.once import OnceDep, answered
from api.refusals import refusals
from api.versions import VersionMissing, WantedVersion, etag
from api.wire import WHOLE, Amount, Body, Id, Moment, PathId, View
from topup.caps import Caps, write_caps
from topup.money import ASSET_SCALES
from topup.outcome import Outcome, Reason
from topup.preview import Caution, Preview, WarningCode, preview_rule, warn
from topup.rule import SOURCES_MAX, AccountKind, RuleState, WaitingFor
from topup.trigger import DecisionReason

router = APIRouter(prefix="/v1/rules", tags=["rules"])

COUNT_MAX = 10_000
"""No cap counts further than this."""

_CHANGE = refusals(RuleUnknown, RuleLocked, VersionStale, VersionMissing)

Account = Annotated[
    str,
    Field(max_length=20),
    WithJsonSchema({"type": "string", "enum": [kind.value for kind in AccountKind]}),
]
"""Read with the other terms, so that every wrong one is named at once."""

SourceCode = Annotated[str, Field(max_length=20)]
Sources = Annotated[
    list[SourceCode],
    Field(max_length=50),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "enum": list(ASSET_SCALES)},
            "minItems": 1,
            "maxItems": SOURCES_MAX,
            "uniqueItems": True,
            "description": "One to three different assets; their order is their rank.",
        }
    ),
]


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _left_out(stand_in: Any) -> Any:
    """A field that may be left out, but not null; the stand-in is never read."""
    return Field(default=stand_in, json_schema_extra=_without_default)


class CapOrder(Body):
    """At most this much, and at most this many top-ups, in one period; what is null or left out does not bound."""

    amount: Amount | None = None
    count: Annotated[int, Field(ge=1, le=COUNT_MAX), WHOLE] | None = None


class CapsOrder(Body):
    """Bounds on what the rule may move in one day and one month of the calendar, in UTC; at least one of the two."""

    day: CapOrder | None = None
    month: CapOrder | None = None


class RuleOrder(Body):
    """A rule to be made for a wallet that has none; on, unless said otherwise."""

    wallet_id: Id
    threshold: Amount
    amount: Amount
    account: Account
    sources: Sources
    caps: CapsOrder | None = None
    enabled: bool = True


class RuleEdit(Body):
    """The terms to change, at least one. Sending a term as it is saves the rule again, which is a new attempt.

    `caps` are replaced as a whole; null takes them off.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    threshold: Amount = _left_out("")
    amount: Amount = _left_out("")
    account: Account = _left_out("funding")
    sources: Sources = _left_out([])
    caps: CapsOrder | None = _left_out(None)

    @model_validator(mode="after")
    def _refuse_nothing(self) -> "RuleEdit":
        if not self.model_fields_set:
            message = "must name at least one of threshold, amount, account, sources and caps"
            raise ValueError(message)
        return self


class RuleQuery(PageQuery):
    """Which rules are asked for."""

    owner_id: Id | None = None
    wallet_id: Id | None = None


class SourceView(View):
    """One funding source."""

    rank: int
    asset: str


class CapView(View):
    """The most of one period; null does not bound."""

    amount: str | None
    count: int | None


class CapsView(View):
    """The most of each period; null does not bound."""

    day: CapView | None
    month: CapView | None


class WarningView(View):
    """One thing to know before trusting the rule."""

    code: WarningCode
    message: str


class RuleView(View):
    """A rule. `state` armed is the only one that fires on the next drop (R26).

    `waiting_until` is when a cap's period ends, for a rule that waits for that. `warnings` are those of the preview.
    """

    id: str
    wallet_id: str
    threshold: str
    amount: str
    account: AccountKind
    sources: list[SourceView]
    caps: CapsView | None
    enabled: bool
    state: RuleState
    waiting_for: WaitingFor | None
    waiting_until: Moment | None
    locked_by: str | None
    version: int
    created_at: Moment
    updated_at: Moment
    warnings: list[WarningView]


class PreviewDraw(View):
    """What one source would give: debited in its asset, credited in the wallet's currency."""

    rank: int
    asset: str
    debit: str
    credit: str


class PreviewView(View):
    """What would happen now; nothing is moved."""

    would_fire: bool
    outcome: Outcome
    draws: list[PreviewDraw]
    reason: Reason
    warnings: list[WarningView]


class DecisionView(View):
    """Why the rule fired at one balance event, or did not (R13)."""

    at: Moment
    event_id: str
    balance: str
    fired: bool
    reason: DecisionReason
    top_up_id: str | None


class TermsView(View):
    """The terms as they were after a change."""

    currency: str
    threshold: str
    amount: str
    account: AccountKind
    sources: list[str]
    caps: CapsView | None = None


class RevisionView(View):
    """One change of a rule; `confirmation` is the passkey's, where there was one."""

    version: int
    change: str
    terms: TermsView
    enabled: bool
    by: str
    confirmation: dict[str, Any] | None
    at: Moment


@router.post(
    "",
    status_code=201,
    operation_id="create_rule",
    response_model=RuleView,
    responses=refusals(WalletUnknown, RuleExists),
)
async def post_rule(order: RuleOrder, writer: RulesWriter, once: OnceDep) -> Response:
    """Give a wallet its rule (R1, R2). One that is on while the balance is below fires at once (R11)."""

    async def create(session: AsyncSession) -> Answer:
        rule = await create_rule(
            session,
            wallet_id=order.wallet_id,
            draft=_draft_of(order),
            enabled=order.enabled,
            author=author_of(writer),
        )
        return await _rule_answer(session, rule, status=201)

    return await once.answer(create, body=order, wakes=True)


@router.get("", operation_id="list_rules", responses=refusals())
async def get_rules(
    asked: Annotated[RuleQuery, Query()], reader: RulesReader, database: DatabaseDep
) -> Page[RuleView]:
    """Rules, newest first."""
    which = WhichRules(
        bound_to=reader.owner_id,
        owner_id=asked.owner_id,
        wallet_id=asked.wallet_id,
        after=asked.position(),
    )
    async with database.read() as session:
        found = await list_rules(session, which, most=asked.most)
        sights = await read_sights(session, [_asked(rule) for rule in found])
    seen = dict(zip((rule.id for rule in found), sights, strict=True))
    return page_of(
        found, asked, view=lambda rule: _rule_view(rule, seen[rule.id]), position=lambda rule: rule.id
    )


@router.get("/{rule_id}", operation_id="get_rule", responses=refusals(RuleUnknown))
async def get_rule(
    rule_id: PathId, reader: RulesReader, database: DatabaseDep, response: Response
) -> RuleView:
    """One rule as it stands; its ETag is what a change of it needs."""
    async with database.read() as session:
        rule = await read_rule(session, rule_id, bound_to=reader.owner_id)
        view = await _full_view(session, rule)
    response.headers["ETag"] = etag(rule.version)
    return view


@router.patch("/{rule_id}", operation_id="edit_rule", responses=_CHANGE)
async def patch_rule(
    rule_id: PathId,
    edit: RuleEdit,
    writer: RulesWriter,
    version: WantedVersion,
    database: DatabaseDep,
    response: Response,
    afterwards: BackgroundTasks,
) -> RuleView:
    """Save the rule with other terms, at once (R4); one that is on is armed by that, and judged (R9, R11)."""
    changes = edit.model_dump(exclude_unset=True)
    async with database.commit() as session:
        rule = await edit_rule(session, rule_id, changes, version=version, author=author_of(writer))
        view = await _full_view(session, rule)
    afterwards.add_task(database.wake_watchers)
    response.headers["ETag"] = etag(rule.version)
    return view


@router.post("/{rule_id}/enable", operation_id="enable_rule", response_model=RuleView, responses=_CHANGE)
async def post_enable(
    rule_id: PathId, writer: RulesWriter, version: WantedVersion, once: OnceDep
) -> Response:
    """Turn the rule on: it is armed, and fires at once if the balance is below (R9, R11)."""
    return await _switch(enable_rule, rule_id, writer, version, once)


@router.post("/{rule_id}/disable", operation_id="disable_rule", response_model=RuleView, responses=_CHANGE)
async def post_disable(
    rule_id: PathId, writer: RulesWriter, version: WantedVersion, once: OnceDep
) -> Response:
    """Turn the rule off and keep everything in it (R5)."""
    return await _switch(disable_rule, rule_id, writer, version, once)


@router.delete("/{rule_id}", status_code=204, operation_id="delete_rule", responses=_CHANGE)
async def remove_rule(
    rule_id: PathId,
    writer: RulesWriter,
    version: WantedVersion,
    database: DatabaseDep,
    afterwards: BackgroundTasks,
) -> None:
    """Delete the rule for good; its top-ups, decisions and revisions stay readable (R6)."""
    async with database.commit() as session:
        await delete_rule(session, rule_id, version=version, author=author_of(writer))
    afterwards.add_task(database.wake_followers)


@router.post(
    "/{rule_id}/preview",
    operation_id="preview_rule",
    response_model=PreviewView,
    responses=refusals(RuleUnknown),
)
async def post_preview(
    rule_id: PathId, reader: RulesReader, database: DatabaseDep, once: OnceDep
) -> Response:
    """How a top-up would end if it ran now, by the same reckoning as the live check; moves nothing.

    `would_fire` says whether the next spend fires the rule: it is armed and the balance is below already. Outcome,
    draws and reason suppose that the balance had just dropped below the threshold.
    """
    async with database.read() as session:
        rule = await read_rule(session, rule_id, bound_to=reader.owner_id)
        sight = await read_sight(session, _asked(rule))
    preview = preview_rule(
        rule.terms, rule.state, balance=sight.known_balance, holdings=sight.holdings, cap=rule.cap
    )
    return await once.remember(answered(_preview_view(preview)))


@router.get("/{rule_id}/decisions", operation_id="list_decisions", responses=refusals(RuleUnknown))
async def get_decisions(
    rule_id: PathId, asked: PageAsked, reader: RulesReader, database: DatabaseDep
) -> Page[DecisionView]:
    """Why the rule fired and why it did not, newest first; readable after its deletion too (R6, R13)."""
    async with database.read() as session:
        await require_rule_once(session, rule_id, bound_to=reader.owner_id)
        found = await list_decisions(session, rule_id, after=asked.number(), most=asked.most)
    return page_of(found, asked, view=_decision_view, position=lambda record: record.seq)


@router.get("/{rule_id}/revisions", operation_id="list_revisions", responses=refusals(RuleUnknown))
async def get_revisions(
    rule_id: PathId, asked: PageAsked, reader: RulesReader, database: DatabaseDep
) -> Page[RevisionView]:
    """Who changed the rule, how and when, newest first; readable after its deletion too (R6)."""
    async with database.read() as session:
        await require_rule_once(session, rule_id, bound_to=reader.owner_id)
        found = await list_revisions(session, rule_id, after=asked.number(), most=asked.most)
    return page_of(found, asked, view=_revision_view, position=lambda record: record.version)


async def _switch(
    turn: Callable[..., Awaitable[RuleRecord]], rule_id: str, writer: RulesWriter, version: int, once: OnceDep
) -> Response:
    async def switch(session: AsyncSession) -> Answer:
        rule = await turn(session, rule_id, version=version, author=author_of(writer))
        return await _rule_answer(session, rule)

    return await once.answer(switch, wakes=True)


def _draft_of(order: RuleOrder) -> TermsDraft:
    caps = order.caps.model_dump() if order.caps else None
    return TermsDraft(order.threshold, order.amount, order.account, order.sources, caps)


async def _rule_answer(session: AsyncSession, rule: RuleRecord, *, status: int = 200) -> Answer:
    return answered(await _full_view(session, rule), status=status, etag=etag(rule.version))


async def _full_view(session: AsyncSession, rule: RuleRecord) -> RuleView:
    """The rule with what its owner should know of it, as things stand."""
    return _rule_view(rule, await read_sight(session, _asked(rule)))


def _asked(rule: RuleRecord) -> Asked:
    return Asked(rule.wallet_id, rule.owner_id, rule.terms.account, rule.terms.sources)


def _rule_view(rule: RuleRecord, sight: Sight) -> RuleView:
    warnings = warn(rule.terms, balance=sight.known_balance, holdings=sight.holdings, cap=rule.cap)
    waits_for_cap = rule.waiting_for is WaitingFor.CAP_PERIOD_END
    return RuleView(
        id=rule.id,
        wallet_id=rule.wallet_id,
        threshold=rule.terms.threshold.text,
        amount=rule.terms.amount.text,
        account=rule.terms.account,
        sources=[SourceView(rank=rank, asset=asset) for rank, asset in rule.terms.ranked],
        caps=_caps_view(rule.caps),
        enabled=rule.enabled,
        state=rule.state,
        waiting_for=rule.waiting_for,
        waiting_until=rule.cap.until if rule.cap and waits_for_cap else None,
        locked_by=rule.locked_by,
        version=rule.version,
        created_at=rule.created_at,
        updated_at=rule.updated_at,
        warnings=_warning_views(warnings),
    )


def _caps_view(caps: Caps | None) -> CapsView | None:
    return CapsView.model_validate(write_caps(caps)) if caps else None


def _warning_views(warnings: Sequence[Caution]) -> list[WarningView]:
    return [WarningView(code=caution.code, message=caution.message) for caution in warnings]


def _preview_view(preview: Preview) -> PreviewView:
    return PreviewView(
        would_fire=preview.would_fire,
        outcome=preview.outcome,
        draws=[
            PreviewDraw(rank=draw.rank, asset=draw.asset, debit=draw.debit.text, credit=draw.credit.text)
            for draw in preview.draws
        ],
        reason=preview.reason,
        warnings=_warning_views(preview.warnings),
    )


def _decision_view(record: DecisionRecord) -> DecisionView:
    return DecisionView(
        at=record.at,
        event_id=record.event_id,
        balance=record.balance.text,
        fired=record.fired,
        reason=record.reason,
        top_up_id=record.top_up_id,
    )


def _revision_view(record: RevisionRecord) -> RevisionView:
    return RevisionView(
        version=record.version,
        change=record.change,
        terms=TermsView.model_validate(record.terms),
        enabled=record.enabled,
        by=record.by,
        confirmation=dict(record.proof) if record.proof else None,
        at=record.at,
    )
