"""A campaign: batches played side by side in several lanes, those that were missed played again."""

import asyncio
import shutil
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runtime.settings import read_development_settings
from runtime.temporal_program import find_temporal_program
from tests.chaos.cases import Batch, Case
from tests.chaos.lane import Lane, Template, make_template
from tests.chaos.play import Verdict, play
from tests.chaos.zygote import Zygote

BRINGING_MAX = 2
"""In how many lanes top-ups are brought to their points at once, while the others stand still or come to rest."""
TRIES_MAX = 5
"""A case whose top-up was not at its point when its program was struck is played again, this often at most."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What a campaign has found so far."""

    strikes: int = 0
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    """The last one of each case, by its place in the campaign: the same case may come several times."""
    failures: list[Verdict] = field(default_factory=list)
    missed: list[Case] = field(default_factory=list)
    interrupted: bool = False
    took_seconds: float = 0.0

    @property
    def struck(self) -> Counter[Case]:
        """How often each case was struck at its very point."""
        return Counter(verdict.case for verdict in self.verdicts.values() if verdict.struck)


@dataclass(slots=True)
class _Round:
    """A batch that is to be played, and the places of its cases."""

    batch: Batch
    places: tuple[int, ...]
    tries: int = 1


async def run_campaign(
    batches: Sequence[Batch],
    *,
    home: Path,
    template: Template,
    lanes: int,
    draw_seconds: int,
    say: Say,
    interruptible: bool = False,
) -> Outcome:
    """Play all; the home is a folder that is there already, and goes when its owner wants it to.

    One that is `interruptible` ends at Ctrl-C with what is under way.
    """
    outcome, started = Outcome(), time.monotonic()
    waiting, bringing = deque(_rounds(batches)), asyncio.Semaphore(BRINGING_MAX)

    def interrupt() -> None:
        outcome.interrupted = True
        waiting.clear()

    if interruptible:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
    async with _open_lanes(home, template, lanes, draw_seconds) as opened:
        await asyncio.gather(*[_work(lane, waiting, bringing, outcome, say) for lane in opened])
    outcome.took_seconds = time.monotonic() - started
    return outcome


def make_home() -> Path:
    """A folder for a campaign, which the servers' own user may enter."""
    home = Path(tempfile.mkdtemp(prefix="tidemark-chaos-"))
    home.chmod(0o755)
    return home


def run(batches: Sequence[Batch], *, lanes: int, draw_seconds: int, say: Say) -> Outcome:
    """A campaign from first to last, in a place of its own; kept when something has failed."""
    home = make_home()
    outcome = asyncio.run(
        run_campaign(
            batches,
            home=home,
            template=make_template(home),
            lanes=lanes,
            draw_seconds=draw_seconds,
            say=say,
            interruptible=True,
        )
    )
    if outcome.failures:
        say(f"The logs are kept in {home}.")
    else:
        shutil.rmtree(home)
    return outcome


def _rounds(batches: Sequence[Batch]) -> list[_Round]:
    rounds, place = [], 0
    for batch in batches:
        rounds.append(_Round(batch, tuple(range(place, place + len(batch.cases)))))
        place += len(batch.cases)
    return rounds


@asynccontextmanager
async def _open_lanes(
    home: Path, template: Template, count: int, draw_seconds: int
) -> AsyncIterator[list[Lane]]:
    program = find_temporal_program(read_development_settings().temporal_program, say=print)
    zygote = await Zygote.open()
    lanes = [
        Lane(number, home, template=template, temporal=program, zygote=zygote, draw_seconds=draw_seconds)
        for number in range(1, count + 1)
    ]
    try:
        await asyncio.gather(*[lane.start() for lane in lanes])
        yield lanes
    finally:
        await asyncio.gather(*[lane.stop() for lane in lanes])
        await zygote.close()


async def _work(
    lane: Lane, waiting: deque[_Round], bringing: asyncio.Semaphore, outcome: Outcome, say: Say
) -> None:
    while waiting:
        turn = waiting.popleft()
        verdicts = await play(lane, turn.batch, bringing=bringing)
        outcome.strikes += 1
        for place, verdict in zip(turn.places, verdicts, strict=True):
            outcome.verdicts[place] = verdict
            if verdict.problems:
                outcome.failures.append(verdict)
        again = _missed(turn, verdicts)
        if again is not None and again.tries <= TRIES_MAX and not outcome.interrupted:
            waiting.append(again)
        elif again is not None:
            outcome.missed += again.batch.cases
        say(_line(lane, turn, verdicts, outcome))


def _missed(turn: _Round, verdicts: Sequence[Verdict]) -> _Round | None:
    """What is to be played again; nothing where everybody was at their point."""
    left = [
        (place, verdict.case)
        for place, verdict in zip(turn.places, verdicts, strict=True)
        if not verdict.struck
    ]
    if not left:
        return None
    batch = Batch(turn.batch.struck, turn.batch.manner, tuple(case for _, case in left))
    return _Round(batch, tuple(place for place, _ in left), turn.tries + 1)


def _line(lane: Lane, turn: _Round, verdicts: Sequence[Verdict], outcome: Outcome) -> str:
    struck = sum(verdict.struck for verdict in verdicts)
    total = outcome.struck.total()
    words = f"{total:5} struck, {len(outcome.failures)} failed | lane {lane.number}: {turn.batch.struck}."
    words += f"{turn.batch.manner} at {struck} points"
    missed = [str(verdict.case) for verdict in verdicts if not verdict.struck]
    failed = [
        f"\n  {verdict.case}: {'; '.join(verdict.problems)}" for verdict in verdicts if verdict.problems
    ]
    return words + (f", missed {', '.join(missed)}" if missed else "") + "".join(failed)
