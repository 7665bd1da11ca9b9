"""Every golden history replays with today's workflows, without any server."""

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.histories.changed import ChangedTopUp
from tests.histories.scenarios import SCENARIOS
from worker import WORKFLOWS
from workflows.sweep import SweepOpenTopUps
from workflows.telling import TellOwner

GOLDEN = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "golden").glob("*.json"))}


def replayer() -> Replayer:
    """A replayer that knows what production knows."""
    return Replayer(workflows=list(WORKFLOWS), data_converter=pydantic_data_converter)


class TestGoldenHistories:
    @pytest.mark.parametrize("name", GOLDEN)
    async def test_each_replays(self, name: str) -> None:
        history = WorkflowHistory.from_json(name, GOLDEN[name])

        await replayer().replay_workflow(history)

    async def test_a_changed_order_of_steps_is_noticed(self) -> None:
        events = json.loads(GOLDEN["completed"])
        for event in events["events"]:
            attributes = event.get("activityTaskScheduledEventAttributes")
            if attributes and attributes["activityType"]["name"] == "check":
                attributes["activityType"]["name"] = "settle"
        history = WorkflowHistory.from_json("changed", json.dumps(events))

        with pytest.raises(NondeterminismError):
            await replayer().replay_workflow(history)

    @pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - {"sweep", "telling"}))
    async def test_a_build_that_takes_the_steps_in_another_order_is_noticed_on_each(self, name: str) -> None:
        newer = Replayer(
            workflows=[ChangedTopUp, TellOwner, SweepOpenTopUps], data_converter=pydantic_data_converter
        )

        with pytest.raises(NondeterminismError):
            await newer.replay_workflow(WorkflowHistory.from_json(name, GOLDEN[name]))

    def test_every_scenario_has_one(self) -> None:
        assert set(SCENARIOS) <= set(GOLDEN)
