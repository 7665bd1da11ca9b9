"""Health: whether this program lives, and whether it can serve."""

from fastapi import APIRouter

from api.given import GivenDep
from api.readiness import NotReady, check_readiness
from api.refusals import only_refusals
from api.wire import View

router = APIRouter(tags=["health"])


class Alive(View):
    """The program answers."""

    status: str


class Finding(View):
    """What one check found."""

    ok: bool
    detail: str


class Ready(View):
    """The program can serve."""

    status: str
    checks: dict[str, Finding]


@router.get("/livez", operation_id="get_liveness")
async def get_liveness() -> Alive:
    """Whether the program lives; it asks nobody else."""
    return Alive(status="alive")


@router.get("/readyz", operation_id="get_readiness", responses=only_refusals(NotReady))
async def get_readiness(given: GivenDep) -> Ready:
    """Whether the database is in reach and up to date, and Temporal in reach."""
    return Ready.model_validate({"status": "ready", "checks": await check_readiness(given)})
