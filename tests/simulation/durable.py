"""Temporal as far as the product can see it: durable runs of the real workflows, attempts that get lost, and timers."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    RetryState,
    TimeoutType,
    WorkflowAlreadyStartedError,
)
from temporalio.exceptions import (
    TimeoutError as TimedOut,
)
from temporalio.workflow import _Runtime

from activities.messages import Order, RunState, Telling
from tests.simulation.loop import SimulatedLoop
from tests.simulation.programs import Gates
from topup.keys import telling_id, workflow_id
from workflows.ids import TASK_QUEUE
from workflows.policies import Options
from workflows.telling import TellOwner
from workflows.top_up import TopUp

RUN: ContextVar["Run"] = ContextVar("run")
_SINGLE = ("Check.check", "Draw.draw")
"""What the system must never try again (R20)."""
_STORIES: Mapping[str, type[TopUp] | type[TellOwner]] = {"TopUp.run": TopUp, "TellOwner.run": TellOwner}


@dataclass(eq=False, slots=True)
class Activity:
    """One call of a deed by a run: queued, taken up by a worker, tried again or not, and answered once."""

    number: int
    run: "Run"
    name: str
    argument: Any
    options: Options
    answer: asyncio.Future[Any]
    attempt: int = 0
    taken_up: bool = False
    over: bool = False
    outcome: Any = None
    failure: FailureError | None = None
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    async def result(self) -> Any:
        """The answer, once the run gets it."""
        outcome = await self.answer
        if isinstance(outcome, FailureError):
            raise outcome
        return outcome

    def tell(self) -> None:
        """Let the run have the answer."""
        if not self.answer.done():
            self.answer.set_result(self.outcome)


@dataclass(frozen=True, slots=True)
class Answered:
    """A run has got the answer to the activity that it scheduled as its n-th, counted from nought."""

    place: int
    outcome: Any


@dataclass(frozen=True, slots=True)
class TimeWasUp:
    """A run has waited in vain, in the condition that it set as its n-th, counted from nought."""

    place: int


@dataclass(frozen=True, slots=True)
class Canceled:
    """A run has been asked to end."""


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A run has started another one."""


Heard = Answered | TimeWasUp | Canceled | ChildStarted
"""What is in a run's history beside what follows from its code."""


@dataclass(eq=False, slots=True)
class Condition:
    """What a run waits for."""

    place: int
    holds: Callable[[], bool]
    waiting: asyncio.Future[bool]
    """True once it holds, False once the time is up."""
    timer: asyncio.TimerHandle | None = None

    def end(self, *, held: bool) -> None:
        """Let the run go on."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.waiting.done():
            self.waiting.set_result(held)


@dataclass(eq=False, slots=True)
class Run:
    """One run of a workflow; its code is never interrupted by a crash, only by an operator."""

    id: str
    story: str
    argument: Any
    replayed: Sequence[Heard] = ()
    """The history that a reset run begins with, in its order."""
    asked_to_end: bool = False
    """An operator has canceled it before any worker has taken it up."""
    begun: bool = False
    closed: bool = False
    reason: str | None = None
    """Why an operator has canceled it."""
    heard: list[Heard] = field(default_factory=list)
    activities: list[Activity] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    conditions_set: int = 0
    result: Any = None

    def remembered_answer(self, place: int) -> Answered | None:
        """The answer to the activity in this place, if it is in the history that it began with."""
        return next((one for one in self.replayed if isinstance(one, Answered) and one.place == place), None)

    def next_child_is_remembered(self) -> bool:
        """Whether the next run that it starts is one that it began with."""
        before = sum(isinstance(one, ChildStarted) for one in self.heard)
        return before < sum(isinstance(one, ChildStarted) for one in self.replayed)


@dataclass(eq=False)
class Server:
    """Every run, what is queued for workers, and which answers the runs have still to get."""

    loop: SimulatedLoop
    runs: dict[str, Run] = field(default_factory=dict)
    ever_started: set[str] = field(default_factory=set)
    """The names of all runs, also of those that an operator has deleted."""
    queue: list[Activity] = field(default_factory=list)
    news: list[Run | Activity] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Workflow code that failed: it never may."""

    def __post_init__(self) -> None:
        """Be what workflow code on this loop talks to."""
        self._numbers = count(1)
        self.loop.adopt = self._adopt
        _Runtime.set_on_loop(self.loop, _Temporal(self))  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------------------ runs

    def start(self, run_id: str, story: str, argument: Any, *, again: bool) -> None:
        """Start a run; `again`: a closed one may be followed. Raises WorkflowAlreadyStartedError."""
        known = self.runs.get(run_id)
        if known is not None and not (known.closed and again):
            raise WorkflowAlreadyStartedError(run_id, story)
        self._queue_run(Run(run_id, story, argument))

    def reset(self, run: Run, kept: int) -> None:
        """Run it anew, from the first `kept` things that it has heard."""
        if not run.closed:
            self.terminate(run)
        self._queue_run(Run(run.id, run.story, run.argument, run.heard[:kept]))

    def terminate(self, run: Run) -> None:
        """Stop it where it is: none of its code runs any more."""
        run.closed = True
        self.queue = [activity for activity in self.queue if activity.run is not run]
        self.news = [one for one in self.news if one is not run and getattr(one, "run", None) is not run]
        for activity in run.activities:
            self._end(activity)
        for condition in run.conditions:
            if condition.timer is not None:
                condition.timer.cancel()
        for task in run.tasks:
            task.cancel()
        self.loop.settle()

    def cancel(self, run: Run) -> None:
        """Ask it to end; one that has not begun hears of it after all that is in its history."""
        if run.begun:
            self._stop(run)
            self.loop.settle()
        else:
            run.asked_to_end = True

    def delete(self, run: Run) -> None:
        """Terminate it if it runs, and forget that it ever was."""
        if not run.closed:
            self.terminate(run)
        del self.runs[run.id]

    def hear(self, news: Run | Activity) -> None:
        """Let a run go on with what is new for it."""
        self.news.remove(news)
        if isinstance(news, Activity):
            self._tell(news)
        else:
            self._begin(news)

    def check_conditions(self) -> None:
        """Let those runs go on that wait for something that is so by now."""
        for run in list(self.runs.values()):
            self._check_conditions_of(run)
        self.loop.settle()

    def _queue_run(self, run: Run) -> None:
        self.runs[run.id] = run
        self.ever_started.add(run.id)
        self.news.append(run)

    def _begin(self, run: Run) -> None:
        run.begun = True
        context = Context()
        context.run(RUN.set, run)
        story: Any = _STORIES[run.story]()
        task = self.loop.create_task(story.run(run.argument), context=context)
        run.tasks.insert(0, task)
        task.add_done_callback(lambda done: self._close(run, done))
        self._replay(run)

    def _replay(self, run: Run) -> None:
        """Let it hear all that is in its history; a cancellation comes together with the last of it."""
        for heard in run.replayed:
            self.loop.settle()
            self._check_conditions_of(run)
            self.loop.settle()
            match heard:
                case Answered(place):
                    self._tell(run.activities[place])
                case TimeWasUp(place):
                    condition = next(one for one in run.conditions if one.place == place)
                    self._expire(run, condition)
                case Canceled():
                    self._stop(run)
                case ChildStarted():
                    """Heard again when its code starts it."""
        if run.asked_to_end:
            self._stop(run)

    def _stop(self, run: Run) -> None:
        """Let it know; a coroutine that has not begun is to begin first, as in the SDK."""
        run.heard.append(Canceled())
        run.reason = "an operator"
        self.loop.call_soon(run.tasks[0].cancel)

    def _tell(self, activity: Activity) -> None:
        run = activity.run
        run.heard.append(Answered(run.activities.index(activity), activity.outcome))
        activity.tell()

    def _check_conditions_of(self, run: Run) -> None:
        for condition in list(run.conditions):
            if condition.waiting.done() or condition.holds():
                run.conditions.remove(condition)
                condition.end(held=True)

    def _expire(self, run: Run, condition: Condition) -> None:
        if not run.closed and condition in run.conditions:
            run.conditions.remove(condition)
            run.heard.append(TimeWasUp(condition.place))
            condition.end(held=False)

    def wait(self, holds: Callable[[], bool], seconds: float | None) -> "asyncio.Future[bool]":
        """Let the asking run wait until something is so, or the time is up."""
        run = RUN.get()
        condition = Condition(run.conditions_set, holds, self.loop.create_future())
        run.conditions_set += 1
        run.conditions.append(condition)
        if seconds is not None:
            condition.timer = self.loop.call_later(seconds, self._expire, run, condition)
        return condition.waiting

    def start_child(self, run_id: str, story: str, argument: Any) -> None:
        """Let the asking run start another, unless its history says that it has. Raises as `start` does."""
        run = RUN.get()
        if not run.next_child_is_remembered():
            self.start(run_id, story, argument, again=True)
        run.heard.append(ChildStarted())

    def _close(self, run: Run, task: asyncio.Task[Any]) -> None:
        if run.closed:
            return
        run.closed = True
        if task.cancelled() or task.exception() is not None:
            self.broken.append(f"{run.id}: {'canceled' if task.cancelled() else task.exception()!r}")
        else:
            run.result = task.result()

    def _adopt(self, task: asyncio.Task[Any]) -> None:
        run = RUN.get(None)
        if run is not None:
            run.tasks.append(task)

    # ------------------------------------------------------------------------------------------------ activities

    def schedule(self, deed: Any, argument: Any, options: Options, name: str | None) -> Activity:
        """A run asks for a deed; one that its history has an answer of is answered from there."""
        run = RUN.get()
        if run.closed:
            raise asyncio.CancelledError
        qualified = deed.__qualname__ + (f"[{name}]" if name else "")
        activity = Activity(next(self._numbers), run, qualified, argument, options, self.loop.create_future())
        run.activities.append(activity)
        place = len(run.activities) - 1
        remembered = run.remembered_answer(place)
        if remembered is not None:
            activity.over, activity.outcome = True, remembered.outcome
            return activity
        self.queue.append(activity)
        self._set_timer(
            activity,
            options.get("schedule_to_start_timeout"),
            self._not_taken_up,
            TimeoutType.SCHEDULE_TO_START,
        )
        self._set_timer(
            activity, options.get("schedule_to_close_timeout"), self._fail, TimeoutType.SCHEDULE_TO_CLOSE
        )
        return activity

    def take_up(self, activity: Activity) -> int:
        """A worker has taken it from the queue; the number of the attempt."""
        self.queue.remove(activity)
        activity.taken_up, activity.attempt = True, activity.attempt + 1
        attempt = activity.attempt
        if attempt > 1 and activity.name.startswith(_SINGLE):
            self.broken.append(f"{activity.name} of {activity.run.id} is tried again")
        patience = activity.options.get("start_to_close_timeout")
        if patience is not None:
            late = self.loop.call_later(patience.total_seconds(), self._too_late, activity, attempt)
            activity.timers.append(late)
        return attempt

    def complete(self, activity: Activity, attempt: int, outcome: Any) -> None:
        """A worker reports; nobody listens any more to an attempt that was given up."""
        if activity.over or not activity.taken_up or attempt != activity.attempt:
            return
        if not isinstance(outcome, Exception):
            self._answer(activity, outcome)
        elif isinstance(outcome, ApplicationError):
            self._retry(activity, outcome, outcome.next_retry_delay)
        else:
            self._retry(activity, ApplicationError(str(outcome), type=type(outcome).__name__), None)

    def _too_late(self, activity: Activity, attempt: int) -> None:
        if not activity.over and activity.taken_up and attempt == activity.attempt:
            self._retry(activity, _timed_out(TimeoutType.START_TO_CLOSE), None)

    def _not_taken_up(self, activity: Activity, kind: TimeoutType) -> None:
        if not activity.attempt:
            self._fail(activity, kind)

    def _retry(self, activity: Activity, failure: FailureError, pause: timedelta | None) -> None:
        activity.failure = failure
        policy = activity.options["retry_policy"]
        if policy.maximum_attempts == activity.attempt:
            self._answer(activity, _failed(activity, failure, RetryState.MAXIMUM_ATTEMPTS_REACHED))
            return
        activity.taken_up = False
        longest = policy.maximum_interval or timedelta(seconds=15)
        grown = policy.initial_interval * 2 ** min(activity.attempt - 1, 10)
        seconds = (pause or min(longest, grown)).total_seconds()
        activity.timers.append(self.loop.call_later(seconds, self._queue_again, activity))

    def _queue_again(self, activity: Activity) -> None:
        if not activity.over and not activity.taken_up and activity not in self.queue:
            self.queue.append(activity)

    def _fail(self, activity: Activity, kind: TimeoutType) -> None:
        if not activity.over:
            cause = activity.failure or _timed_out(kind)
            self._answer(activity, _failed(activity, cause, RetryState.TIMEOUT))

    def _answer(self, activity: Activity, outcome: Any) -> None:
        self._end(activity)
        activity.outcome = outcome
        if not activity.run.closed:
            self.news.append(activity)

    def _end(self, activity: Activity) -> None:
        activity.over = True
        if activity in self.queue:
            self.queue.remove(activity)
        for timer in activity.timers:
            timer.cancel()

    def _set_timer(
        self,
        activity: Activity,
        patience: timedelta | None,
        then: Callable[[Activity, TimeoutType], None],
        kind: TimeoutType,
    ) -> None:
        if patience is not None:
            seconds = patience.total_seconds()
            activity.timers.append(self.loop.call_later(seconds, then, activity, kind))


def _timed_out(kind: TimeoutType) -> TimedOut:
    return TimedOut("timed out", type=kind, last_heartbeat_details=[])


def _failed(activity: Activity, cause: FailureError, state: RetryState) -> ActivityError:
    error = ActivityError(
        "activity failed",
        scheduled_event_id=activity.number,
        started_event_id=activity.number,
        identity="worker",
        activity_type=activity.name,
        activity_id=str(activity.number),
        retry_state=state,
    )
    error.__cause__ = cause
    return error


class _Temporal:
    """What `temporalio.workflow` calls on behalf of workflow code."""

    logger_details: Mapping[str, Any] = {}

    def __init__(self, server: Server) -> None:
        self._server = server

    def workflow_start_activity(self, activity: Any, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
        kept = Options(**{name: options[name] for name in Options.__annotations__ if options.get(name)})  # type: ignore[typeddict-item]
        argument = arguments[0] if arguments else None
        asked = self._server.schedule(activity, argument, kept, options.get("activity_id"))
        return self._server.loop.create_task(asked.result())

    async def workflow_wait_condition(
        self,
        holds: Callable[[], bool],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 Temporal's name
        **_: Any,
    ) -> None:
        if not await self._server.wait(holds, timeout):
            raise TimeoutError

    async def workflow_start_child_workflow(
        self,
        workflow: Any,
        argument: Any,
        *,
        id: str,  # noqa: A002 Temporal's name
        **_: Any,
    ) -> None:
        self._server.start_child(id, workflow.__qualname__, argument)

    def workflow_cancellation_reason(self) -> str | None:
        return RUN.get().reason

    def workflow_info(self) -> SimpleNamespace:
        return SimpleNamespace(task_queue=TASK_QUEUE)

    def workflow_set_current_details(self, details: str) -> None:
        """Only people read them."""

    def workflow_upsert_search_attributes(self, *_: Any, **__: Any) -> None:
        """Only people look for them."""

    def workflow_is_replaying(self) -> bool:
        return True

    def workflow_is_replaying_history_events(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class SimulatedRuns:
    """Fulfils the Runs port as `starter.runs` does, over calls that may not come through or lose their answer."""

    server: Server
    gates: Gates

    async def start(self, order: Order) -> None:
        """Start the top-up's run; one of that id is left alone."""
        answered = await self.gates.call("start run")
        with suppress(WorkflowAlreadyStartedError):
            self.server.start(workflow_id(order.top_up_id), "TopUp.run", order, again=False)
        self._lose(answered)

    async def state(self, top_up_id: str) -> RunState:
        """What has become of it."""
        answered = await self.gates.call("describe run")
        run = self.server.runs.get(workflow_id(top_up_id))
        self._lose(answered)
        if run is None:
            return RunState.MISSING
        return RunState.CLOSED if run.closed else RunState.RUNNING

    async def tell(self, telling: Telling) -> bool:
        """Go on trying to deliver; False while somebody is at it."""
        if telling.top_up_id and await self.state(telling.top_up_id) is RunState.RUNNING:
            return False
        answered = await self.gates.call("start telling")
        try:
            run_id = telling_id(telling.about, telling.kind)
            self.server.start(run_id, "TellOwner.run", telling, again=True)
        except WorkflowAlreadyStartedError:
            return False
        finally:
            self._lose(answered)
        return True

    @staticmethod
    def _lose(answered: bool) -> None:
        if not answered:
            message = "the answer was lost"
            raise ConnectionError(message)
