"""The operators' page: what is going on, what waits for somebody, and links by which owners get in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from babel import Locale
from babel.dates import format_timedelta
from fastapi import Form, Request
from starlette.responses import HTMLResponse, Response

from adapters.postgres.clock import read_clock
from adapters.postgres.figures import Figures
from adapters.postgres.links import create_link
from adapters.postgres.overview import OpenOne, read_overview
from adapters.postgres.owners import OwnerUnknown
from adapters.postgres.people import person_of_owner
from adapters.postgres.sessions import Visitor
from console.links import address_of
from console.page import locale_of, render
from console.routes import pages
from console.visitors import OperatorVisitor
from console.wiring import Wiring, WiringDep
from topup.keys import workflow_id
from topup.outcome import Outcome, Reason
from topup.words import why

_OWNER_ID_MAX = 100
_WORST_FIRST = (Outcome.FAILED, Outcome.PARTIAL)

router = pages()


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many top-ups of the day ended like this."""

    outcome: Outcome
    why: str
    count: int


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A link as it is shown once."""

    address: str
    name: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Ages:
    """How long ago things were, in words, all seen from one moment."""

    now: datetime
    locale: Locale

    def __call__(self, since: datetime) -> str:
        """Such as "3 minutes"."""
        return str(
            format_timedelta(self.now - since, granularity="second", threshold=1.5, locale=self.locale)
        )


@router.get("/operator")
async def get_overview(request: Request, visitor: OperatorVisitor, wiring: WiringDep) -> Response:
    """Everything that asks for an operator, worst first."""
    del visitor  # That there is one is all that counts.
    return await _page(request, wiring, "operator.html")


@router.get("/operator/live")
async def get_live(request: Request, visitor: OperatorVisitor, wiring: WiringDep) -> Response:
    """The part of the page that changes; the page asks for it again and again."""
    del visitor
    return await _page(request, wiring, "parts/operator_now.html")


@router.post("/operator/links")
async def post_link(
    request: Request,
    visitor: OperatorVisitor,
    wiring: WiringDep,
    owner_id: Annotated[str, Form(max_length=_OWNER_ID_MAX)] = "",
) -> Response:
    """Make the link by which an owner registers a passkey, and show it this once; those before it end."""
    wanted = owner_id.strip()
    try:
        async with wiring.database.commit() as session:
            person = await person_of_owner(session, wanted if wanted.isprintable() else "")
            link = await create_link(
                session, person.id, made_by=_author(visitor), now=await read_clock(session)
            )
    except OwnerUnknown:
        return await _page(request, wiring, "operator.html", status=404, wanted=wanted, refused=True)
    made = MadeLink(address_of(wiring.public_url, link.token), person.name, link.expires_at)
    return await _page(request, wiring, "operator.html", made=made)


def _author(visitor: Visitor) -> str:
    return f"{visitor.name} ({visitor.person_id})"


async def _page(request: Request, wiring: Wiring, template: str, **words: Any) -> HTMLResponse:
    async with wiring.database.read() as session:
        overview = await read_overview(session)
        now = await read_clock(session)
    figures = overview.figures
    return render(
        request,
        template,
        overview=overview,
        figures=figures,
        reasons=_reasons(figures),
        unfunded=figures.attempted > 0 and figures.funded == 0,
        age=Ages(now, locale_of(request)),
        waits_for=_waits_for,
        host_of=_host_of,
        why=why,
        run_of=lambda top_up_id: _run_of(wiring, top_up_id),
        **{"wanted": "", "refused": False, "made": None, **words},
    )


def _reasons(figures: Figures) -> list[ReasonCount]:
    """Why top-ups of the day failed or came up short, the most frequent first."""
    counted = [
        ReasonCount(Outcome(outcome), why(Reason(reason)), count)
        for (outcome, reason), count in figures.ended.items()
        if outcome in _WORST_FIRST
    ]
    return sorted(counted, key=lambda reason: (_WORST_FIRST.index(reason.outcome), -reason.count, reason.why))


def _waits_for(top_up: OpenOne) -> str:
    """What a top-up in progress waits for, as a sentence."""
    if top_up.being_checked:
        return f"Nobody knows yet what became of the draw from {' and '.join(top_up.being_checked)}; it is looked up."
    if not top_up.handed_over:
        return "Temporal does not have it yet; handing it over is repeated."
    if not top_up.checked:
        return "The check."
    if top_up.answered < len(top_up.sources):
        return f"The draw from {top_up.sources[top_up.answered]}, or the settling."
    return "The settling."


def _run_of(wiring: Wiring, top_up_id: str) -> str | None:
    """Where Temporal's Web UI shows the top-up's run; None where no such place is known."""
    if wiring.temporal_ui_url is None:
        return None
    namespace, run = quote(wiring.temporal_namespace, safe=""), quote(workflow_id(top_up_id), safe="")
    return f"{wiring.temporal_ui_url}/namespaces/{namespace}/workflows/{run}"


def _host_of(url: str) -> str:
    """Where an endpoint is. The rest of its address may be a secret of its owner's."""
    return urlsplit(url).netloc.rpartition("@")[2]
