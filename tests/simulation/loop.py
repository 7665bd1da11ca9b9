"""An event loop without a world: nothing happens by itself, and time passes only when it is told to."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

BEGINNING = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""When every simulation begins; a whole month lies before it."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs what is ready in the order in which it became so, then stands still."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self.begin()

    def begin(self) -> None:
        """Begin anew, with nothing to do."""
        self.seconds = 0.0
        self.failures: list[dict[str, Any]] = []
        self.adopt: Callable[[asyncio.Task[Any]], None] = lambda _task: None
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()

    @property
    def now(self) -> datetime:
        """This moment."""
        return BEGINNING + timedelta(seconds=self.seconds)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be the running loop of this thread."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    def settle(self) -> None:
        """Run everything that is ready, and what becomes ready by that."""
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()

    def tick(self, seconds: float) -> None:
        """Let a little time pass, never beyond the next timer."""
        following = self.next_timer()
        later = self.seconds + seconds
        self.seconds = later if following is None else max(self.seconds, min(later, following))

    def next_timer(self) -> float | None:
        """When the next timer is due."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def fire_timer(self) -> None:
        """Let time pass until the next timer is due, and make it ready."""
        due = self.next_timer()
        if due is None:
            return
        self.seconds = max(self.seconds, due)
        self._ready.append(heapq.heappop(self._timers)[2])

    def put_off_deadline(self, seconds: float) -> bool:
        """Let a program's next own deadline come later, as one that stands still keeps none; whether there was one."""
        deadline = min((timer for timer in self._timers if _is_own_deadline(timer[2])), default=None)
        if deadline is None:
            return False
        due, number, handle = deadline
        self._timers.remove(deadline)
        self._timers.append((due + seconds, number, handle))
        heapq.heapify(self._timers)
        return True

    # ------------------------------------------------------------------------------ what tasks and futures need

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.seconds

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whenever it is asked."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Make it ready."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Set a timer."""
        return self.call_at(self.seconds + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Set a timer; of two for one moment the first set fires first."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Passed over when its turn comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """A task of this loop."""
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self.adopt(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody looked at."""
        self.failures.append(context)


def _is_own_deadline(handle: asyncio.TimerHandle) -> bool:
    callback = getattr(handle, "_callback", None)
    return not handle.cancelled() and isinstance(getattr(callback, "__self__", None), asyncio.Timeout)
