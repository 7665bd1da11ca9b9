"""The watchtower: hears where the programs of a lane are, and has top-ups stand at the points that are armed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cases import Moment
from tests.chaos.wires import Hold, Wire

_IN_THE_WIRE = ("notify-email", "notify-push", "start-workflow")
"""Steps that reach out to another program: their middle is in the wire."""


@dataclass(eq=False, slots=True)
class Stand:
    """One armed point: whose top-up is to stand there, and whether it does."""

    step: str
    moment: Moment
    wallet_id: str
    payment_key: str
    told_to: bytes
    """What the owner's notification contains, and no other one."""
    seconds_max: float
    """For how long it may stand without its caller giving it up."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    left: bool = False
    reached_at: float = 0.0

    def release(self) -> None:
        """Let it go on."""
        self.released.set()

    def stands(self) -> bool:
        """Whether it is there at this moment, and not for so long that its caller may have given it up."""
        age = asyncio.get_running_loop().time() - self.reached_at
        return self.reached.is_set() and not self.left and age <= self.seconds_max

    def arrive(self) -> None:
        """It is there."""
        self.reached_at = asyncio.get_running_loop().time()
        self.reached.set()


class Tower:
    """One for a lane; `wallet_of` finds whose a top-up is, `wires` lead to where steps reach out."""

    def __init__(self, wallet_of: Callable[[str], Awaitable[str | None]], wires: dict[str, Wire]) -> None:
        self._wallet_of = wallet_of
        self._wires = wires
        self._stands: list[Stand] = []
        self._top_ups: dict[str, str] = {}
        self._deliveries: dict[str, str] = {}
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def listen(self, socket: Path) -> None:
        """Hear whoever comes to this socket."""
        self._server = await asyncio.start_unix_server(self._hear, str(socket))

    async def close(self) -> None:
        """Let everybody go, and hear nobody any more."""
        assert self._server is not None
        self.release_all()
        self._server.close()

    def arm(self, stand: Stand) -> None:
        """Have the next one who comes to this point stand there."""
        self._stands.append(stand)

    def release_all(self) -> None:
        """Let everybody go, and arm nothing."""
        for stand in self._stands:
            stand.release()
        self._stands.clear()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            point, *whom = (await reader.readline()).decode().split() or [""]
            stand = await self._armed(point, whom)
            if stand is not None:
                stand.arrive()
                await self._keep(stand, reader)
            writer.write(b"go\n")
            await writer.drain()
        writer.close()

    async def _keep(self, stand: Stand, reader: asyncio.StreamReader) -> None:
        """Until it is released, or has left by itself: its program was killed, or gave the step up."""
        gone, released = asyncio.ensure_future(reader.read()), asyncio.ensure_future(stand.released.wait())
        await asyncio.wait((gone, released), return_when=asyncio.FIRST_COMPLETED)
        stand.left = not stand.released.is_set()
        for waiting in (gone, released):
            waiting.cancel()

    async def _armed(self, point: str, whom: list[str]) -> Stand | None:
        step, _, moment = point.rpartition(":")
        if step.startswith("notify-") and len(whom) > 1:
            self._deliveries[whom[1]] = whom[0]
        for stand in [armed for armed in self._stands if armed.step == step and not armed.reached.is_set()]:
            in_the_wire = stand.moment is Moment.DURING and step in _IN_THE_WIRE
            if moment != (Moment.BEFORE if in_the_wire else stand.moment):
                continue
            if not await self._is_for(stand, step, moment, whom):
                continue
            if not in_the_wire:
                return stand
            self._hold_wire(stand)
        return None

    async def _is_for(self, stand: Stand, step: str, moment: str, whom: list[str]) -> bool:
        match step, moment:
            case "payment", _:
                return whom[:1] == [stand.payment_key]
            case "claim", Moment.BEFORE:
                return True
            case "claim", Moment.DURING:
                return "top_up" in whom
            case _:
                return stand.wallet_id in [await self._find_wallet(name) for name in whom]

    async def _find_wallet(self, name: str) -> str | None:
        top_up_id = self._deliveries.get(name, name)
        if top_up_id not in self._top_ups:
            found = await self._wallet_of(top_up_id)
            if found is None:
                return None
            self._top_ups[top_up_id] = found
        return self._top_ups[top_up_id]

    def _hold_wire(self, stand: Stand) -> None:
        wire = self._wires[stand.step]
        hold = wire.hold_requests() if stand.step == "start-workflow" else wire.hold_replies(stand.told_to)
        watching = asyncio.ensure_future(_watch(stand, hold))
        self._open.add(watching)
        watching.add_done_callback(self._open.discard)


async def _watch(stand: Stand, hold: Hold) -> None:
    reached, released = (
        asyncio.ensure_future(hold.reached.wait()),
        asyncio.ensure_future(stand.released.wait()),
    )
    await asyncio.wait((reached, released), return_when=asyncio.FIRST_COMPLETED)
    if hold.reached.is_set():
        stand.arrive()
    await released
    hold.released.set()
    reached.cancel()
