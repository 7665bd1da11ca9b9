"""Development only: the embedded ledger with a switch that makes draws go wrong in every way a real one can."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import text

from activities.messages import CheckOrder, DrawName, DrawOrder, Moved, NotMoved, Refused
from activities.ports import AnswerMissing, Sight
from adapters.postgres.database import Database, DatabaseOutOfReach
from adapters.postgres.ledger import PATIENCE, LedgerAccounts
from topup.outcome import DrawReason

_TAKE = text(
    "UPDATE fault SET times = times - 1 "
    "WHERE owner_id = :owner_id AND account = :account AND asset = :asset AND times > 0 RETURNING fault"
)


@dataclass(frozen=True, slots=True)
class FaultyAccounts:
    """Fulfils the Accounts port; draws of a switched source fail as the `fault` table says, that many times."""

    ledger: LedgerAccounts
    database: Database

    async def look(self, order: CheckOrder) -> Sight:
        """Look, without faults."""
        return await self.ledger.look(order)

    async def draw(self, order: DrawOrder) -> Moved | Refused | NotMoved:
        """Draw, or fail as switched: refused, never answered, or the answer lost before or after the money moved."""
        match await self._take_fault(order):
            case "reject":
                return Refused(reason=DrawReason.REJECTED)
            case "hang":
                await asyncio.Event().wait()
            case "answer_lost_before_moving":
                raise AnswerMissing
            case "answer_lost_after_moving":
                await self.ledger.draw(order)
                raise AnswerMissing
            case _:
                pass
        return await self.ledger.draw(order)

    async def look_up(self, name: DrawName) -> Moved | Refused | NotMoved:
        """Look up, without faults."""
        return await self.ledger.look_up(name)

    async def _take_fault(self, order: DrawOrder) -> str | None:
        source = {"owner_id": order.owner_id, "account": order.account, "asset": order.asset}
        try:
            async with self.database.call(wait=PATIENCE) as connection:
                taken: str | None = (await connection.execute(_TAKE, source)).scalar_one_or_none()
        except DatabaseOutOfReach:
            return None  # The draw itself will say so.
        return taken
