"""A whole story with recognizable secrets, failures included: none of them is found where it does not belong."""

import asyncio
import io
import logging
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
import structlog
import trustme
from sqlalchemy import text
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.ports import Sender
from adapters.notify.email import EmailSender
from adapters.notify.push_services import PushHosts
from adapters.notify.web_push import WebPushSender
from adapters.notify.webhook import WebhookSender
from adapters.postgres.database import Database, run_sql
from adapters.postgres.push_list import OwnersBrowsers
from api.scopes import Scope
from console.visitors import COOKIE
from runtime.logs import configure_logs
from runtime.patience import patience_of
from runtime.payloads import PayloadEncryption
from runtime.settings import Settings
from runtime.temporal import connect
from starter.courier import Courier
from starter.runs import TemporalRuns
from starter.watcher import Watcher
from tests.adapters.notify.conftest import PostOffice
from tests.api.conftest import TERMS, build, make_key
from tests.builders import Household
from tests.console.conftest import by_name
from tests.console.visits import another_browser, codes_in, visiting
from tests.devices import Device
from tests.outages.product import until
from tests.plain_logs import log_plainly
from tests.receiver import open_receiver, reply
from tests.security.conftest import client_with
from tests.security.keys import NEW, OLD, keys, payloads_in, text_of
from tests.served import serve
from tests.stories.town import open_town
from topup.keys import telling_id, workflow_id
from worker import build_activities, build_worker

DATABASE_PASSWORD = "database-password-of-the-story"
SMTP_PASSWORD = "smtp-password-of-the-story"
TEMPORAL_KEY = "temporal-api-key-of-the-story"
PUSH_PATH = "push-path-of-the-story"
WEBHOOK_PATH = "webhook-path-of-the-story"
MAILBOX = "mailbox-of-the-story@example.com"
PUSH_HOST = "push.example.com"
NOWHERE = f"postgresql://tidemark:{DATABASE_PASSWORD}@127.0.0.1:1/tidemark"


_AT_PORT = text("UPDATE push_subscription SET endpoint = replace(endpoint, :there, :here)")


@dataclass
class Evidence:
    """The secrets of the story, and every place where one of them might have been left."""

    secrets: dict[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    """Every answer of API and pages but those that tell a secret this once, to whom it belongs."""
    histories: list[str] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)
    pushes: list[str] = field(default_factory=list)

    def plant(self, name: str, secret: str) -> str:
        """Remember a secret; it."""
        assert len(secret) > 8, name
        self.secrets[name] = secret
        return secret

    def found_in(self, place: str, *, but: frozenset[str] = frozenset()) -> set[str]:
        """Which of the secrets stand there."""
        return {name for name, secret in self.secrets.items() if secret in place and name not in but}

    async def note(self, answer: httpx2.Response) -> None:
        """Keep an answer, headers too."""
        await answer.aread()
        headers = [f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie"]
        self.answers.append("\n".join([str(answer.status_code), *headers, answer.text]))


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything that programs would log, at the level that tells most, through the product's own pipeline."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in list(root.manager.loggerDict)}
    written = io.StringIO()
    with monkeypatch.context() as stderr:
        stderr.setattr(sys, "stderr", written)
        configure_logs(log_format="json", log_level="debug")
    structlog.configure(
        cache_logger_on_first_use=False
    )  # Else loggers of this test would stay with later ones.
    try:
        yield written
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
        log_plainly()


@pytest_asyncio.fixture
async def office() -> AsyncIterator[PostOffice]:
    """A mail server that refuses every login."""
    office = PostOffice(password="another one")
    server = await asyncio.get_running_loop().create_server(office.connection, "127.0.0.1", 0)
    office.port = server.sockets[0].getsockname()[1]
    async with server:
        yield office


@asynccontextmanager
async def as_its_owner(database_url: str) -> AsyncIterator[Database]:
    """The database for who may change its tables, as the product's programs may not."""
    database = Database.open(re.sub(r"//[^@]*@", "//postgres:@", database_url), pool_size=2)
    yield database
    await database.close()


@asynccontextmanager
async def the_site(
    database: Database, database_url: str, evidence: Evidence, **settings: Any
) -> AsyncIterator[tuple[str, httpx2.AsyncClient]]:
    """The API and the pages on a socket, and a client whose every answer is noted."""
    async with AsyncExitStack() as stack:
        app = build(database, url=database_url, payload_keys=f"{NEW},{OLD}", **settings)
        origin = by_name(await stack.enter_async_context(serve(app)))
        app.state.console = replace(app.state.console, public_url=origin)
        hooks = {"response": [evidence.note]}
        client = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=origin, event_hooks=hooks, timeout=60)
        )
        yield origin, client


class TestASecret:
    async def test_is_left_nowhere_by_a_story_that_goes_right_and_wrong(
        self,
        temporal: WorkflowEnvironment,
        database: Database,
        database_url: str,
        office: PostOffice,
        logs: io.StringIO,
    ) -> None:
        evidence = Evidence()
        for name, secret in {
            "database password": DATABASE_PASSWORD,
            "SMTP password": SMTP_PASSWORD,
            "Temporal API key": TEMPORAL_KEY,
            "payload key": NEW.partition(":")[2],
            "older payload key": OLD.partition(":")[2],
            "push address": PUSH_PATH,
            "webhook address": WEBHOOK_PATH,
        }.items():
            evidence.plant(name, secret)
        async with (
            as_its_owner(database_url) as master,
            the_site(database, database_url, evidence, push_hosts=PUSH_HOST, webhooks_allow_private=True) as (
                origin,
                client,
            ),
        ):
            owner = await an_owner(client, database, evidence)
            await top_ups_told(
                temporal, database, database_url, office, client, owner, evidence, master=master
            )
            await people_come_and_go(origin, owner, evidence)
            await everything_is_asked_with_secrets(client, owner, evidence)
            await tables_are_gone(client, master, owner, evidence)
        await nothing_can_be_reached(evidence, logs)

        log = logs.getvalue()
        assert all(event in log for event in EVENTS), [event for event in EVENTS if event not in log]
        assert "Traceback" in log
        assert evidence.found_in(log) == set()
        assert [evidence.found_in(history) for history in evidence.histories] == [set()] * 8
        assert evidence.found_in("\n".join(evidence.webhooks), but=frozenset({"webhook address"})) == set()
        assert evidence.found_in("\n".join(evidence.mails), but=frozenset({"unsubscribe token"})) == set()
        assert evidence.found_in("\n".join(evidence.pushes), but=frozenset({"push address"})) == set()
        told = frozenset({"webhook address"})  # Its owner reads it in the list of endpoints.
        answers = [without_its_form(one, evidence.secrets["CSRF token"]) for one in evidence.answers]
        assert evidence.found_in("\n".join(answers), but=told) == set()
        assert MAILBOX not in log


EVENTS = (
    "request.answered",
    "request.broken",
    "page.broken",
    "mail_server.refused_us",
    "passkey.added",
    "watcher.out_of_reach",
    "webhook",
)
"""What has to be in the log for the story to have gone as it was meant to."""


@dataclass
class Owner:
    """The owner of the story, and what belongs to them."""

    id: str
    wallet_id: str
    headers: dict[str, str]
    link: str
    browser: Device


async def an_owner(client: httpx2.AsyncClient, database: Database, evidence: Evidence) -> Owner:
    """Somebody with a wallet, a rule, a browser that wants pushes, and a link to register by."""
    key = evidence.plant("API key", await make_key(database, [*Scope]))
    headers = {"Authorization": f"Bearer {key}"}
    owner_id = (await made(client, "/v1/owners", headers, name="Ada", email=MAILBOX))["id"]
    wallet_id = (await made(client, "/v1/wallets", headers, owner_id=owner_id, currency="USDT"))["id"]
    await made(client, "/v1/ledger/deposits", headers, wallet_id=wallet_id, amount="80")
    funding = {"owner_id": owner_id, "account": "funding", "asset": "USDT", "amount": "500"}
    await made(client, "/v1/ledger/deposits", headers, **funding)
    await made(client, "/v1/rules", headers, wallet_id=wallet_id, **{**TERMS, "sources": ["USDT"]})
    link = (await made(client, f"/v1/owners/{owner_id}/registration-links", headers))["url"]
    evidence.plant("registration token", link.rpartition("/")[2])
    evidence.answers.pop()  # It tells the link, this once.
    return Owner(owner_id, wallet_id, headers, f"/join/{link.rpartition('/')[2]}", Device())


async def made(client: httpx2.AsyncClient, path: str, headers: dict[str, str], **body: Any) -> Any:
    """What the API answers to making this."""
    once = {"Idempotency-Key": str(uuid4())}
    answer = await client.post(path, json=body, headers={**headers, **once})
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def top_ups_told(
    temporal: WorkflowEnvironment,
    database: Database,
    database_url: str,
    office: PostOffice,
    client: httpx2.AsyncClient,
    owner: Owner,
    evidence: Evidence,
    *,
    master: Database,
) -> None:
    """Two top-ups, one as Temporal keeps it plainly and one encrypted, told by mail, push and webhook."""
    issuer = trustme.CA()
    async with open_receiver() as hooks, open_receiver(certified(issuer)) as pushes:
        await subscribe(client, master, owner, evidence, hooks=hooks.url, push_port=pushes.port)
        hooks.answers = [reply(500, body=b"no"), reply(204)]
        pushes.answers = [reply(403), reply(201)]
        senders = senders_of(database, office, issuer)
        for other in (temporal.client, client_with(keys("2027"), temporal.client)):
            await one_top_up(other, database, database_url, senders, office, owner, evidence, temporal)
        await courier_of(database).deliver_due()
    evidence.webhooks += [f"{one.target}{dict(one.headers)}{one.body}" for one in hooks.received]
    evidence.pushes += [f"{one.target}{owner.browser.read(one)}" for one in pushes.received]
    evidence.mails += [mail.as_string() for mail in office.mails]
    assert len(evidence.mails) == 2
    assert evidence.pushes
    assert evidence.webhooks


async def one_top_up(
    client: Client,
    database: Database,
    database_url: str,
    senders: Mapping[str, Sender],
    office: PostOffice,
    owner: Owner,
    evidence: Evidence,
    temporal: WorkflowEnvironment,
) -> None:
    """Spend, draw, and tell: at first the mail server does not let us in, then it does."""
    office.password = "another one"
    async with open_town(client, database, database_url) as town:
        activities = build_activities(
            database, town.settings, runs=town.runs, accounts=town.accounts, senders=senders
        )
        home = Household(database, owner.id, owner.wallet_id, "USDT")
        async with build_worker(client, town.settings, activities):
            await home.spend("45" if not evidence.histories else "100")
            await town.watch()
            run = workflow_id((await home.top_ups())[-1].id)
            await client.get_workflow_handle(run).result()
            office.password = SMTP_PASSWORD
            telling = telling_id((await home.top_ups())[-1].id, "ended")
            await client.get_workflow_handle(telling).result()
            for name in (run, telling):
                await read_run(temporal, name, client, evidence)


def certified(issuer: trustme.CA) -> ssl.SSLContext:
    """The push service's certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.issue_cert(PUSH_HOST).configure_cert(context)
    return context


async def subscribe(
    client: httpx2.AsyncClient,
    master: Database,
    owner: Owner,
    evidence: Evidence,
    *,
    hooks: str,
    push_port: int,
) -> None:
    """Have the owner told by webhook and by push, too."""
    url = f"{hooks}/{WEBHOOK_PATH}"
    endpoint = await made(client, "/v1/webhook-endpoints", owner.headers, owner_id=owner.id, url=url)
    evidence.plant("webhook secret", endpoint["secret"])
    evidence.answers.pop()  # It tells the secret, this once.
    subscription = owner.browser.toJSON(f"https://{PUSH_HOST}/{PUSH_PATH}")
    del subscription["expirationTime"]
    await made(client, "/v1/push-subscriptions", owner.headers, owner_id=owner.id, **subscription)
    async with master.commit() as session:  # No push service is at another port; the one of this test is.
        await run_sql(session, _AT_PORT, here=f"{PUSH_HOST}:{push_port}/", there=f"{PUSH_HOST}/")
    evidence.plant("push authentication secret", owner.browser.auth)
    evidence.plant("VAPID private key", await OwnersBrowsers(master).signing_key())


def senders_of(database: Database, office: PostOffice, issuer: trustme.CA) -> Mapping[str, Sender]:
    """What the worker sends with; the push service is on this machine."""
    trust = ssl.create_default_context()
    issuer.configure_trust(trust)

    async def nearby(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    email = EmailSender(
        host="127.0.0.1",
        port=office.port,
        username="tidemark",
        password=SMTP_PASSWORD,
        security="none",
        sender="Tidemark <tidemark@pay.example>",
    )
    push = WebPushSender(
        browsers=OwnersBrowsers(database),
        hosts=PushHosts.read(PUSH_HOST),
        contact="mailto:tidemark@pay.example",
        allow_private=True,
        resolver=nearby,
        trust=trust,
    )
    return {"email": email, "push": push}


def courier_of(database: Database) -> Courier:
    """Sends the webhooks."""
    return Courier(
        database=database,
        sender=WebhookSender(allow_private=True),
        poll_interval=timedelta(seconds=1),
        kept_for=timedelta(days=1),
    )


async def read_run(temporal: WorkflowEnvironment, name: str, client: Client, evidence: Evidence) -> None:
    """Keep what Temporal keeps of a run and shows in lists, and what its operators read there."""
    history = await temporal.client.get_workflow_handle(name).fetch_history()
    described = await temporal.client.get_workflow_handle(name).describe()
    evidence.histories.append(f"{text_of(history)}{described.raw_description}")
    read = await PayloadEncryption(keys("2027")).decode(list(payloads_in(history)))
    told = (
        await client.get_workflow_handle(name).query("__temporal_workflow_metadata")
        if "top-up" in name
        else ""
    )
    evidence.histories.append(
        "\n".join([str(told), *(payload.data.decode(errors="replace") for payload in read)])
    )


async def people_come_and_go(origin: str, owner: Owner, evidence: Evidence) -> None:
    """The owner registers by the link, comes back with a recovery code, and tries one that is none."""
    async with visiting(origin) as visit:
        visit.client.event_hooks = {"response": [evidence.note]}
        _, registered = await visit.join(owner.link)
        evidence.answers.clear()  # The pages of joining hold the link, and then the codes: they are for its person.
        codes = codes_in(registered)
        for number, code in enumerate(codes[:2]):
            evidence.plant(f"recovery code {number}", code)
        evidence.plant("session", visit.cookies[COOKIE])
        for path in ("/account", f"/wallets/{owner.wallet_id}", "/history", "/operator", owner.link):
            await visit.get(path)
        evidence.plant("CSRF token", visit.csrf)
        other = another_browser(visit)
        await other.get("/recover")
        for code in (codes[1], codes[1], "00000-00000-00000-00000"):
            await other.send("/recover", code=code)
        await visit.send("/account/recovery-codes", credential="{}")


def without_its_form(answer: str, csrf: str) -> str:
    """A page without the token that its own forms need."""
    return answer.replace(f'content="{csrf}"', "").replace(f'value="{csrf}"', "")


async def everything_is_asked_with_secrets(
    client: httpx2.AsyncClient, owner: Owner, evidence: Evidence
) -> None:
    """What belongs into a header is put where it does not belong, as people in a hurry do."""
    key, session = evidence.secrets["API key"], evidence.secrets["session"]
    wrong = f"{key[:-2]}xx"
    for headers in (
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Basic {key}"},
        {"Authorization": key},
        {"X-Request-Id": key},
        {**owner.headers, "Idempotency-Key": key},
        {**owner.headers, "If-Match": key},
        {"Cookie": f"{COOKIE}={session}x"},
    ):
        for method, path in (("GET", "/v1/wallets"), ("POST", "/v1/rules"), ("GET", "/account")):
            await client.request(
                method, path, headers=headers, json={"note": "x"} if method == "POST" else None
            )
    for path in (f"/v1/wallets/{key}", f"/v1/{key}", f"/v1/wallets?cursor={key}", f"/v1/wallets?limit={key}"):
        await client.get(path, headers=owner.headers)
    for body in ({"wallet_id": key}, {key: "x"}, [key], key):
        await client.post(
            "/v1/rules", json=body, headers={**owner.headers, "Idempotency-Key": "secrets-in-a-body"}
        )


async def tables_are_gone(
    client: httpx2.AsyncClient, master: Database, owner: Owner, evidence: Evidence
) -> None:
    """Defects: what is asked of the database makes no sense to it, and everything is logged with its traceback."""
    moved = ("wallet", "page_session", "recovery_code", "registration_link", "delivery")
    await rename(master, moved, "{0}", "gone_{0}")
    try:
        cookie = {"Cookie": f"{COOKIE}={evidence.secrets['session']}"}
        await client.get("/v1/wallets", headers=owner.headers)
        await client.get("/account", headers=cookie)
        await client.get(owner.link)
        await client.post("/recover", data={"code": evidence.secrets["recovery code 0"]})
        stop = evidence.plant("unsubscribe token", "unsubscribe-token-of-the-story")
        await client.post(f"/unsubscribe/{stop}")
    finally:
        await rename(master, moved, "gone_{0}", "{0}")


async def rename(database: Database, tables: tuple[str, ...], before: str, after: str) -> None:
    """Call tables something else."""
    async with database.commit() as session:
        for table in tables:
            await run_sql(
                session, text(f"ALTER TABLE {before.format(table)} RENAME TO {after.format(table)}")
            )


async def nothing_can_be_reached(evidence: Evidence, logs: io.StringIO) -> None:
    """Neither database nor Temporal answers, whoever asks; what programs say when they end is kept as well."""
    database = Database.open(NOWHERE, pool_size=1)
    async with the_site(database, NOWHERE, evidence) as (_, client):
        for path in ("/v1/wallets", "/account", "/readyz", "/codec/decode"):
            await client.get(path, headers={"Authorization": f"Bearer {evidence.secrets['API key']}"})
            await client.get(path, headers={"Cookie": f"{COOKIE}={evidence.secrets['session']}"})
    settings = Settings.model_validate(
        {
            "database_url": NOWHERE,
            "payload_keys": NEW,
            "smtp_password": SMTP_PASSWORD,
            "environment": "development",
        }
    )
    logging.getLogger("a crash").error("settings: %r", settings, exc_info=RuntimeError(NOWHERE))
    runs = TemporalRuns(await connect(settings, lazy=True), settings.task_queue)
    watcher = Watcher(
        database=database, runs=runs, patience=patience_of(settings), poll_interval=timedelta(milliseconds=1)
    )
    stop = asyncio.Event()
    watching = asyncio.create_task(watcher.watch(stop))
    await until(lambda: has_said(logs, "watcher.out_of_reach"))
    stop.set()
    await watching
    await database.close()


async def has_said(logs: io.StringIO, event: str) -> bool:
    """Whether this was logged by now."""
    return event in logs.getvalue()
