"""All pages put together."""

from fastapi import FastAPI

from console import (
    account,
    auto_top_up,
    confirmation,
    history,
    join,
    operators,
    push,
    recover,
    sign_in,
    start,
    top_ups,
    wallet_live,
    wallets,
)
from console.nowhere import lead_nowhere
from console.static_files import PageFiles
from console.wiring import Wiring

_ROOMS = (
    start,
    history,
    top_ups,
    operators,
    sign_in,
    join,
    recover,
    account,
    wallets,
    wallet_live,
    auto_top_up,
    confirmation,
    push,
)
_FIRST_NAMES = frozenset(
    {
        "", "account", "confirmations", "history", "join", "manifest.webmanifest", "operator", "push", "recover",
        "service-worker.js", "sign-in", "sign-out", "static", "top-ups", "unsubscribe", "wallets",
    }
)  # fmt: skip
"""How the addresses of pages begin."""
_NOWHERE = lead_nowhere(_FIRST_NAMES - {""})


def is_page(path: str) -> bool:
    """Whether a path belongs to the pages, which know and count their visitors themselves."""
    _, _, names = path.partition("/")
    return names.partition("/")[0] in _FIRST_NAMES


def add_pages(app: FastAPI, wiring: Wiring) -> None:
    """Put the pages into the application. They are no part of the API's description."""
    app.state.console = wiring
    for room in _ROOMS:
        app.router.routes.extend(room.router.routes)
    app.mount("/static", PageFiles(), name="static")
    app.router.routes.extend(_NOWHERE.routes)
