"""With keys, Temporal keeps nothing of a top-up that it could tell; with the right ones, everything goes on."""

import asyncio
import re
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from runtime.payload_keys import PayloadKeys
from runtime.payloads import KEY_ID, converter_of
from starter.schedule import ensure_sweep
from tests.builders import Household, open_household
from tests.outages.product import until
from tests.security.conftest import OpenSealed, client_with
from tests.security.keys import keys, payloads_in, text_of
from tests.stories.town import Town
from topup.keys import telling_id, workflow_id
from worker import WORKFLOWS
from workflows.ids import SWEEP_ID

NAME = "Zebulon Quickfeather"
# Long enough, or of such letters, that they do not come about by chance in what is encrypted.
TELLING = re.compile(
    r"Zebulon|Quickfeather|100\.00|35\.00|60\.00|\"USDT\"|\d\. USDT|funding|threshold|wallet_id|mailbox|Traceback"
)


async def low_household(town: Town) -> Household:
    """Somebody whose next spend fires: two sources, 60 USDT and then BTC."""
    home = await open_household(town.database, balance="80", name=NAME)
    await home.fund("60", "USDT")
    await home.fund("0.01", "BTC")
    await home.draw_up_rule(sources=("USDT", "BTC"))
    return home


async def history_of(client: Client, run: str) -> WorkflowHistory:
    """A run's history as Temporal keeps it; nothing in it is decoded."""
    return await client.get_workflow_handle(run).fetch_history()


async def raw_description(temporal: WorkflowEnvironment, run: str) -> str:
    """Everything that Temporal's lists and pages are made from, as it is kept."""
    described = await temporal.client.get_workflow_handle(run).describe()
    listed = [item.raw_info async for item in temporal.client.list_workflows(f"WorkflowId = '{run}'")]
    return f"{described.raw_description}{listed}"


def readable(kept: str) -> set[str]:
    """What in there should not be readable. Search attributes hold ids and closed words alone."""
    return set(TELLING.findall(kept))


class TestARunWithKeys:
    async def test_tells_temporal_nothing_and_its_operators_everything(
        self, open_sealed: OpenSealed, temporal: WorkflowEnvironment
    ) -> None:
        async with open_sealed(keys("2026")) as town, town.worker():
            home = await low_household(town)
            await home.spend("45")
            top_up = await town.see_through(home)
            run = workflow_id(top_up.id)
            history = await history_of(town.client, run)
            description = await town.client.get_workflow_handle(run).describe()
            summary, details = await description.static_summary(), await description.static_details()
            told = await town.client.get_workflow_handle(run).query("__temporal_workflow_metadata")
            ended = await (await town.handle(home)).result()

        assert top_up.outcome == "completed"
        assert readable(text_of(history)) == set()
        assert readable(await raw_description(temporal, run)) == set()
        assert {payload.metadata[KEY_ID] for payload in payloads_in(history)} == {b"2026"}
        assert (
            summary
            == "Top up Zebulon Quickfeather's wallet with 100.00 USDT: balance 35.00 USDT fell below 50.00 USDT"
        )
        assert details is not None
        assert "1. USDT" in details
        assert "100.00 USDT" in str(told)
        assert ended.credited == "100.00 USDT"

    async def test_replays_with_its_key(self, open_sealed: OpenSealed) -> None:
        async with open_sealed(keys("2026")) as town, town.worker():
            home = await low_household(town)
            await home.spend("45")
            top_up = await town.see_through(home)
            history = await history_of(town.client, workflow_id(top_up.id))

        replayer = Replayer(workflows=list(WORKFLOWS), data_converter=converter_of(keys("2027", "2026")))
        await replayer.replay_workflow(history)

    async def test_is_not_replayed_as_another_one(
        self, open_sealed: OpenSealed, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_sealed(keys("2026")) as town, town.worker():
            home = await low_household(town)
            await home.spend("45")
            top_up = await town.see_through(home)
            history = await history_of(town.client, workflow_id(top_up.id))

        replayer = Replayer(workflows=list(WORKFLOWS), data_converter=converter_of(keys("2026")))
        moved = WorkflowHistory(workflow_id("topup_another"), history.events)
        with pytest.raises(RuntimeError, match="PayloadNotGenuine"):
            await replayer.replay_workflow(moved)
        assert "somebody has moved it" in caplog.text

    async def test_goes_through_doubt_failures_and_telling_without_a_word(
        self, open_sealed: OpenSealed, temporal: WorkflowEnvironment
    ) -> None:
        async with open_sealed(keys("2026")) as town, town.worker():
            town.channels["email"].refusal = RuntimeError(f"{NAME}'s mailbox is full")
            home = await low_household(town)
            await home.switch_fault("answer_lost_after_moving", "USDT")
            await home.spend("45")
            top_up = await town.see_through(home)
            run, telling = workflow_id(top_up.id), telling_id(top_up.id, "ended")
            refused = asyncio.Event()
            town.channels["email"].on_refused = refused.set
            await asyncio.wait_for(refused.wait(), 30)
            pending = await raw_description(temporal, telling)
            town.channels["email"].refusal = None
            await town.client.get_workflow_handle(telling).result()
            histories = [await history_of(town.client, name) for name in (run, telling)]

        assert top_up.outcome == "completed"
        assert "look-up-1" in histories[0].to_json()
        assert [readable(text_of(history)) for history in histories] == [set(), set()]
        assert readable(pending) == set()

    async def test_sweeps_with_its_schedule(self, open_sealed: OpenSealed) -> None:
        async with open_sealed(keys("2026")) as town, town.worker():
            await ensure_sweep(town.client, task_queue=town.settings.task_queue, every=timedelta(days=1))
            schedule = town.client.get_schedule_handle(SWEEP_ID)
            try:
                await schedule.trigger()
                report = await swept(town.client, town.settings.task_queue)
            finally:
                await schedule.delete()

        assert "settled" in report


async def swept(client: Client, task_queue: str) -> str:
    """What the scheduled sweep answered, once it has."""
    query = f"TaskQueue = '{task_queue}' AND WorkflowType = 'Sweep'"

    async def ids() -> list[str]:
        return [found.id async for found in client.list_workflows(query)]

    return str(await client.get_workflow_handle((await until(ids))[0]).result())


class TestKeysThatRotate:
    async def test_keep_a_run_going_that_was_begun_with_the_old_one(self, open_sealed: OpenSealed) -> None:
        async with open_sealed(keys("2026")) as town:
            home = await low_household(town)
            await home.spend("45")
            await town.watch()
            town.client = client_with(keys("2027", "2026"), town.client)
            async with town.worker():
                ended = await (await town.handle(home)).result()
            run = workflow_id((await home.top_ups())[-1].id)
            used = {payload.metadata[KEY_ID] for payload in payloads_in(await history_of(town.client, run))}

        assert ended.outcome == "completed"
        assert used == {b"2026", b"2027"}

    async def test_keep_a_run_going_that_was_begun_before_there_were_any(
        self, open_sealed: OpenSealed
    ) -> None:
        async with open_sealed(PayloadKeys()) as town:
            home = await low_household(town)
            await home.spend("45")
            await town.watch()
            town.client = client_with(keys("2026"), town.client)
            async with town.worker():
                ended = await (await town.handle(home)).result()

        assert ended.outcome == "completed"

    async def test_hold_a_run_up_whose_key_is_missing_and_let_it_go_on_once_it_is_there(
        self, open_sealed: OpenSealed, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_sealed(keys("2026")) as town:
            home = await low_household(town)
            await home.spend("45")
            await town.watch()
            town.client = client_with(keys("2027"), town.client)
            async with town.worker():
                await workflow_task_failed(town, home)
            held_up = (await home.rule()).locked_by
            town.client = client_with(keys("2027", "2026"), town.client)
            async with town.worker():
                ended = await (await town.handle(home)).result()

        assert held_up == (await home.top_ups())[-1].id
        assert "the key '2026', which this program does not have: add that key" in caplog.text
        assert ended.outcome == "completed"
        assert await home.balance() == "135.00"


async def workflow_task_failed(town: Town, home: Household) -> None:
    """Wait until a worker has given the newest run up for the moment."""
    handle = await town.handle(home)

    async def failed() -> bool:
        return "WORKFLOW_TASK_FAILED" in (await handle.fetch_history()).to_json()

    await until(failed)
