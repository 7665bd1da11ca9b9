"""`make run`: the development stack, a demo owner to try it with, and the words that lead a new user on."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import httpx2

from runtime.cannot_run import CannotRun
from runtime.first_start import (
    CURRENCY,
    KEY_NAME,
    KEY_SCOPES,
    OPERATOR,
    RULE,
    SPENT,
    DevelopmentApi,
    make_demo_owner,
)
from runtime.home import read_object, write_whole
from runtime.settings import DevelopmentSettings
from runtime.stack import Stack

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_up(settings: DevelopmentSettings) -> int:
    """Run until Ctrl-C or SIGTERM, or until something cannot go on. Returns the exit code."""
    stack = Stack(settings, say=say)
    with _ended_by_signals(stack):
        try:
            stack.start()
            notes = Notes(settings.home / "dev.json")
            _set_up(stack, notes)
            failure = stack.wait_until_failed()
            say(f"\n{failure}")
        except KeyboardInterrupt:
            failure = ""
            say("\nStopping. Ctrl-C once more ends it at once.")
        except CannotRun as failed:
            failure = str(failed)
            say(f"\n{failure}")
        except httpx2.HTTPError as failed:
            failure = f"The API stopped answering: {failed}"
            say(f"\n{failure}")
        finally:
            stack.stop()
            _note_stopped(settings.home / "dev.json")
    if failure:
        return 1
    say("Stopped. The state is kept; the next start goes on with it.")
    return 0


def say(words: str) -> None:
    """Tell the person at the terminal something, or nobody when the terminal is gone."""
    with _WHOLE_LINES:
        try:
            sys.stdout.write(f"{words}\n")
            sys.stdout.flush()
        except OSError:
            return


_WHOLE_LINES = threading.Lock()


class Notes:
    """`dev.json`: the addresses and the key of this run, and the demo owner's ids, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier start has noted."""
        self._path = path
        self.known: dict[str, Any] = read_object(path)

    def note(self, **values: object) -> None:
        """Change some notes, and write all of them at once."""
        self.known |= values
        write_whole(self._path, json.dumps(self.known, indent=2) + "\n")


def _set_up(stack: Stack, notes: Notes) -> None:
    addresses = stack.addresses
    key = _working_key(stack, notes)
    notes.note(
        api=addresses.api,
        pages=addresses.pages,
        api_key=key,
        temporal_ui=addresses.temporal_ui,
        inbox=addresses.inbox,
        temporal=addresses.temporal,
        database_url=stack.database_url(),
        pid=os.getpid(),
    )
    with closing(DevelopmentApi(addresses.api, key)) as api:
        _forget_missing(api, notes)
        make_demo_owner(api, notes.known, remember=lambda name, made: notes.note(**{name: made}))
        wallet = api.find(f"/v1/wallets/{notes.known['wallet_id']}") or {}
    links = stack.create_links(owner_id=notes.known["owner_id"], operator=OPERATOR)
    say(welcome(stack, notes.known, balance=str(wallet.get("balance", "?")), links=links))


def _working_key(stack: Stack, notes: Notes) -> str:
    """Keep the key of the last start while the API knows it; else make one, for a database that is new too."""
    key = notes.known.get("api_key")
    if isinstance(key, str):
        with closing(DevelopmentApi(stack.addresses.api, key)) as api:
            if api.accepts_key():
                return key
    return stack.create_api_key(scopes=KEY_SCOPES, name=KEY_NAME)


def _forget_missing(api: DevelopmentApi, notes: Notes) -> None:
    """Forget a demo owner whose wallet is gone, as in a new database; a deleted rule stays deleted."""
    wallet_id = notes.known.get("wallet_id")
    if wallet_id is not None and api.find(f"/v1/wallets/{wallet_id}") is None:
        for name in ("owner_id", "wallet_id", "rule_id"):
            notes.known.pop(name, None)


def welcome(stack: Stack, known: dict[str, Any], *, balance: str, links: Sequence[str]) -> str:
    """Write the block a new user reads: where everything is, one payment to send, and where to look then."""
    addresses = stack.addresses
    wallet_id = known["wallet_id"]
    query = quote(f'TidemarkWallet="{wallet_id}"')
    ways_in = "\n".join(f"  {line}" for line in links)
    runs = f"{addresses.temporal_ui}/namespaces/default/workflows?query={query}"
    return f"""
Tidemark is running. Ctrl-C stops it.

  Pages             {addresses.pages}
  API               {addresses.api}
  Inbox             {addresses.inbox}
  Temporal Web UI   {addresses.temporal_ui}
  Development key   {known["api_key"]}

Owners see their wallet at the pages, operators all of them. People sign in there with a passkey:

{ways_in}

Ada Demo's Pay wallet holds {balance} {CURRENCY}. When it falls below {RULE["threshold"]}, Tidemark moves
{RULE["amount"]} into it from her funding account: USDT first, then USDC, then BTC. Spend {SPENT} from it:

  curl -X POST {addresses.api}/v1/ledger/payments \\
    -H "Authorization: Bearer {known["api_key"]}" \\
    -H "Idempotency-Key: payment-$(date +%s)" \\
    -H "Content-Type: application/json" \\
    -d '{{"wallet_id": "{wallet_id}", "amount": "{SPENT}"}}'

Then look at
  the pages    {addresses.pages}/wallets/{wallet_id}
  the wallet   curl -H "Authorization: Bearer {known["api_key"]}" {addresses.api}/v1/wallets/{wallet_id}
  the mail     {addresses.inbox}
  the run      {runs}
"""


def _note_stopped(path: Path) -> None:
    """Note that no run is there any more; the key and the ids stay for the next start."""
    known = read_object(path)
    if known.get("pid") == os.getpid():
        write_whole(path, json.dumps({**known, "pid": None}, indent=2) + "\n")


@contextmanager
def _ended_by_signals(stack: Stack) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM interrupt, and every later one hurry the stop."""
    before = [(number, signal.signal(number, _interrupt_once(stack))) for number in _ENDINGS]
    try:
        yield
    finally:
        for number, action in before:
            signal.signal(number, action)


def _interrupt_once(stack: Stack) -> Callable[[int, FrameType | None], None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        if stack.is_stopping():
            stack.hurry()
        else:
            raise KeyboardInterrupt

    return end
