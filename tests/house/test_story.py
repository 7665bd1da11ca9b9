"""The story's own discipline: two retry policies, every call through them, and nothing that skips the settling."""

import ast
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.common import RetryPolicy

from activities.messages import Patience
from tests.house.building import ROOT, shown, sources, tree_of
from workflows import policies

POLICIES = ROOT / "workflows" / "policies.py"
MOVING_OR_CHECKING = {"Draw.draw": "drawing", "Check.check": "checking"}
SKIPPING = {
    "execution_timeout",
    "run_timeout",
    "retry_policy",
    "start_to_close_timeout",
    "schedule_to_close_timeout",
}


def calls(path: Path) -> Iterator[ast.Call]:
    """Every call in the file."""
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


def activity_calls() -> Iterator[tuple[Path, ast.Call]]:
    """Every call of an activity from a workflow."""
    for path in sources("workflows"):
        for call in calls(path):
            name = ast.unparse(call.func)
            if name.startswith("workflow.") and "_activity" in name:
                yield path, call


def policy_of(call: ast.Call) -> str | None:
    """The function of `policies` whose options the call takes whole, if it does."""
    for keyword in call.keywords:
        if keyword.arg is None and isinstance(keyword.value, ast.Call):
            return ast.unparse(keyword.value.func).removeprefix("policies.")
    return None


@pytest.mark.rule("R20")
class TestRetryPolicies:
    def test_are_made_in_one_place_only(self) -> None:
        made = {
            shown(path)
            for path in sources()
            for call in calls(path)
            if ast.unparse(call.func).endswith("RetryPolicy")
        }

        assert made == {shown(POLICIES)}

    def test_are_two_and_named(self) -> None:
        named = {name for name, value in vars(policies).items() if isinstance(value, RetryPolicy)}

        assert named == {"SINGLE_ATTEMPT", "BOOKKEEPING"}
        assert policies.SINGLE_ATTEMPT.maximum_attempts == 1
        assert policies.BOOKKEEPING.maximum_attempts == 0

    def test_are_given_to_every_call_of_an_activity(self) -> None:
        offered = {name for name, value in vars(policies).items() if callable(value)}

        for path, call in activity_calls():
            assert policy_of(call) in offered, f"{shown(path)}:{call.lineno}"
            assert not {keyword.arg for keyword in call.keywords} & SKIPPING, f"{shown(path)}:{call.lineno}"

    def test_try_the_check_and_the_draws_once_and_nothing_else(self) -> None:
        found = {ast.unparse(call.args[0]): policy_of(call) for _, call in activity_calls()}

        once = {deed: policy for deed, policy in found.items() if policy in MOVING_OR_CHECKING.values()}
        assert once == MOVING_OR_CHECKING

    def test_of_check_and_draw_are_single_attempts_and_of_the_rest_are_not(self) -> None:
        patience = Patience()

        assert policies.drawing(patience)["retry_policy"] is policies.SINGLE_ATTEMPT
        assert policies.checking(patience)["retry_policy"] is policies.SINGLE_ATTEMPT
        telling = policies.notifying(timedelta(hours=1), task_queue="tidemark-email")
        for options in (policies.bookkeeping(), telling, policies.sweeping()):
            assert options["retry_policy"] is policies.BOOKKEEPING


@pytest.mark.rule("R7")
class TestTheEnd:
    def test_is_not_cut_short_by_a_timeout_or_doubled_by_a_retry_of_the_workflow(self) -> None:
        for path in (*sources("workflows"), *sources("starter")):
            for call in calls(path):
                if ast.unparse(call.func).rpartition(".")[2] in {
                    "start_workflow",
                    "execute_workflow",
                    "start_child_workflow",
                    "execute_child_workflow",
                    "ScheduleActionStartWorkflow",
                }:
                    named = {keyword.arg for keyword in call.keywords}
                    assert not named & SKIPPING, f"{shown(path)}:{call.lineno}"

    def test_is_not_written_as_a_finally_which_also_runs_on_bugs_and_evictions(self) -> None:
        for path in sources("workflows"):
            for node in ast.walk(tree_of(path)):
                assert not (isinstance(node, ast.Try) and node.finalbody), f"{shown(path)}:{node.lineno}"
