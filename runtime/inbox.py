"""The development inbox: takes mail by SMTP and pushes by HTTP, and shows both on a plain page."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, status
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.middleware.base import RequestResponseEndpoint

from runtime.inbox_store import InboxStore, Message, Push
from runtime.lifeline import watch_lifeline
from runtime.logs import configure_logs
from runtime.settings import DevelopmentSettings

_PAGES = Path(__file__).parent / "inbox_pages"
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A mail brings its own styles, and may do nothing else: no script, no request, no form.
_MAIL_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
_MAIL_BYTES_MAX = 5_000_000

_log = structlog.get_logger(__name__)


def run_inbox(settings: DevelopmentSettings) -> int:
    """Run the inbox as a program of its own. Returns the exit code."""
    configure_logs(log_format="json", log_level="info")
    watch_lifeline()
    asyncio.run(serve_inbox(settings))
    return 0


async def serve_inbox(settings: DevelopmentSettings) -> None:
    """Take mail and pushes until told to stop by SIGTERM or SIGINT."""
    store = InboxStore(settings.home / "inbox")
    app = create_inbox(store)
    smtp = await open_smtp(store, host=settings.inbox_host, port=settings.smtp_port)
    config = uvicorn.Config(
        app, host=settings.inbox_host, port=settings.inbox_port, log_config=None, access_log=False
    )
    _log.info("inbox.opened", smtp_port=settings.smtp_port, http_port=settings.inbox_port)
    try:
        await uvicorn.Server(config).serve()
    finally:
        smtp.close()


async def open_smtp(store: InboxStore, *, host: str, port: int) -> asyncio.Server:
    """Open the mail server on the running loop; it takes mail for everybody, without a password."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: SMTP(
            _Keeper(store), hostname="tidemark.local", enable_SMTPUTF8=True, data_size_limit=_MAIL_BYTES_MAX
        ),
        host=host,
        port=port,
    )


def create_inbox(store: InboxStore) -> FastAPI:
    """Build the inbox's pages and its JSON over a store."""
    app = FastAPI(title="Tidemark development inbox", docs_url=None, redoc_url=None, openapi_url=None)
    app.dependency_overrides[_store] = lambda: store
    app.middleware("http")(_with_policy)
    app.mount("/static", StaticFiles(directory=_PAGES / "static"))
    app.get("/", response_class=HTMLResponse)(_list_page)
    app.get("/read/{message_id}", response_class=HTMLResponse)(_message_page)
    app.get("/read/{message_id}/body", response_class=HTMLResponse)(_mail_body)
    app.get("/messages")(_list_messages)
    app.get("/messages/{message_id}")(_one_message)
    app.delete("/messages", status_code=status.HTTP_204_NO_CONTENT)(_clear_messages)
    app.post("/pushes", status_code=status.HTTP_201_CREATED)(_take_push)
    app.get("/livez")(_livez)
    return app


class _Keeper:
    """Puts each accepted mail into the store."""

    def __init__(self, store: InboxStore) -> None:
        self._store = store

    # The name is aiosmtpd's.
    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content or b""
        raw = content if isinstance(content, bytes) else content.encode()
        kept = await asyncio.to_thread(
            self._store.keep_mail, raw, sender=envelope.mail_from, recipients=list(envelope.rcpt_tos)
        )
        _log.info("inbox.mail.kept", message=kept.id, repeats=kept.repeats)
        return f"250 kept as {kept.id}"


def _store() -> InboxStore:
    msg = "create_inbox gives the store"
    raise NotImplementedError(msg)


StoreDep = Annotated[InboxStore, Depends(_store)]


def _found(message_id: str, store: StoreDep) -> Message:
    message = store.find(message_id)
    if message is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "There is no such message; perhaps it was cleared.")
    return message


FoundDep = Annotated[Message, Depends(_found)]


async def _with_policy(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def _list_messages(
    store: StoreDep,
    channel: Annotated[Literal["email", "push"] | None, Query()] = None,
    to: Annotated[str | None, Query()] = None,
) -> dict[str, list[dict[str, Any]]]:
    """List the messages, newest first, all or those of one channel or recipient."""
    shown = [
        message
        for message in store.newest_first()
        if channel in {None, message.channel} and (to is None or to in message.to)
    ]
    return {"data": [message.model_dump(mode="json", by_alias=True) for message in shown]}


def _one_message(message: FoundDep) -> dict[str, Any]:
    return message.model_dump(mode="json", by_alias=True)


def _clear_messages(store: StoreDep) -> Response:
    store.clear()
    return Response(status_code=status.HTTP_204_NO_CONTENT)


def _take_push(push: Push, store: StoreDep) -> dict[str, Any]:
    return store.keep_push(push).model_dump(mode="json", by_alias=True)


def _livez() -> dict[str, str]:
    return {"status": "ok"}


def _list_page(store: StoreDep) -> str:
    return _page("list.html", messages=store.newest_first())


def _message_page(message: FoundDep) -> str:
    return _page("message.html", message=message)


def _mail_body(message: FoundDep) -> HTMLResponse:
    return HTMLResponse(message.html or "", headers={"Content-Security-Policy": _MAIL_POLICY})


def _page(name: str, **values: object) -> str:
    pages = Environment(loader=FileSystemLoader(_PAGES), autoescape=select_autoescape(), trim_blocks=True)
    return pages.get_template(name).render(**values)
