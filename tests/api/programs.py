"""The API as a program of its own: started, listened for, stopped and killed."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Program:
    """One API program that listens, and what it has written so far."""

    running: asyncio.subprocess.Process
    url: str
    written: list[str]

    def stop(self) -> None:
        """Let it do nothing until it is killed or goes on."""
        self.running.send_signal(signal.SIGSTOP)

    async def finish(self) -> None:
        """End it in good order, every line written; they are read when `serving` ends."""
        self.running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.running.wait()

    async def kill(self) -> None:
        """End it by SIGKILL; it is gone when this returns."""
        self.running.kill()
        await self.running.wait()


def environment(database_url: str, **more: str) -> dict[str, str]:
    """What a program is started with; Temporal is out of its reach."""
    return {**os.environ, "TIDEMARK_DATABASE_URL": database_url, "TEMPORAL_ADDRESS": "127.0.0.1:1", **more}


async def start(*arguments: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    """Start the program with these arguments."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api",
        *arguments,
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    """Run the program to its end: exit code, standard output, standard error."""
    program = await start(*arguments, env=env)
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await program.communicate()
    assert program.returncode is not None
    return program.returncode, out.decode(), err.decode()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def serving(database_url: str, **more: str) -> AsyncIterator[Program]:
    """An API program that listens on a port of its own, and is gone afterwards."""
    port = free_port()
    running = await start(env=environment(database_url, TIDEMARK_API_PORT=str(port), **more))
    program = Program(running, f"http://127.0.0.1:{port}", [])
    listens = asyncio.Event()
    reading = asyncio.create_task(_read(program, listens))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await listens.wait()
        assert running.returncode is None, "".join(program.written)
        yield program
    finally:
        if running.returncode is None:
            running.kill()
        await reading
        await running.communicate()


async def _read(program: Program, listens: asyncio.Event) -> None:
    assert program.running.stderr is not None
    while line := await program.running.stderr.readline():
        program.written.append(line.decode())
        if b"api.listening" in line:
            listens.set()
    listens.set()
