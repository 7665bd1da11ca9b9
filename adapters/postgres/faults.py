"""Development only: the switch that makes the next draws from one source go wrong."""

from dataclasses import dataclass

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, delete
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.tables import Fault


@dataclass(frozen=True, slots=True)
class FaultSwitch:
    """How the next `times` draws from one source go wrong; `fault` None is none at all."""

    owner_id: str
    account: str
    asset: str
    fault: str | None
    times: int


async def switch_fault(session: AsyncSession, switch: FaultSwitch) -> None:
    """Set the switch of one source in the caller's commit, whatever it was before."""
    if switch.fault is None:
        await session.exec(
            delete(Fault).where(
                col(Fault.owner_id) == switch.owner_id,
                col(Fault.account) == switch.account,
                col(Fault.asset) == switch.asset,
            )
        )
        return
    now = {"fault": switch.fault, "times": switch.times}
    source = {"owner_id": switch.owner_id, "account": switch.account, "asset": switch.asset}
    written = insert(Fault).values({**source, **now})
    await session.exec(
        written.on_conflict_do_update(index_elements=["owner_id", "account", "asset"], set_=now)
    )
