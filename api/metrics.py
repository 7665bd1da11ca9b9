"""The page that Prometheus reads: for a key that may administer all owners, or open where an operator says so."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse

from api.authentication import METRICS_PATH, AdminOfAll, KeyBound
from api.given import GivenDep
from api.refusals import refusals

router = APIRouter(tags=["health"])
open_router = APIRouter(tags=["health"])


class MetricsText(PlainTextResponse):
    """Prometheus's own text."""

    media_type = CONTENT_TYPE_LATEST


@router.get(
    METRICS_PATH, operation_id="get_metrics", response_class=MetricsText, responses=refusals(KeyBound)
)
async def get_metrics(_admin: AdminOfAll, given: GivenDep) -> MetricsText:
    """How this program answers, and how top-ups stand, of all owners together, for Prometheus."""
    return MetricsText(await given.measures.tell(given.database))


@open_router.get(METRICS_PATH, operation_id="get_metrics", response_class=MetricsText)
async def get_open_metrics(given: GivenDep) -> MetricsText:
    """How this program answers, and how top-ups stand, of all owners together, for Prometheus."""
    return MetricsText(await given.measures.tell(given.database))
