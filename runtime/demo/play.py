"""A complete product in a temporary folder, the stories played on it one after another, and the verdict."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from runtime.demo.api import AnsweredOtherwise, Api, NotInTime
from runtime.demo.household import Household, Opening
from runtime.demo.page import Claim, Page
from runtime.demo.scene import Scene, usdt
from runtime.demo.stories import STORIES, Story
from runtime.first_start import KEY_SCOPES
from runtime.settings import DevelopmentSettings
from runtime.stack import Stack, StackFailed, temporary_settings

# Short enough for a reader to wait for a transfer that hangs, long enough for a healthy one on a busy machine.
_DRAW_TIMEOUT = "8s"
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TITLE_WIDTH = 40
_RANKS = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Played:
    """How one story went."""

    title: str
    claims: tuple[Claim, ...]
    seconds: float

    @property
    def held(self) -> bool:
        """Whether everything was as told; a story that claims nothing shows nothing."""
        return bool(self.claims) and all(claim.holds for claim in self.claims)


def run_demo(_settings: DevelopmentSettings) -> int:
    """Play all stories. Returns the exit code: 0 when everything ended as told, else 1.

    Raises what `Stack.start` raises, and KeyboardInterrupt at Ctrl-C or SIGTERM once everything is stopped.
    """
    page = Page(sys.stdout, colors=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    page.title("Tidemark, played through")
    page.words(
        "Everything below is done through the HTTP API of a complete product on free ports: PostgreSQL, Temporal, "
        "worker, watcher, API and an inbox. Each line marked ok was told beforehand and is what was found."
    )
    page.gap()
    for number in _ENDINGS:
        signal.signal(number, signal.default_int_handler)
    with TemporaryDirectory(prefix="tidemark-demo-", ignore_cleanup_errors=True) as folder:
        return _play_in(Path(folder), page)


def perform(story: Story, number: int, *, api: Api, page: Page) -> Played:
    """Play one story and hold its end against what is told of it."""
    started = time.monotonic()
    page.title(f"{number}. {story.title}")
    page.words(story.moral)
    page.gap()
    page.words(_described(story.opening))
    claims: list[Claim] = []
    try:
        scene = Scene(Household.open(api, story.opening), page, claims)
        story.play(scene)
        scene.closes(wallet=story.wallet, left=story.left)
        scene.tells(story.mails)
    except (AnsweredOtherwise, NotInTime, LookupError, ValueError) as broken_off:
        claims.append(Claim("the story", "goes on to its end", f"{type(broken_off).__name__}: {broken_off}"))
        page.claim(claims[-1])
    return Played(story.title, tuple(claims), time.monotonic() - started)


def conclude(played: Sequence[Played], page: Page) -> int:
    """Show how each story went. Returns the exit code: 0 only when all of them held."""
    page.title("Summary")
    for number, story in enumerate(played, start=1):
        told = f"{f'{number}. {story.title}':<{_TITLE_WIDTH}}{_counted(story):>18}{story.seconds:>8.1f} s"
        page.result(told, held=story.held)
    held = sum(story.held for story in played)
    page.gap()
    page.words(f"{held} of {len(played)} stories ended as told.")
    return 0 if played and held == len(played) else 1


class _News:
    """What the stack says: shown while it starts, kept for a bad end while the stories are told."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._kept: list[str] = []
        self.starting = True

    def __call__(self, words: str) -> None:
        if self.starting:
            self._page.words(words)
        else:
            self._kept.append(words)

    def show(self) -> None:
        """Show what was kept."""
        self._page.title("What the programs reported meanwhile")
        for words in self._kept or ["Nothing."]:
            self._page.words(words)


def _play_in(folder: Path, page: Page) -> int:
    news = _News(page)
    with _running_stack(folder, page, news) as stack:
        key = stack.create_api_key(scopes=KEY_SCOPES, name="demo")
        news.starting = False
        with Api(stack.addresses.api, key=key, inbox=stack.addresses.inbox) as api:
            played = [
                perform(story, number, api=api, page=page) for number, story in enumerate(STORIES, start=1)
            ]
        status = conclude(played, page)
        if status:
            news.show()
    return status


@contextmanager
def _running_stack(folder: Path, page: Page, news: _News) -> Iterator[Stack]:
    """A stack of its own, stopped at the end whatever happens; a second Ctrl-C hurries the stop."""
    timing = {"TIDEMARK_DRAW_TIMEOUT": _DRAW_TIMEOUT}
    stack = Stack(temporary_settings(folder), say=news, extra_environment=timing, ends_with_starter=True)
    try:
        stack.start()
        yield stack
    except KeyboardInterrupt:
        page.scene("Stopping.")
        raise
    except httpx2.HTTPError as failed:
        msg = f"The API stopped answering: {failed}"
        raise StackFailed(msg) from None
    finally:
        news.starting = False
        for number in _ENDINGS:
            signal.signal(number, lambda *_: stack.hurry())
        stack.stop()


def _described(opening: Opening) -> str:
    first, *others = (
        f"{asset} {rank} ({amount})"
        for rank, (asset, amount) in zip(_RANKS, opening.holds.items(), strict=False)
    )
    return (
        f"{opening.owner} has {usdt(opening.wallet)} in the Pay wallet and a rule: below {opening.threshold}, move "
        f"{opening.amount} from the {opening.account.value} account, {', '.join([first, *others])}."
    )


def _counted(story: Played) -> str:
    wrong = sum(not claim.holds for claim in story.claims)
    return f"{wrong} of {len(story.claims)} wrong" if wrong else f"{len(story.claims)} as told"
