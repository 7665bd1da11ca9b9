"""A lane: the whole product with servers of its own, every program on wires that can be cut."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from httpx2 import AsyncClient, Limits
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from adapters.postgres.keys import create_key
from runtime.embedded_postgres import stop_postgres
from runtime.parts import DATABASE_NAME, PostgresPart, run_program
from runtime.ports import choose_ports
from runtime.temporal_server import (
    NAMESPACE,
    TemporalServerPlan,
    end_with_parent,
    environment_without_temporal,
    start_temporal_server,
)
from tests.chaos.cases import Struck
from tests.chaos.tower import Tower
from tests.chaos.wires import Wire, tcp, unix
from tests.chaos.zygote import Child, Zygote

if TYPE_CHECKING:
    import subprocess


_PROGRAMS = ("worker", "watcher", "api")
_SERVERS = ("postgres", "temporal")
_SOCKET = ".s.PGSQL.5432"
_WALLET_OF = text("SELECT wallet_id FROM top_up WHERE id = :top_up_id")
_CALLS_MAX = 100
_UPGRADE_SECONDS = 180.0

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Template:
    """A database folder to copy from, with the product's tables and one API key in it."""

    folder: Path
    key: str


def make_template(home: Path) -> Template:
    """Make it once for all lanes. It spares the disk: a program's death costs nothing that it has written."""
    folder = home / "template"
    part = PostgresPart(folder, log=home / "template.log", say=print)
    part.start()
    try:
        urls = {
            "TIDEMARK_DATABASE_URL": part.database_url(),
            "TIDEMARK_MIGRATION_DATABASE_URL": part.owner_url(),
        }
        run_program(["adapters.postgres", "upgrade"], {**os.environ, **urls}, seconds=_UPGRADE_SECONDS)
        key = asyncio.run(_make_key(part.owner_url()))
    finally:
        stop_postgres(folder)
    with (folder / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
        settings.write("fsync = off\nfull_page_writes = off\n")
    return Template(folder, key)


async def _make_key(url: str) -> str:
    database = Database.open(url, pool_size=1)
    try:
        async with database.commit() as session:
            _, key = await create_key(session, name="chaos", scopes=("admin", "wallets:read"))
    finally:
        await database.close()
    return key


class Lane:
    """Use `start` and `stop`; between them anything may be done to its programs."""

    def __init__(
        self,
        number: int,
        home: Path,
        *,
        template: Template,
        temporal: Path,
        zygote: Zygote,
        draw_seconds: int,
    ) -> None:
        self.number = number
        self.draw_seconds = draw_seconds
        self.home = home / f"lane-{number}"
        self._template = template
        self._zygote = zygote
        # Linux ends a program with the very thread that started it, so one lasting thread starts them all.
        self._starter = ThreadPoolExecutor(1, f"lane-{number}")
        self._postgres = PostgresPart(
            self.home / "pg",
            log=self.home / "postgres.log",
            say=print,
            before_start=end_with_parent(signal.SIGQUIT),
        )
        ports = choose_ports(dict.fromkeys(("temporal", "ui", "api", "inbox", "smtp"), 0))
        self._ports = ports
        self._temporal = TemporalServerPlan(
            program=temporal, database=self.home / "temporal.db", port=ports["temporal"], ui_port=ports["ui"]
        )
        self._temporals: list[subprocess.Popen[bytes]] = []
        self.wires: dict[tuple[str, str], Wire] = {}
        self.children: dict[str, Child] = {}

    async def start(self) -> None:
        """Start everything; that it works shows when the first top-up comes to its point."""
        self.home.mkdir(parents=True)
        await self._in_thread(self._copy_template)
        await self.start_server(Struck.TEMPORAL)
        await self.start_server(Struck.POSTGRES)
        self.database = Database.open(self._postgres.owner_url(), pool_size=10)
        self.client = AsyncClient(
            base_url=f"http://127.0.0.1:{self._ports['api']}",
            headers={"Authorization": f"Bearer {self._template.key}"},
            limits=Limits(max_connections=_CALLS_MAX, max_keepalive_connections=0),
            timeout=60,
            trust_env=False,
        )
        await self._lay_wires()
        self.tower = Tower(
            self._wallet_of,
            {
                "notify-email": self.wires["worker", "smtp"],
                "notify-push": self.wires["worker", "inbox"],
                "start-workflow": self.wires["watcher", "temporal"],
            },
        )
        await self.tower.listen(self.home / "points")
        for program in ("inbox", *_PROGRAMS):
            await self.start_program(program)

    async def stop(self) -> None:
        """Stop everything at once, whatever state it is in."""
        for child in self.children.values():
            child.send(signal.SIGCONT)
            child.send(signal.SIGKILL)
        if hasattr(self, "tower"):
            await self.tower.close()
            await self.client.aclose()
            await self.database.close()
        for wire in self.wires.values():
            await wire.close()
        for temporal in self._temporals:
            temporal.wait()
        await self._in_thread(lambda: self._postgres.stop(at_once=lambda: True))
        self._starter.shutdown()

    async def start_program(self, program: str) -> None:
        """Start worker, watcher, api or inbox from the fork server."""
        self.children[program] = await self._zygote.start(
            program, self._environment(program), log=self.home / f"{program}.log"
        )

    async def start_server(self, server: Struck) -> None:
        """Start PostgreSQL or Temporal; PostgreSQL answers then, Temporal soon."""
        if server is Struck.POSTGRES:
            await self._in_thread(self._postgres.start)
            identity = self._postgres.identity()
            assert identity is not None
            self.children[server] = Child(identity.pid)
        else:
            self.children[server] = Child(await self._in_thread(self._start_temporal))

    def cut(self, struck: Struck) -> int:
        """Reset all connections of a program, or all that lead to a server; how many there were."""
        return sum(wire.cut() for ends, wire in self.wires.items() if struck in ends)

    def postgres_pids(self) -> list[int]:
        """The server itself, and every program that it has forked."""
        server = self.children["postgres"].pid
        return [server, *_children_of(server)]

    async def _wallet_of(self, top_up_id: str) -> str | None:
        async with self.database.read() as session:
            found: str | None = (await run_sql(session, _WALLET_OF, top_up_id=top_up_id)).scalar_one_or_none()
        return found

    def _copy_template(self) -> None:
        shutil.copytree(self._template.folder, self.home / "pg", symlinks=True, copy_function=_copy_owned)
        for folder in [self.home / "pg", *(self.home / "pg").rglob("*/")]:
            _own_like(self._template.folder, folder)

    def _start_temporal(self) -> int:
        with (self.home / "temporal.log").open("ab") as log:
            self._temporals.append(start_temporal_server(self._temporal, log=log))
        return self._temporals[-1].pid

    async def _lay_wires(self) -> None:
        dials = {
            "postgres": unix(f"{self.home / 'pg'}/{_SOCKET}"),
            "temporal": tcp(self._ports["temporal"]),
            "smtp": tcp(self._ports["smtp"]),
            "inbox": tcp(self._ports["inbox"]),
        }
        ends = [(program, server) for program in _PROGRAMS for server in _SERVERS]
        for program, server in [*ends, ("worker", "smtp"), ("worker", "inbox")]:
            self.wires[program, server] = await Wire.open(dials[server])

    def _environment(self, program: str) -> Mapping[str, str]:
        return {
            **{
                name: value
                for name, value in environment_without_temporal(os.environ).items()
                if "TIDEMARK_" not in name
            },
            **(self._inbox_environment() if program == "inbox" else self._program_environment(program)),
            "PYTHONUNBUFFERED": "1",
        }

    def _inbox_environment(self) -> Mapping[str, str]:
        return {
            "TIDEMARK_HOME": str(self.home),
            "TIDEMARK_INBOX_PORT": str(self._ports["inbox"]),
            "TIDEMARK_SMTP_PORT": str(self._ports["smtp"]),
        }

    def _program_environment(self, program: str) -> Mapping[str, str]:
        smtp, inbox = self.wires["worker", "smtp"].port, self.wires["worker", "inbox"].port
        return {
            "TEMPORAL_ADDRESS": f"127.0.0.1:{self.wires[program, 'temporal'].port}",
            "TEMPORAL_NAMESPACE": NAMESPACE,
            "TIDEMARK_ENVIRONMENT": "development",
            "TIDEMARK_STOP_POINTS": str(self.home / "points"),
            "TIDEMARK_DATABASE_URL": self._url_on_wire(self.wires[program, "postgres"].port),
            "TIDEMARK_DATABASE_POOL_SIZE": "30",
            "TIDEMARK_API_PORT": str(self._ports["api"]),
            "TIDEMARK_PUBLIC_URL": f"http://localhost:{self._ports['api']}",
            "TIDEMARK_RATE_LIMIT": "100000/minute",
            "TIDEMARK_RATE_LIMIT_UNAUTHENTICATED": "100000/minute",
            "TIDEMARK_SMTP_HOST": "127.0.0.1",
            "TIDEMARK_SMTP_PORT": str(smtp),
            "TIDEMARK_SMTP_SECURITY": "none",
            "TIDEMARK_PUSH_INBOX_URL": f"http://127.0.0.1:{inbox}",
            "TIDEMARK_DRAW_TIMEOUT": f"{self.draw_seconds}s",
            "TIDEMARK_CHECK_TIMEOUT": f"{self.draw_seconds}s",
            "TIDEMARK_NOTIFY_PATIENCE": f"{self.draw_seconds}s",
            "TIDEMARK_SWEEP_INTERVAL": "15s",
            "TIDEMARK_SWEEP_GRACE": "30s",
            "TIDEMARK_POLL_INTERVAL": "2s",
        }

    def _url_on_wire(self, port: int) -> str:
        user = self._postgres.database_url().partition("//")[2].partition("@")[0]
        plain = "sslmode=disable&gssencmode=disable"
        return f"postgresql://{quote(user, safe=':')}@127.0.0.1:{port}/{DATABASE_NAME}?{plain}"

    async def _in_thread(self, deed: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._starter, deed)


def _children_of(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for children in lists for child in children.split()]


def _copy_owned(source: str, target: str) -> str:
    shutil.copy2(source, target)
    _own_like(Path(source), Path(target))
    return target


def _own_like(source: Path, target: Path) -> None:
    if os.geteuid() == 0:
        found = source.stat()
        os.chown(target, found.st_uid, found.st_gid)
