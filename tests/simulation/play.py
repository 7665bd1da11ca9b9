"""One seed played: who goes on, who crashes, what is lost, doubled or late is decided step by step by its dice."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any
from unittest.mock import patch

from structlog.testing import capture_logs
from temporalio.testing import ActivityEnvironment

from activities.check import Check
from activities.draw import Draw
from activities.hold import Hold
from activities.messages import Patience
from activities.notify import Notify
from activities.settle import Settle
from activities.sweep import Sweep
from adapters.postgres.database import Database
from adapters.postgres.deliveries import DeliveryRecords
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.top_ups import TopUpRecords
from starter.watcher import Watcher
from tests.outages.invariants import assert_invariants
from tests.simulation import stage
from tests.simulation.clocks import simulated_clocks
from tests.simulation.durable import Activity, Run, Server, SimulatedRuns
from tests.simulation.lanes import Stuck, Yard
from tests.simulation.loop import SimulatedLoop
from tests.simulation.people import People
from tests.simulation.ports import Post, SeenAccounts, SeenDeliveries, SeenTopUps, doing
from tests.simulation.programs import ACT, PROGRAM, Act, Crashed, Gates, Kind, Point, Program, Verdict
from tests.simulation.witness import Witness
from topup.keys import workflow_id

PATIENCE = Patience(notify_give_up=timedelta(minutes=10))
GRACE = timedelta(seconds=20)
PROGRAMS = ("watcher-1", "watcher-2", "worker-1", "worker-2", "api-1", "api-2")
AT_ONCE_MAX = 14
"""How many things are under way at most."""
RESTING_MAX = 6000
"""A seed that has not come to rest after so many steps never will."""


class SeedFailed(AssertionError):
    """A seed has found something."""


@dataclass(frozen=True, slots=True)
class Temper:
    """How rough a seed is: the share of each kind of trouble."""

    crash: float
    cut: float
    lost: float
    draws: float
    """The share of draws that are cut, or whose answer is lost."""
    hands: float
    doubled: float
    hurry: float
    """How often time passes although somebody could go on."""
    still: float
    """How often a program that has a deadline of its own stands still beyond it."""
    crowd: int

    @classmethod
    def of(cls, dice: Random) -> "Temper":
        """Some seeds have none of one kind, others much."""

        def share(*shares: float) -> float:
            return dice.choice(shares)

        return cls(
            crash=share(0, 0.004, 0.02),
            cut=share(0, 0.004, 0.02),
            lost=share(0, 0.004, 0.02),
            draws=share(0, 0.3, 0.6),
            hands=share(0.01, 0.04, 0.1),
            doubled=share(0, 0.1, 0.3),
            hurry=share(0.002, 0.02, 0.06),
            still=share(0, 0.05, 0.2),
            crowd=dice.choice((4, 8, AT_ONCE_MAX)),
        )


@dataclass
class Simulation:
    """One seed on the stage."""

    yard: Yard
    loop: SimulatedLoop
    seed: int
    trace: Callable[[str], None] | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Set the stage."""
        self.loop.begin()
        self.dice = Random(self.seed)
        self.temper = Temper.of(self.dice)
        self.gates = Gates(self.loop)
        self.yard.gates = self.gates
        self.server = Server(self.loop)
        self.witness = Witness(self.yard.overseer, lambda: self.loop.now, self._has_run)
        self.yard.committed = self._committed
        self.people = People(self.dice, self.witness, self.gates)
        self.programs = {name: Program(name) for name in PROGRAMS}
        self.databases = {name: _Quiet(self.yard.engine) for name in PROGRAMS}
        self.watchers: dict[str, Watcher] = {}
        self.busy: set[str] = set()
        self.under_way = 0
        self.sent: dict[str, int] = {}
        self.steps = 0
        self.told_time = 0.0
        self.recent: deque[str] = deque(maxlen=60)
        self.digest = hashlib.sha256()
        for name in PROGRAMS:
            self._begin_program(name)

    # ------------------------------------------------------------------------------------------------- the play

    def play(self, steps: int) -> int:
        """Play at least so many steps, coming to rest in between; how many they were. Raises SeedFailed."""
        stage.sweep(self.yard.overseer, seed=self.seed, at=self.loop.now)
        try:
            with ExitStack() as around:
                self.logs = around.enter_context(capture_logs())
                around.enter_context(self.loop.entered())
                around.enter_context(simulated_clocks(self.loop, self.seed))
                self._play(steps)
        except (Stuck, AssertionError) as found:
            raise SeedFailed(self._report(found)) from found
        return self.steps

    def _play(self, steps: int) -> None:
        self._set_up()
        resting = max(150, steps // 4)
        while self.steps < steps:
            for _ in range(resting):
                self.step()
            self.come_to_rest()
        self._run_freely(assert_invariants(self.databases["api-1"]))
        self._refuse_bad_news()

    def _set_up(self) -> None:
        self.gates.open = True
        self._run_freely(self.people.move_in(self.databases["api-1"]))
        self._complain()
        self.gates.open = False

    def _run_freely(self, deed: Coroutine[Any, Any, None]) -> None:
        was_open, self.gates.open = self.gates.open, True
        context = Context()
        context.run(PROGRAM.set, Program("overseer"))
        task = self.loop.create_task(deed, context=context)
        while not task.done():
            self.loop.settle()
            if not task.done():
                self.loop.fire_timer()
        self.gates.open = was_open
        task.result()

    def step(self) -> None:
        """One decision of the dice, and all the product's code it lets run."""
        roll, temper = self.dice.random(), self.temper
        candidates = self._candidates()
        if self.under_way < temper.crowd and self.dice.random() < 0.25:
            self._begin_something()
        elif roll < temper.crash:
            self._crash()
        elif roll < temper.crash + temper.hands:
            self._lay_hands_on_a_run()
        elif not candidates or roll > 1 - temper.hurry:
            self._let_time_pass()
        else:
            self._let_on(self.dice.choice(candidates), trouble=True)
        self._after_step()

    def come_to_rest(self) -> None:
        """Without new trouble everything must end by itself."""
        begun_at = self.steps
        while not self._at_rest():
            if self.steps - begun_at > RESTING_MAX:
                message = f"does not come to rest: {self._unrest()}"
                raise Stuck(message)
            candidates = self._candidates()
            if candidates:
                chosen = self.dice.choice(candidates)
                self._let_on(chosen, trouble=_is_draw(chosen))
            elif not self._begin_what_must():
                if self.loop.next_timer() is None:
                    message = f"nothing goes on: {self._unrest()}"
                    raise Stuck(message)
                self._let_time_pass()
            self._after_step()
        self.counts["rest"] += 1
        self._note("at rest")

    def _after_step(self) -> None:
        self.steps += 1
        self.loop.tick(0.001)
        self.loop.settle()
        if self.loop.seconds - self.told_time > 0.05:
            self._tell_time()
        self.server.check_conditions()
        if self.yard.blocked and self.yard.released:
            self.yard.look_after_blocked()
        self._complain()

    def _complain(self) -> None:
        if self.witness.complaints:
            raise AssertionError("; ".join(self.witness.complaints))
        if self.server.broken:
            raise AssertionError("; ".join(self.server.broken))

    def _refuse_bad_news(self) -> None:
        bad = [entry for entry in self.logs if entry["event"] in _BAD_NEWS]
        assert not bad, bad[:2]

    # -------------------------------------------------------------------------------------------------- choosing

    def _candidates(self) -> list[Point | Run | Activity]:
        """Whoever can go on: programs, runs with news, and calls for which there is a worker."""
        points: list[Point | Run | Activity] = [
            point for point in self.gates.points if self._can_go_on(point)
        ]
        return [*points, *self.server.news, *self.server.queue]

    def _can_go_on(self, point: Point) -> bool:
        if point.lane is None:
            return True
        if point.kind is Kind.WOKEN:
            return point.lane not in self.yard.blocked
        return self.yard.may_be_sent(point.lane, point.kind, point.label)

    def _let_on(self, chosen: Point | Run | Activity, *, trouble: bool) -> None:
        if trouble and _is_draw(chosen) and self._stands_still():
            self._let_time_pass()
        elif isinstance(chosen, Point):
            self._let_point_on(chosen, self._verdict(chosen) if trouble else Verdict.GO)
        elif chosen in self.server.news:
            self._note(f"news for {_name(chosen)}")
            self.counts["workflow"] += 1
            self.server.hear(chosen)
        elif isinstance(chosen, Activity):
            self._take_up(chosen, twice=trouble and self.dice.random() < self.temper.doubled)

    def _stands_still(self) -> bool:
        """Whether the program that draws does nothing for so long that its own deadline comes too late."""
        if self.dice.random() >= self.temper.still or not self.loop.put_off_deadline(120):
            return False
        self._note("a program stands still")
        self.counts["stands still"] += 1
        return True

    def _verdict(self, point: Point) -> Verdict:
        if point.kind is Kind.WOKEN or point.label.startswith("report"):
            return Verdict.GO
        roll = self.dice.random()
        cut, lost = self._trouble_of(point)
        if roll < cut:
            return Verdict.CUT
        return Verdict.LOST if roll < cut + lost else Verdict.GO

    def _trouble_of(self, point: Point) -> tuple[float, float]:
        """What follows a draw in trouble is the heart of the matter, so it comes more often than any other.

        A call to Temporal is rare beside the statements, so it has its trouble more often than they.
        """
        if _is_draw(point):
            return self.temper.draws / 2, self.temper.draws / 2
        if point.kind is Kind.CALL:
            return 0.05 + self.temper.draws / 4, 0.05 + self.temper.draws / 4
        return self.temper.cut, self.temper.lost

    def _let_point_on(self, point: Point, verdict: Verdict) -> None:
        self._note(f"{point.program.name} {point.kind} {point.label} {verdict}")
        self.counts[point.kind if verdict is Verdict.GO else f"{point.kind} {verdict}"] += 1
        self.gates.points.remove(point)
        blocked = len(self.yard.blocked)
        if not point.future.done():
            point.future.set_result(verdict)
        self.loop.settle()
        if len(self.yard.blocked) > blocked:
            self.counts["blocked"] += 1
            self._note("... waits for a lock")

    def _let_time_pass(self) -> None:
        if self.loop.next_timer() is None:
            self.loop.tick(1)
            self.counts["time"] += 1
            return
        self.loop.fire_timer()
        self.counts["time"] += 1
        self._note("time passes")
        self.loop.settle()

    def _crash(self) -> None:
        """A program is gone, and another one begins; what it had sent last may still happen."""
        name = self.dice.choice(PROGRAMS)
        program = self.programs[name]
        points = [point for point in self.gates.points if point.program is program]
        sent = [point for point in points if point.kind in (Kind.STATEMENT, Kind.COMMIT)]
        last = self.dice.choice(sent) if sent and self.dice.random() < 0.5 else None
        where = "idle" if not points else f"after {last.kind}" if last else f"before {points[0].kind}"
        self._note(f"{name} crashes {where}{f' {last.label}' if last else ''}")
        self.counts[f"crash {where}"] += 1
        program.alive = False
        for point in points:
            self.gates.points.remove(point)
            if point.future.done():
                continue
            if point is last and self._can_go_on(point):
                point.future.set_result(Verdict.GO)
            else:
                point.future.set_exception(Crashed())
        self.loop.settle()
        self._bury(program)
        self._begin_program(name)

    def _bury(self, program: Program) -> None:
        for point in [point for point in self.gates.points if point.program is program]:
            self.gates.points.remove(point)
            point.future.set_exception(Crashed())
        self.loop.settle()
        for lane in self.yard.lanes:
            if lane.user is program:
                lane.give_up_waiting()
                lane.undo()
        self.loop.settle()

    def _lay_hands_on_a_run(self) -> None:
        """An operator at Temporal's page, where a top-up that runs is what draws the eye."""
        runs = sorted(self.server.runs.values(), key=lambda run: run.id)
        running = [run for run in runs if not run.closed and run.story == "TopUp.run"]
        seen = running or (runs[-6:] if self.dice.random() < 0.2 else [])
        if not seen:
            self.counts["idle"] += 1
            return
        run = self.dice.choice(seen)
        deed = self.dice.choice(("terminate", "cancel", "delete", "reset", "reset"))
        if run.closed and deed in ("terminate", "cancel"):
            deed = "reset"
        if deed == "cancel" and run.story != "TopUp.run":
            deed = "terminate"
        self._note(f"an operator's {deed} of {run.id}")
        self.counts[f"operator: {deed}"] += 1
        match deed:
            case "terminate":
                self.server.terminate(run)
            case "cancel":
                self.server.cancel(run)
            case "delete":
                self.server.delete(run)
            case _:
                kept = self.dice.choice((0, 1, len(run.heard), self.dice.randint(0, len(run.heard))))
                self.server.reset(run, min(kept, len(run.heard)))

    # ------------------------------------------------------------------------------------------------ beginning

    def _begin_something(self) -> None:
        roll = self.dice.random()
        if roll < 0.25:
            self._watch(self.dice.choice(PROGRAMS[:2]))
        elif roll < 0.28:
            self._sweep()
        else:
            name = self.dice.choice(PROGRAMS[4:])
            what, act, deed = self.people.do_something(self.databases[name])
            self._begin(name, f"{what}", deed, act)

    def _begin_what_must(self) -> bool:
        """What a running system does by itself in time; False when nothing is left to begin."""
        if any(wallet.waiting for wallet in self.witness.wallets.values()):
            return self._watch("watcher-1", deed="judge")
        running = [name for name, (_, top_up) in self.witness.top_ups.items() if top_up.outcome is None]
        if any(name not in self.witness.handed_over for name in running):
            return self._watch("watcher-1", deed="hand over")
        lost = [name for name in running if self._is_closed(name)]
        untold = [name for name, status in self.witness.deliveries.items() if status == "pending"]
        timer = self.loop.next_timer()
        soon = timer is not None and timer <= self.loop.seconds + GRACE.total_seconds() + 1
        if (lost and not soon) or (untold and timer is None):
            self.loop.tick(GRACE.total_seconds() + 1)
            return self._sweep()
        return False

    def _watch(self, name: str, deed: str | None = None) -> bool:
        deed = deed or self.dice.choice(("judge", "judge", "hand over"))
        label, watcher = f"{name} {deed}", self.watchers[name]
        if label in self.busy:
            self.counts["idle"] += 1
            return False
        self.busy.add(label)
        act = Act("judge" if deed == "judge" else "hand_over")
        work = watcher.judge_all() if deed == "judge" else watcher.hand_over_all()
        self._begin(name, deed, work, act, done=lambda: self.busy.discard(label))
        return True

    def _sweep(self) -> bool:
        """Sweeps may overlap."""
        name = self.dice.choice(PROGRAMS[2:4])
        deeds = self._deeds(name)
        self._begin(name, "sweep", deeds["Sweep.sweep"](), Act("nothing"))
        return True

    def _take_up(self, activity: Activity, *, twice: bool) -> None:
        """A worker takes up a call; `twice`: another one does so too, as after a lost acknowledgement."""
        attempt = self.server.take_up(activity)
        for times in range(2 if twice else 1):
            name = self.dice.choice(PROGRAMS[2:4])
            self.counts["doubled" if times else "dispatch"] += 1
            self._begin(name, activity.name, self._attempt(activity, attempt, name), Act("nothing"))

    async def _attempt(self, activity: Activity, attempt: int, name: str) -> None:
        deed = self._deeds(name)[activity.name.split("[")[0]]
        environment = ActivityEnvironment()
        environment.info = replace(
            environment.info,
            attempt=attempt,
            start_to_close_timeout=activity.options.get("start_to_close_timeout"),
        )
        outcome: Any
        try:
            outcome = await environment.run(deed, activity.argument)
        except Exception as failure:  # noqa: BLE001 as a worker does
            outcome = failure
        await self.gates.wait(Kind.CALL, f"report {activity.name}")
        self.server.complete(activity, attempt, outcome)

    def _begin(
        self,
        name: str,
        label: str,
        deed: Coroutine[Any, Any, Any],
        act: Act,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        self._note(f"{name} begins {label}")
        self.counts[f"begin: {label.split('[', maxsplit=1)[0].split(' ', maxsplit=1)[0]}"] += 1
        context = Context()
        context.run(PROGRAM.set, self.programs[name])
        context.run(ACT.set, act)
        self.under_way += 1
        task = self.loop.create_task(deed, context=context)

        def finished(ended: Any) -> None:
            self.under_way -= 1
            done()
            failure = None if ended.cancelled() else ended.exception()
            if failure is not None and not isinstance(failure, (Crashed, *self.people.bearable)):
                self.witness.complain(f"{name} {label}: {failure!r}")
            self._note(f"{name} has ended {label}{f': {type(failure).__name__}' if failure else ''}")

        task.add_done_callback(finished)
        self.loop.settle()

    def _begin_program(self, name: str) -> None:
        """A fresh program: only what it keeps in memory is lost."""
        self.programs[name] = Program(name)
        self.databases[name] = _Quiet(self.yard.engine)
        if name.startswith("watcher"):
            self.watchers[name] = Watcher(
                database=self.databases[name],
                runs=SimulatedRuns(self.server, self.gates),
                patience=PATIENCE,
                poll_interval=timedelta(seconds=1),
            )

    def _deeds(self, name: str) -> Mapping[str, Callable[..., Any]]:
        database = self.databases[name]
        accounts = SeenAccounts(LedgerAccounts(database), self.witness)
        top_ups = SeenTopUps(TopUpRecords(database, PATIENCE))
        deliveries = SeenDeliveries(DeliveryRecords(database, PATIENCE.notify_give_up))
        post = Post(self.gates, self.sent)
        draw, notify = Draw(accounts, top_ups), Notify(deliveries, {"push": post, "email": post})
        runs = SimulatedRuns(self.server, self.gates)
        deeds = (
            Hold(top_ups).hold_lock,
            Check(accounts, top_ups).check,
            draw.draw,
            draw.look_up,
            draw.note_checking,
            Settle(top_ups).settle,
            notify.notify,
            notify.give_up,
            Sweep(top_ups, accounts, deliveries, runs, GRACE).sweep,
        )
        return {deed.__qualname__: deed for deed in deeds}

    # --------------------------------------------------------------------------------------------------- resting

    def _at_rest(self) -> bool:
        return not any(self._unrest().values())

    def _unrest(self) -> dict[str, Any]:
        """What has still to come to its end."""
        return {
            "under way": self.under_way,
            "news": len(self.server.news),
            "queue": len(self.server.queue),
            "points": [f"{point.program.name} {point.label}" for point in self.gates.points],
            "running": [name for name, (_, top_up) in self.witness.top_ups.items() if top_up.outcome is None],
            "runs": [run.id for run in self.server.runs.values() if not run.closed],
            "unjudged": sum(len(wallet.waiting) for wallet in self.witness.wallets.values()),
            "untold": [name for name, status in self.witness.deliveries.items() if status == "pending"],
        }

    def _has_run(self, top_up_id: str) -> bool:
        return workflow_id(top_up_id) in self.server.ever_started

    def _is_closed(self, top_up_id: str) -> bool:
        run = self.server.runs.get(workflow_id(top_up_id))
        return run is None or run.closed

    def _committed(self, act: Act) -> None:
        self.witness.see(act)
        self.digest.update(f"{act.kind} {sorted(self.witness.accounts.items())}".encode())

    def _tell_time(self) -> None:
        self.told_time = self.loop.seconds
        stage.set_clock(self.yard.overseer, self.loop.now)

    # --------------------------------------------------------------------------------------------------- telling

    def _note(self, line: str) -> None:
        line = f"{self.steps:5d} {self.loop.seconds:10.3f} {line}"
        self.recent.append(line)
        self.digest.update(line.encode())
        if self.trace:
            self.trace(line)

    def _report(self, found: BaseException) -> str:
        last = "\n".join(self.recent)
        return (
            f"seed {self.seed} failed at step {self.steps}: {found}\n"
            f"its last steps:\n{last}\nplay it again: make simulate SEED={self.seed}"
        )


class _Quiet(Database):
    """A database that wakes nobody: the dice decide when a watcher looks."""

    async def _wake(self, *channels: str) -> None:
        """Nobody listens."""


def _is_draw(one: Point | Run | Activity) -> bool:
    return isinstance(one, Point) and "ledger_draw" in one.label


def _name(one: Run | Activity) -> str:
    return one.id if isinstance(one, Run) else f"{one.run.id} {one.name}"


_BAD_NEWS = frozenset({"watcher.round.failed", "wallet.not_judged", "top_up.start.failed"})

__all__ = ["SeedFailed", "Simulation", "doing", "patch"]
