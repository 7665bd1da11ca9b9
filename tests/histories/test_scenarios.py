"""Each scenario, played on real servers, takes the steps its golden history took; `--record` keeps new ones."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from tests.histories.scenarios import SCENARIOS, Scenario
from tests.stories.town import Town

_WORKER = re.compile(r"\d+@[\w.-]+")
FOLDER = Path(__file__).parent / "golden"


def steps(history: WorkflowHistory) -> list[str]:
    """What the run scheduled, in order: activities by name, child runs by type, timers."""
    return [step for event in history.events if (step := _step(event)) is not None]


def _step(event: HistoryEvent) -> str | None:
    match event.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            return event.activity_task_scheduled_event_attributes.activity_type.name
        case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            return event.start_child_workflow_execution_initiated_event_attributes.workflow_type.name
        case EventType.EVENT_TYPE_TIMER_STARTED:
            return "timer"
        case _:
            return None


def portable(history: WorkflowHistory) -> str:
    """The history as text, without what only says on which machine it was recorded."""
    return json.dumps(_without_place(json.loads(history.to_json())), indent=1) + "\n"


def _without_place(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_place(inner) for inner in part]
    if isinstance(part, str) and "@" in part:
        return _WORKER.sub("worker@recorded", part)
    if isinstance(part, dict):
        return {name: _without_place(inner) for name, inner in part.items() if name != "stackTrace"}
    return part


class TestScenarios:
    @pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
    async def test_each_takes_the_steps_of_its_golden_history(
        self, idle_town: Town, scenario: Scenario, request: pytest.FixtureRequest
    ) -> None:
        golden = FOLDER / f"{scenario.__name__}.json"

        run = await scenario(idle_town)
        history = await idle_town.client.get_workflow_handle(run.id).fetch_history()
        if request.config.getoption("--record"):
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(portable(history))

        assert steps(history) == steps(WorkflowHistory.from_json(run.id, golden.read_text()))
