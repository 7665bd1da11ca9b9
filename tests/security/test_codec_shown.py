"""What is encrypted is read by an operator, in Temporal's own Web UI and at its command line, through the endpoint."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest_asyncio
from playwright.async_api import Response, expect
from temporalio.client import WorkflowHistory
from temporalio.testing import WorkflowEnvironment

from adapters.postgres.database import Database
from api.scopes import Scope
from runtime.ports import choose_ports
from runtime.settings import DevelopmentSettings
from runtime.temporal import ensure_search_attributes
from runtime.temporal_program import find_temporal_program
from runtime.temporal_server import DYNAMIC_CONFIG, environment_without_temporal
from tests.api.conftest import build, make_key
from tests.chromium import configured_chromium, find_chromium
from tests.console.browser import DESKTOP, start_chromium, windows_of
from tests.console.conftest import Browser, by_name, sign_in
from tests.security.conftest import client_with
from tests.security.keys import OLD, keys, text_of
from tests.security.test_encrypted_runs import NAME, low_household
from tests.served import serve
from tests.stories.town import open_town
from topup.keys import workflow_id
from workflows.ids import SEARCH_ATTRIBUTES

# What the Web UI's own dialog keeps: the endpoint, and that it is to be sent its cookies.
_CODEC_SET = """
    localStorage.setItem("endpoint", JSON.stringify(%s));
    localStorage.setItem("includeCredentials", "true");
    localStorage.setItem("overrideRemoteCodecConfiguration", "true");
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """An encrypted run, where it is shown, and what decodes it."""

    program: Path
    temporal: str
    ui: str
    codec: str
    run: str
    pages: str

    @property
    def page(self) -> str:
        """Where the Web UI shows the run."""
        return f"{self.ui}/namespaces/default/workflows/{quote(self.run, safe='')}"


@pytest_asyncio.fixture
async def shown(database: Database, database_url: str) -> AsyncIterator[Shown]:
    """A Temporal with its Web UI, the product's API beside it, and a top-up that ended, with encryption on."""
    port = choose_ports({"temporal_ui_port": 0})["temporal_ui_port"]
    ui = f"http://localhost:{port}"
    program = find_temporal_program(DevelopmentSettings().temporal_program, say=print)
    async with AsyncExitStack() as stack:
        app = build(database, url=database_url, payload_keys=OLD, temporal_ui_url=ui)
        pages = by_name(await stack.enter_async_context(serve(app)))
        app.state.console = replace(app.state.console, public_url=pages)
        environment = await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(program),
            dev_server_extra_args=list(DYNAMIC_CONFIG),
            ui=True,
            ui_port=port,
        )
        stack.push_async_callback(environment.shutdown)
        await ensure_search_attributes(environment.client, SEARCH_ATTRIBUTES)
        client = client_with(keys("2026"), environment.client)
        town = await stack.enter_async_context(open_town(client, database, database_url))
        async with town.worker():
            home = await low_household(town)
            await home.spend("45")
            top_up = await town.see_through(home)
        address = client.service_client.config.target_host
        yield Shown(program, address, ui, f"{pages}/codec", workflow_id(top_up.id), pages)


async def temporal(shown: Shown, *arguments: str, **environment: str) -> str:
    """What the command line says."""
    asked = await asyncio.create_subprocess_exec(
        shown.program,
        *arguments,
        "--address",
        shown.temporal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment_without_temporal(os.environ), **environment},
    )
    said, complaint = await asyncio.wait_for(asked.communicate(), 60)
    assert asked.returncode == 0, complaint.decode()
    return said.decode()


class TestAnEncryptedRun:
    async def test_is_read_at_the_command_line_and_in_the_web_ui_by_an_operator_alone(
        self, shown: Shown, database: Database, tmp_path: Path
    ) -> None:
        await read_at_the_command_line(shown, await make_key(database, [Scope.ADMIN]))
        async with (
            start_chromium(find_chromium(configured_chromium(), say=print)) as chromium,
            windows_of(chromium, shown.pages) as open_window,
        ):
            window = await open_window(DESKTOP)
            await window.page.context.add_init_script(_CODEC_SET % json.dumps(shown.codec))
            window.expect_trouble("401")
            async with window.page.expect_response(refused):
                await window.page.goto(shown.page)
            await expect(window.page.get_by_text("Completed").first).to_be_visible()
            assert NAME not in await window.page.inner_text("body")

            operator = await signed_in(database)
            await window.sign_in(operator)
            await window.page.reload()
            await expect(window.page.get_by_text(f"Top up {NAME}'s wallet").first).to_be_visible()
            await expect(window.page.get_by_text('"threshold": "50.00 USDT"').first).to_be_visible()
            await window.page.screenshot(path=tmp_path / "read.png")


async def read_at_the_command_line(shown: Shown, key: str) -> None:
    """Without the endpoint there is nothing to read; with it there is."""
    show = ("workflow", "show", "--workflow-id", shown.run, "--output", "json")
    kept = await temporal(shown, *show)
    read = await temporal(
        shown, *show, TEMPORAL_CODEC_ENDPOINT=shown.codec, TEMPORAL_CODEC_AUTH=f"Bearer {key}"
    )

    assert NAME not in text_of(WorkflowHistory.from_json(shown.run, kept))
    assert f'"owner_name":"{NAME}"' in text_of(WorkflowHistory.from_json(shown.run, read))


def refused(answer: Response) -> bool:
    """Whether the endpoint told the Web UI that nobody is signed in."""
    return answer.url.endswith("/codec/decode") and answer.status == HTTPStatus.UNAUTHORIZED


async def signed_in(database: Database) -> str:
    """The cookie of an operator who has signed in."""
    async with httpx2.AsyncClient() as client:
        return (await sign_in(Browser(client, "http://localhost"), database, owner_id=None)).token or ""
