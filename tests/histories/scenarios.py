"""The kinds of runs worth keeping: one scenario for each way a top-up can go."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from temporalio.client import WorkflowHandle

from runtime.patience import patience_of
from tests.builders import Household
from tests.stories.accounts import EmptiedMeanwhile, Gate, Unknowable
from tests.stories.town import Town
from topup.keys import telling_id
from workflows.sweep import SweepOpenTopUps

Run = WorkflowHandle[Any, Any]
Scenario = Callable[[Town], Awaitable[Run]]


async def _low(town: Town, **held: str) -> Household:
    """A wallet just fallen below its line, and a rule over what its owner holds, in that order."""
    home = await town.open_household(balance="80")
    for asset, amount in held.items():
        await home.fund(amount, asset)
    await home.draw_up_rule(sources=tuple(held))
    await home.spend("45")
    return home


async def _seen_through(town: Town, home: Household) -> Run:
    async with town.worker():
        await town.see_through(home)
    return await town.handle(home)


async def completed(town: Town) -> Run:
    """The first source covers it."""
    return await _seen_through(town, await _low(town, USDT="500"))


async def waterfall(town: Town) -> Run:
    """Three sources, two of them in other assets."""
    return await _seen_through(town, await _low(town, USDT="60", BTC="0.0005", ETH="1"))


async def insufficient(town: Town) -> Run:
    """The sources together fall short."""
    return await _seen_through(town, await _low(town, USDT="60"))


async def recovered(town: Town) -> Run:
    """The wallet is no longer low at the first look."""
    home = await _low(town, USDT="500")
    await town.watch()
    await home.add("100")
    return await _seen_through(town, home)


async def refused(town: Town) -> Run:
    """One of three sources refuses."""
    home = await _low(town, USDT="60", USDC="30", USDG="500")
    await home.switch_fault("reject", "USDC")
    return await _seen_through(town, home)


async def short(town: Town) -> Run:
    """A source has less at the draw than at the check; the rest flows on."""
    home = await _low(town, USDT="100", USDC="500")
    town.accounts = EmptiedMeanwhile(town.accounts, home, "USDT", "70")
    return await _seen_through(town, home)


async def lost_answer_moved(town: Town) -> Run:
    """A draw's answer is lost after its money moved."""
    home = await _low(town, USDT="60", USDC="500")
    await home.switch_fault("answer_lost_after_moving", "USDT")
    return await _seen_through(town, home)


async def lost_answer_not_moved(town: Town) -> Run:
    """A draw's answer is lost before its money moved."""
    home = await _low(town, USDT="60", USDC="500")
    await home.switch_fault("answer_lost_before_moving", "USDT")
    return await _seen_through(town, home)


async def timed_out(town: Town) -> Run:
    """A draw hangs."""
    home = await _low(town, USDT="60", USDC="500")
    await home.switch_fault("hang", "USDT")
    return await _seen_through(town, home)


async def told_being_checked(town: Town) -> Run:
    """A draw stays unknown so long that the owner is told."""
    home = await _low(town, USDT="500")
    town.accounts = unknowable = Unknowable(town.accounts)
    _be_impatient(town, tell_checking=timedelta(milliseconds=100))
    told = asyncio.Event()
    town.channels["email"].on_sent = told.set
    async with town.worker():
        await town.watch()
        await asyncio.wait_for(told.wait(), timeout=30)
        unknowable.known = True
        await town.see_through(home)
    return await town.handle(home)


async def cancelled_between_draws(town: Town) -> Run:
    """An operator cancels while the first of two draws is under way."""
    home = await _low(town, USDT="60", USDC="500")
    town.accounts = gate = Gate(town.accounts, rank=1, after_moving=False)
    async with town.worker():
        await town.watch()
        await asyncio.wait_for(gate.reached.wait(), timeout=30)
        run = await town.handle(home)
        await run.cancel()
        gate.opened.set()
        await run.result()
    return run


async def cancelled_before_the_check(town: Town) -> Run:
    """An operator cancels before any worker has taken the run up."""
    home = await _low(town, USDT="500")
    await town.watch()
    await (await town.handle(home)).cancel()
    return await _seen_through(town, home)


async def undelivered(town: Town) -> Run:
    """The mail cannot be delivered now; another run goes on trying."""
    home = await _low(town, USDT="500")
    town.channels["email"].refusal = ConnectionError("mail server down")
    _be_impatient(town, notify=timedelta(milliseconds=300))
    async with town.worker():
        top_up = await town.see_through(home)
        town.channels["email"].refusal = None
        await town.client.get_workflow_handle(telling_id(top_up.id, "ended")).result()
    return await town.handle(home)


async def telling(town: Town) -> Run:
    """The run that goes on trying, until the time is up and the delivery is given up."""
    home = await _low(town, USDT="500")
    town.channels["email"].refusal = ConnectionError("mail server down")
    _be_impatient(town, notify=timedelta(milliseconds=300), notify_give_up=timedelta(seconds=1))
    async with town.worker():
        top_up = await town.see_through(home)
        run = town.client.get_workflow_handle(telling_id(top_up.id, "ended"))
        await run.result()
    return run


async def sweep(town: Town) -> Run:
    """A sweep settles a top-up whose run was terminated."""
    home = await _low(town, USDT="500")
    await town.watch()
    await (await town.handle(home)).terminate("a scenario")
    async with town.worker():
        run = await town.client.start_workflow(
            SweepOpenTopUps.run, id=f"sweep/{town.settings.task_queue}", task_queue=town.settings.task_queue
        )
        await run.result()
    return run


def _be_impatient(town: Town, **changes: timedelta) -> None:
    town.watcher.patience = patience_of(town.settings).model_copy(update=changes)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        scenario.__name__: scenario
        for scenario in (
            completed,
            waterfall,
            insufficient,
            recovered,
            refused,
            short,
            lost_answer_moved,
            lost_answer_not_moved,
            timed_out,
            told_being_checked,
            cancelled_between_draws,
            cancelled_before_the_check,
            undelivered,
            telling,
            sweep,
        )
    }
)
