"""Strikes: what is done to one program of a lane, while everybody stands at their points."""

import asyncio
import contextlib
import os
import signal

from tests.chaos.cases import Manner, Struck
from tests.chaos.lane import Lane

STOP_SECONDS = 10.0
OUTAGE_SECONDS = 1.5
"""How long a killed server stays away, so that who stood meets nobody."""
_END_SECONDS = 60.0
_SERVERS = frozenset({Struck.TEMPORAL, Struck.POSTGRES})


async def strike(lane: Lane, struck: Struck, manner: Manner) -> None:
    """Strike, let everybody who stood go on, start again what has ended. Raises TimeoutError when it does not end."""
    match manner:
        case Manner.CUT:
            lane.cut(struck)
            lane.tower.release_all()
        case Manner.STOP:
            await _stop_for_a_while(lane, struck)
        case Manner.KILL:
            await _kill(lane, struck)
        case Manner.TERM:
            await _end(lane, struck)


async def _stop_for_a_while(lane: Lane, struck: Struck) -> None:
    _send(lane, struck, signal.SIGSTOP)
    try:
        lane.tower.release_all()
        await asyncio.sleep(STOP_SECONDS)
    finally:
        _send(lane, struck, signal.SIGCONT)


async def _kill(lane: Lane, struck: Struck) -> None:
    _send(lane, struck, signal.SIGKILL)
    await _ended(lane, struck)
    lane.tower.release_all()
    await _start_again(lane, struck)


async def _end(lane: Lane, struck: Struck) -> None:
    """PostgreSQL told to end waits for who is connected; then it is told again, more firmly, as pg_ctl does."""
    _send(lane, struck, signal.SIGTERM)
    lane.tower.release_all()
    if struck is Struck.POSTGRES:
        await asyncio.sleep(OUTAGE_SECONDS)
        _send(lane, struck, signal.SIGINT)
    await _ended(lane, struck)
    await _start_again(lane, struck)


async def _ended(lane: Lane, struck: Struck) -> None:
    async with asyncio.timeout(_END_SECONDS):
        await lane.children[struck].ended.wait()


async def _start_again(lane: Lane, struck: Struck) -> None:
    if struck in _SERVERS:
        await asyncio.sleep(OUTAGE_SECONDS)
        await lane.start_server(struck)
    else:
        await lane.start_program(struck)


def _send(lane: Lane, struck: Struck, number: signal.Signals) -> None:
    """PostgreSQL is many programs: killed and stopped are all of them, told to end is the first."""
    if struck is not Struck.POSTGRES or number in (signal.SIGTERM, signal.SIGINT):
        lane.children[struck].send(number)
        return
    for pid in lane.postgres_pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
